"""Train or score SKA-VCT.

Examples:
    python tools/train_net.py --config configs/synth/quickstart.yaml
    python tools/train_net.py --config configs/ms3/swin_b_384.yaml --num-gpus 2 MODEL.AUDIO.WEIGHTS vggish.pth
    python tools/train_net.py --config configs/ms3/swin_b_384.yaml --resume
    python tools/train_net.py --config configs/ms3/swin_b_384.yaml --eval-only MODEL.WEIGHTS model_best.pth
    python tools/train_net.py --config configs/ms3/swin_b_384.yaml --eval-only --metric-convention tpavi \
        MODEL.WEIGHTS model_best.pth TEST.SAVE_PREDICTIONS True
    torchrun --nproc-per-node 2 tools/train_net.py --config configs/ms3/swin_b_384.yaml

Everything goes to OUTPUT_DIR (default: output/<folder>/<name> of the config): model_best.pth, the last
checkpoints, config.yaml, metrics.json, TensorBoard events, and inference/<data set>/ with scores of every
convention (results.json, results.md, per_clip.csv) and, if saved, predictions.
"""

import sys

try:
    from ska_vct.engine.launch import launch
    from ska_vct.engine.setup import default_argument_parser
    from ska_vct.engine.trainer import train_or_evaluate
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run 'bash scripts/quickstart.sh --setup-only' "
        "once and use .venv/bin/python, or add --no-venv to set up the Python environment you are in."
    )


def main() -> None:
    parser = default_argument_parser()
    parser.description, parser.epilog = __doc__, None
    launch(train_or_evaluate, parser.parse_args())


if __name__ == "__main__":
    main()
