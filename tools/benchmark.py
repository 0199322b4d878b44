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
from collections.abc import Callable, Sequence
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import add_overrides, command_parser
from ska_vct.profiling import PRECISIONS
from ska_vct.utils.cli import one_sentence_errors, split_overrides


def _sizes(add: Callable) -> None:
    add("--batch", type=int, default=1, metavar="N", help="clips per call (default: %(default)s)")
    add("--frames", type=int, default=0, metavar="N", help="of a clip; default: the subset's")


def _precision(add: Callable) -> None:
    add("--amp", nargs="+", choices=PRECISIONS, default=["off"], help="mixed precision, one row for each named")


# fmt: off
def add_train(add: Callable) -> None:
    _sizes(add)
    add("--annotated", type=int, default=0, metavar="N", help="frames with ground truth; default: the subset's")
    _precision(add)


def add_infer(add: Callable) -> None:
    _sizes(add)
    _precision(add)
    add("--compile", action="store_true", help="torch.compile against eager")
    add("--channels-last", action="store_true", help="weights in channels last, against as built")


def add_criterion(add: Callable) -> None:
    add("--frames", type=int, default=0, metavar="N", help="annotated frames in all; default: a clip's")
    add("--predictions", type=int, default=0, metavar="N", help="default: decoder layers + 1, as in training")
    add("--points", type=int, nargs="+", metavar="N", help="per mask, 0: every cell; default: the config's")


def add_deform(add: Callable) -> None:
    _sizes(add)
    _precision(add)
    add("--implementations", nargs="+", metavar="NAME", help="default: all that run here (docs/performance.md)")


def add_data(add: Callable) -> None:
    add("--workers", type=int, nargs="+", default=[0, 2], metavar="N", help="default: 0 2")
    add("--batch", type=int, default=2, metavar="N", help="clips (default: %(default)s)")
    add("--batches", type=int, default=4, metavar="N", help="per repetition (default: %(default)s)")
    add("--clips", type=int, default=8, metavar="N", help="of the synthetic release (default: %(default)s)")
    add("--picture", type=int, default=0, metavar="PX", help="height of its images; default: INPUT.SIZE's")
    add("--amp", choices=PRECISIONS, default="off", help="of the training step")
    add("--no-model", dest="model", action="store_false", help="the loader alone")


def add_flow(add: Callable) -> None:
    add("--methods", nargs="+", default=["dis", "farneback"], metavar="NAME",
        help="dis, farneback, raft_large, raft_small; default: dis farneback")
    add("--series", type=int, default=0, help="fields per second; default: INPUT.FLOW.SERIES")
    add("--frames", type=int, default=0, metavar="N", help="of a clip; default: the subset's")
    add("--side", type=int, default=384, help="of the images (default: %(default)s)")
    add("--batch", type=int, default=8, help="pairs that RAFT takes at once (default: %(default)s)")


def add_metrics(add: Callable) -> None:
    add("--frames", type=int, default=0, metavar="N", help="of a clip; default: the subset's")
# fmt: on


# Name of ska_vct.profiling.timing.SUBJECTS -> what it measures, and its options.
KINDS = {
    "train": ("a training step, and its peak memory", add_train),
    "infer": ("clips to semantic maps; total time over that of the backbones", add_infer),
    "criterion": ("matching and losses", add_criterion),
    "deform": ("deformable attention, one implementation against another", add_deform),
    "data": ("clips/s of the loader against clips/s of the training step", add_data),
    "flow": ("flow methods", add_flow),
    "metrics": ("the F-score by histogram against a loop over its 255 thresholds", add_metrics),
}


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    kinds = parser.add_subparsers(dest="subject", required=True, metavar="KIND")
    for name, (text, add_own) in KINDS.items():
        kind = kinds.add_parser(name, help=text, description=f"Measure {text}.")
        add = kind.add_argument
        # fmt: off
        add("--config-file", "--config", nargs="+", required=True, metavar="FILE", help="one or several configs")
        add("--json", default="", metavar="FILE", help="write every repetition and the machine's facts there")
        add("--vary", nargs="+", metavar=("KEY", "VALUE"), help="one row for each VALUE of the config's KEY")
        add("--repeat", type=int, default=5, metavar="N", help="repetitions (default: %(default)s)")
        add("--warmup", type=int, default=1, metavar="N",
            help="calls after the first that do not count (default: 1)")
        add("--threads", type=int, default=0, metavar="N", help="of PyTorch and OpenCV; default: their own choice")
        add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
        add("--apart", action="store_true",
            help="one process at a time, for rows that do not fit into memory together")
        add("--progress", action=argparse.BooleanOptionalAction, default=True, help="show a bar")
        # fmt: on
        add_own(add)
        add_overrides(kind)
    return parser


def parse_args(words: Sequence[str]) -> dict:
    """Keyword arguments of ``benchmark``."""
    options, pairs = split_overrides(words, keys_of=["--vary"])
    found = vars(build_parser().parse_args(options))
    files, opts, vary = found.pop("config_file"), found.pop("opts"), found.pop("vary")
    vary = (vary[0], vary[1:]) if vary else None
    return {"config_files": files, "overrides": [*opts, *pairs], "vary": vary, **found}


def main() -> None:
    arguments = parse_args(sys.argv[1:])
    with one_sentence_errors():
        from ska_vct.profiling.timing import benchmark

        print(benchmark(**arguments))


if __name__ == "__main__":
    main()
