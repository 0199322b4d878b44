"""Score saved predictions on AVSBench in every convention, without a model.

Examples:
    python tools/score.py --root datasets --subset ms3 \\
        --predictions output/ms3/swin_b_384/inference/avsbench_ms3_test/predictions
    python tools/score.py --root datasets --subset avss --predictions predictions_coco.json \\
        --metric-convention tpavi --out output/scores

Predictions are PNG files of 224 x 224 pixels in AVSBench's layout: {split}/{name}/{name}_{1..}.png of 0 and 255
(in S4 {split}/{category}/...), {label}/{uid}/labels_semantic/{0..}.png of class indices; or a JSON file in COCO's
format whose images have these names. tools/train_net.py --eval-only TEST.SAVE_PREDICTIONS True writes both. A
mask of 0 and 255 no longer contains probabilities: its M_J equals the model's, but its M_F uses a single threshold
and is marked accordingly. docs/scores.md explains the conventions.
"""

import argparse
import logging
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import SPLITS
from ska_vct.evaluation.names import CONVENTIONS
from ska_vct.utils.cli import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--root", required=True, metavar="DIR", help="folder with the release")
    parser.add_argument("--subset", required=True, choices=sorted(SUBSETS))
    parser.add_argument("--split", default="test", choices=SPLITS, help="default: %(default)s")
    parser.add_argument(
        "--predictions", required=True, metavar="PATH", help="folder of PNG files, or COCO JSON file"
    )
    parser.add_argument("--metric-convention", default="combo", choices=CONVENTIONS, help="default: %(default)s")
    parser.add_argument("--out", metavar="DIR", help="folder for results.json, results.md and per-clip tables")
    parser.add_argument("--as-released", action="store_true", help="ignore rebuilt and prepared masks")
    parser.add_argument(
        "--leave-out", default="", metavar="CSV", help="clips to exclude, as in DATASETS.LEAVE_OUT"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with one_sentence_errors():
        from ska_vct.engine.score import score_predictions

        score_predictions(
            root=args.root,
            subset=args.subset,
            split=args.split,
            predictions=args.predictions,
            convention=args.metric_convention,
            out=args.out,
            prefer_rebuilt=not args.as_released,
            leave_out=args.leave_out,
        )


if __name__ == "__main__":
    main()
