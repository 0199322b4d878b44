#!/usr/bin/env python
"""Make images of class-agnostic segments for MODEL.PRE_MASK.ENABLED with a Segment Anything model of your choice.

Example:
    pip install -e '.[premasks]'
    python datasets/make_premasks.py --root /data/AVSBench --subset ms3 --weights sam-vit-base --out /data/segments

Then train with MODEL.PRE_MASK.ENABLED True INPUT.PRE_MASK.ROOT /data/segments. Weights are a folder, or the name
on Hugging Face's hub, of a SAM or SAM 2 model in transformers' format. To resume an interrupted run, repeat the
command. COMBO's authors publish images made with Semantic-SAM; datasets/README.md says where to put them. They
differ from the images made here, so a checkpoint trained on theirs needs theirs.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import SPLITS
from ska_vct.utils.cli import one_sentence_errors
from ska_vct.utils.folders import make_folder


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--root", required=True, metavar="DIR", help="folder with the release")
    parser.add_argument("--subset", required=True, choices=sorted(SUBSETS))
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="default: all")
    parser.add_argument("--weights", required=True, metavar="PATH", help="segment-anything model, see above")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the images")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; default: a GPU if there is one")
    parser.add_argument("--points-per-batch", type=int, default=64, help="fewer points need less memory")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        import torch

        from ska_vct.data.catalog import load_records
        from ska_vct.data.images.pre_masks import load_segmenter, make_pre_masks

        out = make_folder(args.out)
        device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
        segment = load_segmenter(args.weights, device=device, points_per_batch=args.points_per_batch)
        records = [record for split in args.split for record in load_records(args.subset, split, args.root)]
        written, present = make_pre_masks(records, segment, out)
        print(f"{written} images written to {out}, {present} existed")


if __name__ == "__main__":
    main()
