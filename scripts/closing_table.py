"""Print the results of a quickstart run, and what to do next.

Example: python scripts/closing_table.py output/quickstart
"""

import argparse
import json
import sys
from pathlib import Path

# Splits of the benchmark that the table shows, and conditions of their clips.
PLAIN, TWIN, MOVER = "plain", "silent-twin", "silent-mover"
CONDITIONS = {"true": "own sound", "silence": "silence", "off_screen": "another clip's sound"}
NOTE = """\
    Right: most of the sounding object and little of the silent one is segmented; wrong: the reverse.
    FPR: share of the pixels that are segmented although nothing in view sounds. M_J in convention '{convention}'.
"""
NEXT = """
    What to do next:
        {activate}look at the test clips, with errors and motion maps:
            {images}
        segment a video of yours (this model has seen nothing but drawings):
            python tools/predict.py --weights {weights} --out output/masks my_video.mp4
        train on AVSBench, or on videos of your own:
            README.md, "Train on AVSBench"; python datasets/from_videos.py --help"""
ACTIVATE = """activate the environment, in every new shell:
            source {folder}/bin/activate
        """


def table(splits: dict) -> list[tuple[str, ...]]:
    """Rows of the scores under each condition, the header first."""

    def cell(split: str, condition: str, *keys: str) -> str:
        found = splits[split]["conditions"].get(condition, {})
        values = [found.get(key) for key in keys]
        return "" if None in values else " / ".join(f"{value:.1f}" for value in values)

    rows = [("percent", *CONDITIONS.values())]
    rows.append(("plain clips, M_J", cell(PLAIN, "true", "M_J"), "", ""))
    for split, title in ((TWIN, "silent twins"), (MOVER, "silent movers")):
        cells = [cell(split, condition, "right", "wrong") for condition in CONDITIONS]
        rows.append((f"{title}, right / wrong object", *cells))
    rows.append(("plain clips, FPR", "", *(cell(PLAIN, name, "FPR") for name in list(CONDITIONS)[1:])))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of scripts/quickstart.sh")
    folder = parser.parse_args().folder
    try:
        results = json.loads((folder / "scores" / "robustness.json").read_text())
        measured = json.loads((folder / "training.json").read_text())
    except FileNotFoundError as error:
        print(f"error: {error.filename} is missing; let scripts/quickstart.sh finish first.", file=sys.stderr)
        return 1
    rows = table(results["splits"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for first, *others in rows:
        cells = [f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True)]
        print("    " + "   ".join([f"{first:<{widths[0]}}", *cells]))
    print(f"\n{NOTE.format(convention=results['convention'])}")
    weights = folder / "train" / "model_best.pth"
    print(f"    training   {measured['seconds']:.0f} s, {measured['peak_bytes'] / 2**30:.2f} GiB at most")
    print(f"    weights    {weights}")
    activate = ""
    if sys.prefix != sys.base_prefix:
        environment = Path(sys.prefix)
        near = environment.parent == Path.cwd()
        activate = ACTIVATE.format(folder=environment.name if near else environment)
    print(NEXT.format(activate=activate, images=folder / "images", weights=weights))
    return 0


if __name__ == "__main__":
    sys.exit(main())
