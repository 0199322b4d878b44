#!/usr/bin/env python
"""Turn a folder of videos, and masks if there are any, into a dataset of your own with a config to train on it.

Examples:
    python datasets/from_videos.py clips --out datasets/own
    python datasets/from_videos.py clips --masks clips_masks --out datasets/own --shares 0.7 0.1 0.2

OUT receives videos/, frames/ and masks/ by split and clip, and own.yaml, a config. Of each second, frames/ holds
the frame that is shown 15/16 s into it, as in AVSBench (docs/time_line.svg): annotate these, and put the masks
into masks/, or into a folder per video and run the command again with --masks. A mask is a PNG of 0 and 255 whose
name ends with its second, from 0. If the folder of videos has the folders train, val and test, they are the
splits; else clips are drawn.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.utils.cli import one_sentence_errors

SHOWN = 10
NEXT = """\
Next:
    python datasets/compute_flow.py --config-file {out}/own.yaml
    python datasets/check.py --config-file {out}/own.yaml
    python tools/train_net.py --config-file {out}/own.yaml"""


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add("videos", metavar="VIDEOS", help="folder of videos with audio")
    add("--out", required=True, metavar="DIR", help="folder of the dataset, as DATASETS.ROOT")
    add("--masks", default="", metavar="DIR", help="folder of folders of masks, named as the videos")
    add("--shares", type=float, nargs=3, default=[0.8, 0.1, 0.1], metavar=("TRAIN", "VAL", "TEST"),
        help="shares of the splits, where VIDEOS has none (default: 0.8 0.1 0.1)")
    add("--seed", type=int, default=0, help="of the draw of the splits (default: %(default)s)")
    add("--link", action="store_true", help="link to the videos instead of copying them")
    add("--jobs", type=int, default=0, help="threads; 0 (default): one per core, at most 8")
    # fmt: on
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    with one_sentence_errors():
        from ska_vct.data.from_videos import make_dataset

        outcome = make_dataset(
            args.videos,
            args.out,
            masks=args.masks,
            shares=args.shares,
            seed=args.seed,
            link=args.link,
            jobs=args.jobs,
        )
    clips = ", ".join(f"{split} {count}" for split, count in outcome.clips.items())
    made = f"{sum(outcome.clips.values())} clips ({clips}), {outcome.seconds} frames and {outcome.masks} masks"
    print(f"{made} in {args.out}")
    for text in outcome.failed[:SHOWN]:
        print(f"Failed: {text}")
    if len(outcome.failed) > SHOWN:
        print(f"Failed: {len(outcome.failed) - SHOWN} more.")
    if not outcome.masks:
        where = f"{args.out}/frames/<split>/<clip>/<second>.png"
        print(f"There are no masks yet: annotate {where}, and put each mask at the same place below masks/.")
    print(NEXT.format(out=args.out))
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
