"""Compare SKA-VCT with the published VCT code on one machine, with equal weights and inputs.

Examples:
    git clone https://github.com/spyflying/VCT_AVS
    python scripts/compare_vct.py --vct VCT_AVS --json output/vct.json --markdown output/vct.md
    python scripts/compare_vct.py --vct VCT_AVS --parts train_s4 criterion --no-pre-mask --repeat 1 \\
        --json output/vct.json --markdown output/vct.md
    python scripts/compare_vct.py --vct VCT_AVS --backbone tiny --repeat 1 --json try.json --markdown try.md

Each measurement runs in a separate process, alternating between VCT and ours. The JSON file keeps the results, so
an interrupted run continues where it stopped. docs/performance.md explains what is measured.
"""

import argparse
import sys
from pathlib import Path

# This checkout takes precedence over an installed package.
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

try:
    import torch
    from vct_comparison.driver import Comparison, ComparisonError, Settings, check_clone, commit_of
    from vct_comparison.inputs import BACKBONES
    from vct_comparison.report import PARTS, SIDES

    from ska_vct.engine.setup import load_cfg
    from ska_vct.utils.cli import one_sentence_errors
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run 'bash scripts/quickstart.sh --setup-only' "
        "once and use .venv/bin/python, or add --no-venv to set up the Python environment you are in."
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vct", required=True, metavar="DIR", help="clone of spyflying/VCT_AVS")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument(
        "--pre-mask",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="only with, or only without, the pre-mask encoder; default: both",
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="processes per program; default: 3")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: PyTorch's")
    parser.add_argument("--clips", type=int, default=1, metavar="N", help="clips per batch; default: 1")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if available")
    parser.add_argument("--amp", action="store_true", help="float16 autocast in both programs (cuda)")
    parser.add_argument(
        "--full",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also measure SKA-VCT with all its modules",
    )
    parser.add_argument(
        "--backbone", choices=BACKBONES, default="swin_b", help="tiny: only checks that all parts work"
    )
    parser.add_argument("--redo", action="store_true", help="repeat measurements that the JSON file already holds")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help='overrides for our config: "KEY VALUE" pairs')
    parser.add_argument("--json", required=True, type=Path, metavar="OUT", help="all figures")
    parser.add_argument("--markdown", required=True, type=Path, metavar="OUT", help="the tables")
    return parser.parse_args(argv)


def compare(args: argparse.Namespace) -> str:
    """Run the missing measurements, write both files, and return the tables."""
    vct = check_clone(args.vct)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ComparisonError("--device cuda: PyTorch finds no GPU here.")
    if args.amp and device == "cpu":
        raise ComparisonError("--amp needs a GPU: the published code supports mixed precision on CUDA only.")
    for name in ("repeat", "clips", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ComparisonError(f"--{name} must be at least 1, got {value}.")
    root = Path(__file__).resolve().parents[1]
    load_cfg(root / "configs" / "ms3" / "swin_b_384.yaml", args.opts)  # finds wrong keys before anything runs
    settings = Settings(
        device=device,
        threads=args.threads or torch.get_num_threads(),
        clips=args.clips,
        backbone=args.backbone,
        amp=args.amp,
        overrides=args.opts,
        vct_commit=commit_of(vct),
        our_commit=commit_of(root),
    )
    sides = SIDES if args.full else SIDES[:2]
    comparison = Comparison(vct=vct, settings=settings, path=args.json, sides=sides)
    comparison.load(forget=args.parts if args.redo else ())
    pre_masks = (False, True) if args.pre_mask is None else (args.pre_mask,)
    comparison.run(args.parts, pre_masks=pre_masks, rounds=args.repeat)
    return comparison.write_markdown(args.markdown)


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        print(compare(args))


if __name__ == "__main__":
    main()
