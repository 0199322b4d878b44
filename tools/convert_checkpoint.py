"""Convert a checkpoint in any supported format to the parameter names of SKA-VCT or VCT.

Examples:
    python tools/convert_checkpoint.py vct_s4.pth --out ours.safetensors
    python tools/convert_checkpoint.py swin_base_patch4_window12_384_22k.pkl --out swin_b.pth
    python tools/convert_checkpoint.py ska_vct://vggish --out vggish.safetensors
    python tools/convert_checkpoint.py output/s4/swin_b_384/model_best.pth --to vct --out for_vct.pth

Checkpoints need not be converted before loading: MODEL.WEIGHTS and similar keys read any format (docs/weights.md).
"""

import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.checkpoint.convert import TARGETS
from ska_vct.cli._parser import command_parser
from ska_vct.utils.cli import one_sentence_errors


def main() -> None:
    parser = command_parser(__doc__)
    parser.add_argument("source", help="file, ska_vct://NAME, https://..., hf://ORG/REPO/FILE or a timm name")
    parser.add_argument("--out", required=True, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument(
        "--to", choices=TARGETS, default="ska_vct", help="parameter names to write (default: %(default)s)"
    )
    args = parser.parse_args()
    with one_sentence_errors():
        from ska_vct.checkpoint.writing import convert_file

        print("\n".join(convert_file(args.source, args.out, to=args.to)))


if __name__ == "__main__":
    main()
