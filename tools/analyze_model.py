"""Count the parameters, FLOPs and memory of each part of a model, from shapes alone.

Examples:
    python tools/analyze_model.py --config-file configs/s4/swin_b_384.yaml MODEL.PRE_MASK.ENABLED True
    python tools/analyze_model.py --config-file configs/ms3/r50.yaml configs/ms3/pvtv2_b5.yaml --size 512 512 \\
        --json costs.json
    python tools/analyze_model.py --config-file configs/ms3/swin_b_384.yaml --memory --batch 8 \\
        --vary MODEL.BACKBONE.CHECKPOINT False True
    python tools/analyze_model.py --config-file configs/ms3/r50.yaml configs/s4/r50.yaml --memory --batch 1 2 4 8
    python tools/analyze_model.py --config-file configs/s4/r50.yaml --fit-memory --fit-frames 1 2 3 --held-out 6
    python tools/analyze_model.py --update-golden

A multiply-add counts as two FLOPs; operations without a counting rule are listed. --memory: parameters, gradients,
optimizer state, buffers and tensors saved by autograd, in fp32 and under bf16 autocast. --fit-memory measures
training steps of one clip on the CPU, each in its own process, fits a line over the number of frames, tests it on
held-out numbers of frames, and extrapolates to --batch clips. --update-golden writes the counts of the paper's
configs to configs/complexity.json.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import add_overrides, command_parser
from ska_vct.utils.cli import one_sentence_errors, split_overrides


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add("--config-file", "--config", nargs="+", default=[], metavar="FILE", help="one or more configs")
    add("--vary", nargs="+", metavar=("KEY", "VALUE"), help="one analysis per VALUE of the config's KEY")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="image size; default: INPUT.SIZE")
    add("--frames", type=int, default=0, metavar="N", help="frames per clip; default: 1, for memory the subset's")
    add("--json", default="", metavar="FILE", help="write the results to this file")
    add("--memory", action="store_true", help="memory of a training step, by part of the model")
    add("--batch", type=int, nargs="+", default=[8], metavar="N",
        help="clips per step, for memory (default: 8); several give one table of totals")
    add("--plain-attention", action="store_true",
        help="memory with PyTorch's CPU attention instead of fused kernels")
    add("--fit-memory", action="store_true", help="measure training steps, fit a line and extrapolate")
    add("--fit-frames", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="frames to fit; default: 1 2 3")
    add("--held-out", type=int, nargs="+", default=[5], metavar="N", help="frames to test the fit; default: 5")
    add("--threads", type=int, default=0, metavar="N", help="CPU threads of the measured steps")
    add("--update-golden", action="store_true", help="count the paper's configs for configs/complexity.json")
    # fmt: on
    add_overrides(parser)
    return parser


def main() -> None:
    options, pairs = split_overrides(sys.argv[1:], keys_of=["--vary"])
    args = build_parser().parse_args(options)
    args.opts += pairs
    with one_sentence_errors():
        from ska_vct.profiling.costs import analyze, write_golden

        if args.update_golden:
            print(f"Wrote {write_golden()}.")
            return
        print(
            analyze(
                args.config_file,
                args.opts,
                vary=(args.vary[0], args.vary[1:]) if args.vary else None,
                size=args.size,
                frames=args.frames,
                memory=args.memory,
                batch=args.batch,
                fused=not args.plain_attention,
                fit_memory=args.fit_memory,
                fit_frames=args.fit_frames,
                held_out=args.held_out,
                threads=args.threads,
                json=args.json,
            )
        )


if __name__ == "__main__":
    main()
