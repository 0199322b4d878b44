#!/usr/bin/env python
"""Measure flow methods against the true flow of synthetic clips: errors, speed, sizes, and an image of each.

Example (makes the clips first; two minutes on 2 cores):
    python datasets/make_synth.py --root output/flow_clips --subset ms3 --test 24 --size 224 --fps 25 --seed 1 \\
        --scenes plain=1,mover=1,weak=1,camera=1
    python datasets/flow_quality.py --root output/flow_clips --subset ms3 --methods dis farneback \\
        --picture output/flow_methods.png

Prints Markdown; docs/flow.md contains such a report. RAFT needs its weights (downloaded, or --weights FILE).
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


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add("--root", required=True, metavar="DIR", help="folder of a synthetic release")
    add("--subset", default="ms3", choices=sorted(SUBSETS), help="default: %(default)s")
    add("--split", default="test", choices=SPLITS, help="default: %(default)s")
    add("--methods", nargs="+", default=["dis", "farneback"], metavar="NAME",
        help="dis, farneback, raft_large, raft_small; default: dis farneback")
    add("--weights", default="", metavar="FILE", help="weights of one RAFT method; default: downloaded once")
    add("--device", default="cpu", help="where RAFT runs (default: %(default)s)")
    add("--batch-size", type=int, default=8, metavar="N", help="image pairs per RAFT call (default: %(default)s)")
    add("--series", type=int, default=10, metavar="S", help="fields per second (default: %(default)s)")
    add("--size", type=int, default=48, metavar="N", help="side of the stored fields (default: %(default)s)")
    add("--limit", type=int, default=0, metavar="N", help="maximum number of clips; 0 (default): all")
    add("--picture", default="", metavar="FILE", help="also draw the methods beside the true flow, as PNG")
    # fmt: on
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    with one_sentence_errors():
        from ska_vct.experiments.flow_quality.figure import flow_quality

        report = flow_quality(
            args.root,
            subset=args.subset,
            split=args.split,
            methods=args.methods,
            weights=args.weights,
            device=args.device,
            batch_size=args.batch_size,
            series=args.series,
            size=args.size,
            limit=args.limit,
            figure=args.picture,
        )
        print(report)


if __name__ == "__main__":
    main()
