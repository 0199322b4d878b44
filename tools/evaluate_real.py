"""Score a model on frames of real videos with hand-drawn outlines, with own, muted, swapped and late sound.

Example:
    python tools/evaluate_real.py --weights ska_vct://demo --outlines tests/data/real_frames.json --videos clips \\
        --out output/real

Thresholds are chosen on one half of the clips and figures reported on the other.
"""

import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.utils.cli import one_sentence_errors


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint file or address")
    parser.add_argument(
        "--config-file", "--config", default=None, metavar="FILE", help="its config, if not inside it"
    )
    parser.add_argument("--outlines", required=True, metavar="FILE", help="JSON file of outlines")
    parser.add_argument("--videos", required=True, metavar="DIR", help="folder of the videos, NAME.mp4")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for table, figures and contact sheet")
    parser.add_argument(
        "--device", default=None, metavar="NAME", help="cpu, cuda, ...; default: a GPU if there is one"
    )
    args = parser.parse_args()
    with one_sentence_errors():
        from ska_vct.engine.predictor import Predictor
        from ska_vct.experiments.real_frames import evaluate_real_frames, to_markdown

        predictor = Predictor.from_pretrained(args.weights, args.config_file, args.device)
        print(to_markdown(evaluate_real_frames(predictor, args.outlines, args.videos, args.out)))


if __name__ == "__main__":
    main()
