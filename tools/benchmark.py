"""Measure time and memory of the model and its parts on generated clips.

Examples:
    python tools/benchmark.py train --config-file configs/s4/swin_b_384.yaml configs/ms3/swin_b_384.yaml --apart \\
        --json output/train.json
    python tools/benchmark.py train --config-file configs/s4/r50.yaml --batch 2 --vary MODEL.BRM.ENABLED True False
    python tools/benchmark.py motion --config-file configs/s4/swin_b_384_temporal.yaml
    python tools/benchmark.py infer --config-file configs/ms3/r50.yaml --compile --amp off bf16 --json infer.json
    python tools/benchmark.py criterion --config-file configs/ms3/r50.yaml --points 12544 0 --frames 5
    python tools/benchmark.py deform --config-file configs/ms3/r50.yaml --frames 5
    python tools/benchmark.py data --config-file configs/synth/quickstart.yaml --workers 0 1 2
    python tools/benchmark.py flow --config-file configs/ms3/r50.yaml --methods dis farneback raft_small
    python tools/benchmark.py predict --config-file configs/synth/quickstart.yaml --sizes 640x360 1280x720
    python tools/benchmark.py metrics --config-file configs/ms3/r50.yaml

Every row runs in its own process; rows alternate (a b a b ...), and ratios are relative to the first row. Memory
is the peak above the level before the measured code was set up: GPU memory if a GPU is used, otherwise
resident memory. Weights are random, which affects neither. 'python tools/benchmark.py train --help' lists the
options of one kind.
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
    add("--frames", type=int, default=0, metavar="N", help="frames per clip; default: the subset's")


def _precision(add: Callable) -> None:
    add("--amp", nargs="+", choices=PRECISIONS, default=["off"], help="mixed precision, one row per value")


# fmt: off
def add_train(add: Callable) -> None:
    _sizes(add)
    add("--annotated", type=int, default=0, metavar="N", help="frames with ground truth; default: the subset's")
    _precision(add)


def add_infer(add: Callable) -> None:
    _sizes(add)
    _precision(add)
    add("--compile", action="store_true", help="compare torch.compile with eager mode")
    add("--channels-last", action="store_true", help="compare channels-last weights with the default layout")


def add_criterion(add: Callable) -> None:
    add("--frames", type=int, default=0, metavar="N", help="total annotated frames; default: one clip's")
    add("--predictions", type=int, default=0, metavar="N", help="default: decoder layers + 1, as in training")
    add("--points", type=int, nargs="+", metavar="N", help="points per mask, 0: all cells; default: the config's")


def add_deform(add: Callable) -> None:
    _sizes(add)
    _precision(add)
    add("--implementations", nargs="+", metavar="NAME", help="default: all available ones (docs/performance.md)")


def add_data(add: Callable) -> None:
    add("--workers", type=int, nargs="+", default=[0, 2], metavar="N", help="loader workers; default: 0 2")
    add("--batch", type=int, default=2, metavar="N", help="clips per batch (default: %(default)s)")
    add("--batches", type=int, default=4, metavar="N", help="batches per repetition (default: %(default)s)")
    add("--clips", type=int, default=8, metavar="N", help="clips of the synthetic release (default: %(default)s)")
    add("--picture", type=int, default=0, metavar="PX", help="height of its images; default: INPUT.SIZE's")
    add("--amp", choices=PRECISIONS, default="off", help="mixed precision of the training step")
    add("--no-model", dest="model", action="store_false", help="measure the loader alone")


def add_flow(add: Callable) -> None:
    add("--methods", nargs="+", default=["dis", "farneback"], metavar="NAME",
        help="dis, farneback, raft_large, raft_small; default: dis farneback")
    add("--series", type=int, default=0, help="fields per second; default: INPUT.FLOW.SERIES")
    add("--frames", type=int, default=0, metavar="N", help="frames per clip; default: the subset's")
    add("--side", type=int, default=384, help="side of the images in pixels (default: %(default)s)")
    add("--batch", type=int, default=8, help="image pairs per RAFT call (default: %(default)s)")


def add_predict(add: Callable) -> None:
    add("--sizes", nargs="+", default=["1280x720"], metavar="WxH", help="of the videos; default: 1280x720")
    add("--fps", type=int, default=25, help="their images per second (default: %(default)s)")
    add("--seconds", type=int, default=5, help="their length (default: %(default)s)")


def add_metrics(add: Callable) -> None:
    add("--frames", type=int, default=0, metavar="N", help="frames per clip; default: the subset's")
# fmt: on


# Name of ska_vct.profiling.timing.SUBJECTS -> what it measures, and its options.
KINDS = {
    "train": ("a training step, and its peak memory", add_train),
    "motion": ("a training step, and the share of the motion module in it", add_train),
    "infer": ("inference, from clips to semantic maps; total time relative to that of the backbones", add_infer),
    "criterion": ("matching and losses", add_criterion),
    "deform": ("implementations of deformable attention", add_deform),
    "data": ("clips/s of the loader and of the training step", add_data),
    "flow": ("flow methods", add_flow),
    "predict": ("the stages from a video file to masks and an overlay, in processor time", add_predict),
    "metrics": ("the F-score by histogram and by a loop over its 255 thresholds", add_metrics),
}


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    kinds = parser.add_subparsers(dest="subject", required=True, metavar="KIND")
    for name, (text, add_own) in KINDS.items():
        kind = kinds.add_parser(name, help=text, description=f"Measure {text}.")
        add = kind.add_argument
        # fmt: off
        add("--config-file", "--config", nargs="+", required=True, metavar="FILE", help="one or more configs")
        add("--json", default="", metavar="FILE", help="write every repetition and the machine's details to FILE")
        add("--vary", nargs="+", metavar=("KEY", "VALUE"), help="one row per VALUE of the config's KEY")
        add("--repeat", type=int, default=5, metavar="N", help="repetitions (default: %(default)s)")
        add("--warmup", type=int, default=1, metavar="N",
            help="unmeasured calls after the first (default: 1)")
        add("--threads", type=int, default=0, metavar="N", help="of PyTorch and OpenCV; default: their own choice")
        add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
        add("--apart", action="store_true",
            help="one process at a time, for rows that do not fit in memory together")
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
