"""Tables of a ``report.ScoreReport`` for the log and as Markdown; each names its convention and unit."""

from collections.abc import Sequence

from tabulate import tabulate
from torch import Tensor

from .conventions import MEANINGS
from .names import CONVENTIONS
from .report import ScoreReport

# Column headings of the scores, in order. For binary masks mIoU and F repeat M_J and M_F.
HEADINGS = {
    "M_J": "M_J = mIoU (%)",
    "M_F": "M_F (%)",
    "mIoU": "mIoU (%)",
    "F": "F (%)",
    "mIoU_no_bg": "mIoU without background (%)",
    "F_no_bg": "F without background (%)",
    "boundary_F": "boundary F (%)",
    "false_positive_share": "segmented pixels (%)",
}
SAME = {"mIoU": "M_J", "F": "M_F"}
THRESHOLD_HEADING = "threshold of M_F"
# Number of best and of worst AVSS classes in the log, and of confusions on the page.
LISTED = 5
CONFUSIONS = 15


def describe(report: ScoreReport) -> str:
    """Tables for the log; the line with the chosen convention's scores comes last."""
    parts = []
    if report.classes:
        ranked = [row for row in ranked_classes(report) if row["frames"]]
        shown = ranked if len(ranked) <= 2 * LISTED else ranked[:LISTED] + ranked[-LISTED:]
        missing = len(report.classes) - len(ranked)
        parts.append(
            f"{report.dataset}: best and worst of the {len(ranked)} classes that occur"
            f"{f' ({missing} do not)' if missing else ''}, convention '{report.convention}', percent"
        )
        parts.append(_table(shown))
    parts.append(f"{report.dataset}: {report.num_clips} clips, scores by convention, percent")
    parts.append(_convention_table(report))
    parts.append(headline(report))
    return "\n".join(parts)


def headline(report: ScoreReport) -> str:
    """The chosen convention's scores in one line."""
    scores = ", ".join(
        f"{name} {value:.2f}{_threshold_note(report, name)}" for name, value in _distinct(report.scores).items()
    )
    return f"Convention '{report.convention}', percent: {scores}"


def to_markdown(report: ScoreReport) -> str:
    """The report as a Markdown page."""
    lines = [
        f"# {report.dataset}",
        "",
        f"{report.num_clips} clips, scores in percent by convention; `{report.convention}` is the chosen one.",
        "",
        _convention_table(report),
        "",
    ]
    lines += [f"- `{name}`: {MEANINGS[name]}" for name in CONVENTIONS]
    if any("boundary_F" in scores for scores in report.conventions.values()):
        lines.append(
            "- boundary F and segmented pixels (p > 0.5): means over frames, then over clips, in every convention"
        )
    if report.classes:
        title = f"{len(report.classes)} classes by IoU, convention `{report.convention}`, percent"
        lines += ["", *_collapsed(title, _table(ranked_classes(report)))]
    if report.confusion is not None:
        rows = _confusions(report.confusion, [row["class"] for row in report.classes])
        if rows:
            title = f"The {len(rows)} most frequent confusions, percent of the labelled class's pixels"
            lines += ["", *_collapsed(title, _table(rows))]
    return "\n".join(lines) + "\n"


def ranked_classes(report: ScoreReport) -> list[dict]:
    """The classes' rows from the highest IoU to the lowest; those that occur nowhere come last."""
    rows = sorted(report.classes, key=lambda row: (row["frames"] == 0, -row["IoU"], row["class"]))
    return [
        {"class": row["class"], "IoU (%)": row["IoU"], "F (%)": row["F"], "frames": row["frames"]} for row in rows
    ]


def _confusions(matrix: Tensor, names: Sequence[str]) -> list[dict]:
    """Most frequent confusions of a labelled class with a predicted class, by pixels."""
    wrong = matrix.clone().fill_diagonal_(0)
    totals = matrix.sum(1)
    counts, indices = wrong.flatten().topk(min(CONFUSIONS, wrong.numel()))
    rows = []
    for count, index in zip(counts.tolist(), indices.tolist(), strict=True):
        labelled, predicted = divmod(index, len(names))
        if count:
            share = 100 * count / int(totals[labelled])
            rows.append(
                {"labelled": names[labelled], "predicted": names[predicted], "share (%)": share, "pixels": count}
            )
    return rows


def _convention_table(report: ScoreReport) -> str:
    rows = []
    for name, scores in report.conventions.items():
        row: dict[str, str | float] = {"convention": name}
        for key, value in _distinct(scores).items():
            row[HEADINGS.get(key, f"{key} (%)")] = value
            if key == "M_F":
                row[THRESHOLD_HEADING] = report.m_f_threshold[name]
        rows.append(row)
    return _table(rows)


def _distinct(scores: dict[str, float]) -> dict[str, float]:
    """Each score once, in the headings' order."""
    names = [name for name in HEADINGS if name in scores and SAME.get(name) not in scores]
    return {name: scores[name] for name in [*names, *(name for name in scores if name not in HEADINGS)]}


def _threshold_note(report: ScoreReport, name: str) -> str:
    return f" (threshold: {report.m_f_threshold[report.convention]})" if name == "M_F" else ""


def _table(rows: Sequence[dict]) -> str:
    return tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="pipe")


def _collapsed(title: str, table: str) -> list[str]:
    """A collapsible section of a Markdown page."""
    return ["<details>", f"<summary>{title}</summary>", "", table, "", "</details>"]
