"""One page that shows the results of all videos of a run; it needs no server and nothing from the network."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ska_vct.utils.files import atomic_write

from .report import VideoReport

INDEX = "index.html"
_LINKS = {"table": "scores per second (csv)", "json": "masks as run lengths (COCO)", "masks": "masks (png)"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1040px; margin: 2rem auto; padding: 0 1rem }
body { color: #202024; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; overflow-wrap: anywhere }
video, img { width: 100%; height: auto; background: #eee; border-radius: 4px }
video { max-height: 80vh } p { margin: .35rem 0 } .faint { color: #5a5a62 } .error { color: #a40000 }
summary { cursor: pointer }
"""


def write_page(path: Path, reports: Sequence[VideoReport]) -> None:
    """Write the page beside the videos' folders.

    Args:
        path: of the page.
        reports: what became of the videos.
    """
    failed = sum(bool(report.error) for report in reports)
    count = len(reports) - failed
    title = f"{count} video{'s' if count != 1 else ''} segmented" + (f", {failed} failed" if failed else "")
    body = "\n".join(_section(report) for report in reports)
    text = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
    with atomic_write(path, "w") as file:
        file.write(text)


def _section(report: VideoReport) -> str:
    lines = [f"<h2>{escape(report.name)}</h2>"]
    if report.error:
        return "\n".join([*lines, f'<p class="error">{escape(report.error)}</p>'])
    height, width = report.size
    lines.append(
        f'<p class="faint">{report.frames} frames for {report.seconds:g} s, {width} x {height} pixels. '
        f"{escape(_describe(report.classes))}</p>"
    )
    lines += [f'<p class="error">{escape(remark)}</p>' for remark in report.remarks]
    if "overlay" in report.files:
        lines.append(f'<video controls preload="metadata" src="{_address(report, "overlay")}"></video>')
    if "sheet" in report.files:
        sheet = (
            f'<a href="{_address(report, "sheet")}"><img loading="lazy" src="{_address(report, "sheet")}" '
            f'alt="Contact sheet of {escape(report.name)}"></a>'
        )
        opened = "" if "overlay" in report.files else " open"
        lines.append(f"<details{opened}><summary>Frame by frame</summary>{sheet}</details>")
    links = [
        f'<a href="{_address(report, kind)}">{text}</a>' for kind, text in _LINKS.items() if kind in report.files
    ]
    return "\n".join([*lines, f"<p>{' · '.join(links)}</p>"])


def _describe(classes: dict[str, float]) -> str:
    if not classes:
        return "Nothing was segmented."
    shown = ", ".join(f"{name} in {100 * share:.0f} % of them" for name, share in list(classes.items())[:6])
    return f"Segmented: {shown}."


def _address(report: VideoReport, kind: str) -> str:
    """Relative address of a file, whatever its name holds."""
    return quote(f"{report.name}/{report.files[kind]}".removesuffix("/."))
