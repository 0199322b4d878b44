"""Train a list of configs with several seeds, score them on the benchmark, write tables and a figure.

Examples:
    python tools/run_ablation.py --list configs/ablations/synth/main.yaml --out output/ablation --jobs 2
    python tools/run_ablation.py --list configs/ablations/synth/main.yaml --out output/ablation --rows ppqg full \\
        --seeds 1 2 -- SOLVER.MAX_ITER 200
    python tools/run_ablation.py --list configs/ablations/synth/gpu.yaml --out output/ablation_gpu --jobs 2 \\
        --device-ids 0 1
    python tools/run_ablation.py --list configs/ablations/synth/main.yaml --out output/ablation --table-only \\
        --export docs/evidence

Each row and seed is a run in OUT/<row>/seed<k>: log.txt, train/, training.json, robustness.json. Finished runs are
skipped and interrupted ones continue, so the same command can be repeated at any time. All rows of the first seed
run first. Several machines that share OUT may run parts (--part 1/2) or the same command: a per-folder lock
prevents duplicate runs. The weights of the last iteration are scored.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.utils.cli import one_sentence_errors


def part_of(text: str) -> tuple[int, int]:
    """``2/3`` -> (2, 3)."""
    index, _, parts = text.partition("/")
    if not (index.isdigit() and parts.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid part; write e.g. 1/2")
    return int(index), int(parts)


def positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive integer")
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--list", required=True, metavar="YAML", help="rows, seeds and benchmark")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the runs and tables")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="K", help="instead of the list's")
    parser.add_argument(
        "--part", type=part_of, default=(1, 1), metavar="I/N", help="every N-th run, starting with the I-th"
    )
    parser.add_argument("--jobs", type=positive, default=1, help="concurrent runs; default: %(default)s")
    parser.add_argument("--threads", type=positive, default=0, help="threads per run; default: cores / --jobs")
    parser.add_argument(
        "--device-ids", nargs="+", type=int, default=[], metavar="GPU", help="assigned in turn; default: all GPUs"
    )
    parser.add_argument("--redo", action="store_true", help="move runs with another config aside and repeat them")
    parser.add_argument("--table-only", action="store_true", help="no runs; only write tables of existing ones")
    parser.add_argument("--export", metavar="DIR", help="copy tables, figure and summary to this folder")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help='changes to all configs: "-- KEY VALUE" pairs')
    args = parser.parse_args()
    args.opts = args.opts[1:] if args.opts[:1] == ["--"] else args.opts
    return args


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        from ska_vct.experiments.ablation.runner import run_ablation

        done = run_ablation(
            args.list,
            args.out,
            rows=args.rows,
            seeds=args.seeds,
            overrides=args.opts,
            part=args.part,
            jobs=args.jobs,
            threads=args.threads,
            device_ids=args.device_ids,
            redo=args.redo,
            table_only=args.table_only,
            export_to=args.export,
        )
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
