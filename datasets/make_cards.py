#!/usr/bin/env python
"""Draw the images and videos of docs/benchmark.md: a strip of clips and one video with audio per split.

Example (under a minute):
    python datasets/make_synth.py --benchmark --root datasets/synth_benchmark
    python datasets/make_cards.py --benchmark datasets/synth_benchmark --out docs/images
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import add_benchmark_folders, command_parser
from ska_vct.utils.cli import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_benchmark_folders(parser, out="folder for the files")
    parser.add_argument("--num", type=int, default=3, help="clips per strip (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_sentence_errors():
        from ska_vct.experiments.dataset_cards import make_cards

        files = make_cards(args.benchmark, args.out, num=args.num)
        print("\n".join(f"{path}: {path.stat().st_size / 1000:.0f} kB" for path in files))


if __name__ == "__main__":
    main()
