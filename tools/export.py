"""Export a trained model for other programs and verify that the exported outputs equal the model's.

Examples:
    python tools/export.py --config configs/s4/swin_b_384.yaml --weights model_best.pth --to safetensors \\
        --out slim.safetensors
    python tools/export.py --weights slim.safetensors --to onnx --out model.onnx
    python tools/export.py --config configs/ms3/r50.yaml --weights model_best.pth --to onnx --dynamic-size \\
        --out model.onnx
    python tools/export.py --weights slim.safetensors --to torch --out model.pt2

safetensors: the parameters inference needs, with the config inside; MODEL.WEIGHTS reads it. onnx and torch: a
graph for any number of frames, and with --dynamic-size for any image size in multiples of 32.
"""

import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import add_overrides, command_parser
from ska_vct.deploy import FORMATS
from ska_vct.utils.cli import one_sentence_errors


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint file or address")
    parser.add_argument(
        "--config-file", "--config", default="", metavar="FILE", help="its config; not needed for slim checkpoints"
    )
    parser.add_argument("--to", choices=FORMATS, required=True, help="output format")
    parser.add_argument("--out", required=True, metavar="FILE", help=".safetensors, .onnx or .pt2")
    parser.add_argument("--dynamic-size", action="store_true", help="accept any image size, not only INPUT.SIZE")
    parser.add_argument("--half", action="store_true", help="safetensors in float16, except norms")
    add_overrides(parser)
    args = parser.parse_args()
    with one_sentence_errors():
        from ska_vct.deploy.export import export

        lines = export(
            args.weights,
            args.out,
            to=args.to,
            config_file=args.config_file,
            overrides=args.opts,
            dynamic_size=args.dynamic_size,
            half=args.half,
        )
        print("\n".join(lines))


if __name__ == "__main__":
    main()
