"""Draw inputs and predictions of a model: a contact sheet and a video with audio per clip, and an index page.

Examples:
    python tools/visualize.py --config configs/synth/quickstart.yaml \\
        --weights output/synth/quickstart/model_best.pth --dataset avsbench_ms3_test --num 8 --out output/pictures
    python tools/visualize.py --config configs/s4/swin_b_384.yaml --weights model_best.pth \\
        --dataset avsbench_s4_test --clips test/dog_barking/abc --out output/pictures
    python tools/visualize.py --config configs/ms3/swin_b_384.yaml --dataset avsbench_ms3_test \\
        --predictions output/ms3/swin_b_384/inference/avsbench_ms3_test/predictions --out output/pictures

Predictions are saved by tools/train_net.py --eval-only TEST.SAVE_PREDICTIONS True.
"""

import argparse
import sys

try:
    from ska_vct.engine.visualize import visualize
    from ska_vct.utils.cli import one_sentence_errors
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run 'bash scripts/quickstart.sh --setup-only' "
        "once and use .venv/bin/python, or add --no-venv to set up the Python environment you are in."
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", "--config", required=True, metavar="FILE", help="the model's config")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--weights", metavar="FILE", help="checkpoint; default: MODEL.WEIGHTS of the config")
    source.add_argument("--predictions", metavar="DIR", help="draw saved predictions instead of running the model")
    parser.add_argument("--dataset", metavar="NAME", help="dataset; default: the first of DATASETS.TEST")
    parser.add_argument("--num", type=int, default=8, help="clips, spread over the dataset (default: %(default)s)")
    parser.add_argument("--clips", nargs="+", default=[], metavar="ID", help="these clips instead")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the images")
    parser.add_argument("--no-video", action="store_true", help="contact sheets only")
    parser.add_argument("--num-gpus", type=int, default=None, help="0: CPU; default: a GPU if there is one")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help='changes to the config: "KEY VALUE" pairs')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        files = visualize(args)
        print(f"{files[0]} and {len(files) - 1} more files in {args.out}")


if __name__ == "__main__":
    main()
