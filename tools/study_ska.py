"""Train only the motion map of SKA variants, on ground truth and without images, and measure its selectivity.

Examples:
    python tools/study_ska.py --list configs/studies/ska.yaml --out output/study_ska
    python tools/study_ska.py --list configs/studies/ska.yaml --out output/wide --rows temporal wide --seeds 1 2 \\
        --variant wide MODEL.SKA.SERIES_DIM 16

Needs synthetic clips, in which every object is known: the list's benchmark is a folder with a training release in
train/ and one release per split beside it. Each row and seed is a file OUT/<row>/seed<k>/study.json; existing ones
are skipped, so the same command continues after an interruption. Writes OUT/table.md and OUT/table.json.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.experiments.map_study.settings import StudySettings
from ska_vct.utils.cli import one_sentence_errors


def parse_args() -> argparse.Namespace:
    defaults = StudySettings()
    parser = command_parser(__doc__)
    parser.add_argument("--list", required=True, metavar="YAML", help="rows, seeds and benchmark")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of results and tables")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="K", help="instead of the list's")
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        metavar=("NAME", "KEY VALUE"),
        help="an additional row: the baseline's config with these keys",
    )
    parser.add_argument("--steps", type=int, default=defaults.steps, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=defaults.batch, help="frames per step; default: %(default)s")
    parser.add_argument("--lr", type=float, default=defaults.lr, help="default: %(default)s")
    parser.add_argument(
        "--train-clips",
        type=int,
        default=defaults.train_clips,
        metavar="N",
        help="use the first N; default: all",
    )
    parser.add_argument("--table-only", action="store_true", help="no runs; only write tables of existing ones")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="hide progress bars")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = StudySettings(steps=args.steps, batch=args.batch, lr=args.lr, train_clips=args.train_clips)
    with one_sentence_errors():
        from ska_vct.experiments.map_study.study import run_study

        run_study(
            args.list,
            args.out,
            rows=args.rows,
            seeds=args.seeds,
            variants=args.variant or (),
            settings=settings,
            table_only=args.table_only,
            progress=args.progress,
        )


if __name__ == "__main__":
    main()
