"""Measure whether a model uses audio and verifies motion: negative audio, silent twins, silent movers.

Examples:
    python tools/evaluate_robustness.py --config configs/synth/quickstart.yaml \\
        --weights output/quickstart/train/model_best.pth --benchmark datasets/synth_benchmark --out output/robust
    python tools/evaluate_robustness.py --config configs/s4/swin_b_384.yaml --weights model_best.pth \\
        --data s4=datasets --out output/robustness_s4
    python tools/evaluate_robustness.py --config configs/synth/quickstart.yaml --weights model_best.pth \\
        --data plain=datasets/plain twin=datasets/twin --conditions true still other_flow --out output/motion

Writes robustness.json, robustness.md (the tables printed at the end) and per_clip.csv. Each dataset is scored
on the split that DATASETS.TEST of the config names. docs/scores.md explains the scores; scores per object need
synthetic clips (datasets/make_synth.py).
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import add_overrides, command_parser, whole_number
from ska_vct.data.audio.names import NOISE_LEVEL
from ska_vct.experiments.robustness.names import CONDITIONS, DEFAULT_CONDITIONS
from ska_vct.synth.splits import TEST_SPLITS
from ska_vct.utils.cli import one_sentence_errors


def parse_split(text: str) -> tuple[str, str]:
    """``NAME=ROOT`` as a pair."""
    name, sign, root = text.partition("=")
    if not (name and sign and root):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=ROOT, e.g. plain=datasets/plain")
    return name, root


def parse_args() -> argparse.Namespace:
    kinds = "\n".join(f"  {name:11} {text}" for name, text in CONDITIONS.items())
    parser = command_parser(__doc__, epilog=f"conditions:\n{kinds}")
    parser.add_argument("--config-file", "--config", required=True, metavar="FILE", help="the model's config")
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint")
    parser.add_argument("--data", nargs="+", default=[], type=parse_split, metavar="NAME=ROOT",
                        help="datasets by name and root; default: the config's own")  # fmt: skip
    parser.add_argument("--benchmark", metavar="ROOT",
                        help=f"folder of {', '.join(TEST_SPLITS)}: existing ones are scored")  # fmt: skip
    parser.add_argument("--conditions", nargs="+", default=list(DEFAULT_CONDITIONS), choices=list(CONDITIONS),
                        metavar="NAME", help="default: %(default)s")  # fmt: skip
    parser.add_argument("--negatives-on", nargs="+", metavar="NAME",
                        help="modify clips of these datasets only; default: all")  # fmt: skip
    parser.add_argument("--noise-level", type=float, default=NOISE_LEVEL, metavar="RMS",
                        help="RMS of the white noise, relative to full scale (default: %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of noise and of donor clips (default: %(default)s)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument(
        "--num-gpus", type=whole_number(0), default=None, help="0: CPU; default: a GPU if there is one"
    )
    add_overrides(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        from ska_vct.experiments.robustness.report import to_markdown
        from ska_vct.experiments.robustness.run import run_robustness

        result = run_robustness(
            args.config_file,
            args.opts,
            weights=args.weights,
            out=args.out,
            data=args.data,
            benchmark=args.benchmark,
            conditions=args.conditions,
            negatives_on=args.negatives_on,
            seed=args.seed,
            noise_level=args.noise_level,
            num_gpus=args.num_gpus,
        )
        print(to_markdown(result))


if __name__ == "__main__":
    main()
