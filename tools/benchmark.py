"""Measure time and memory of the model and its parts on clips made in memory.

Examples:
    python tools/benchmark.py train --config-file configs/s4/swin_b_384.yaml configs/ms3/swin_b_384.yaml --apart \\
        --json output/train.json
    python tools/benchmark.py train --config-file configs/s4/r50.yaml --batch 2 --vary MODEL.BRM.ENABLED True False
    python tools/benchmark.py infer --config-file configs/ms3/r50.yaml --compile --amp off bf16 --json infer.json
    python tools/benchmark.py criterion --config-file configs/ms3/r50.yaml --points 12544 0 --frames 5
    python tools/benchmark.py deform --config-file configs/ms3/r50.yaml --frames 5
    python tools/benchmark.py data --config-file configs/synth/quickstart.yaml --workers 0 1 2
    python tools/benchmark.py flow --config-file configs/ms3/r50.yaml --methods dis farneback raft_small
    python tools/benchmark.py metrics --config-file configs/ms3/r50.yaml

Every row runs in a process of its own; the rows take turns (a b a b ...), and ratios are to the first. Memory is
the peak above what the process held before the work was built: of the GPU where one is used, else resident.
Weights are random, which changes neither. 'python tools/benchmark.py train --help' lists the options of one kind.
"""

import argparse
import sys

try:
    from ska_vct.profiling.timing import SUBJECTS, benchmark
    from ska_vct.utils.cli import one_sentence_errors, split_overrides
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run 'bash scripts/quickstart.sh --setup-only' "
        "once and use .venv/bin/python, or add --no-venv to set up the Python environment you are in."
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="subject", required=True, metavar="KIND")
    for name, subject in SUBJECTS.items():
        kind = kinds.add_parser(name, help=subject.help, description=f"Measure {subject.help}.")
        add = kind.add_argument
        add("--config-file", "--config", nargs="+", required=True, metavar="FILE", help="one or several configs")
        add("--json", default="", metavar="FILE", help="write every repetition and the machine's facts there")
        add("--vary", nargs="+", metavar=("KEY", "VALUE"), help="one row for each VALUE of the config's KEY")
        add("--repeat", type=int, default=5, metavar="N", help="repetitions (default: %(default)s)")
        add(
            "--warmup",
            type=int,
            default=1,
            metavar="N",
            help="calls after the first that do not count (default: 1)",
        )
        add("--threads", type=int, default=0, metavar="N", help="of PyTorch and OpenCV; default: their own choice")
        add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
        add(
            "--apart",
            action="store_true",
            help="one process at a time, for rows that do not fit into memory together",
        )
        add("--progress", action=argparse.BooleanOptionalAction, default=True, help="show a bar")
        subject.add_arguments(kind)
        add("opts", nargs=argparse.REMAINDER, help='changes to the config: "KEY VALUE" pairs')
    return parser


def main() -> None:
    options, pairs = split_overrides(sys.argv[1:], keys_of=["--vary"])
    args = build_parser().parse_args(options)
    args.opts += pairs
    with one_sentence_errors():
        print(benchmark(args))


if __name__ == "__main__":
    main()
