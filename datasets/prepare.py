#!/usr/bin/env python
"""Make optional files: 384 px frames and masks, log-mels from audio, published flow in one file per clip.

Examples:
    python datasets/prepare.py --root /data/AVSBench --subset s4 --what frames
    python datasets/prepare.py --root /data/AVSBench --subset avss --what frames log-mel --jobs 8
    python datasets/prepare.py --root /data/AVSBench --subset ms3 --what flow --flow-root /data/raft_flow

S4 and MS3 at 384 px are built from AVSS's larger frames, so AVSS must be below ROOT as well; its clips are found
by name and compared with the released frames. Files go to OUT, by default ROOT/prepared, where training looks for
them (for another folder set DATASETS.PREPARED). The release itself is changed only with --into-release. To resume
an interrupted run, or to replace damaged files, repeat the command; clips that are not prepared yet are read from
the release.
"""

import argparse
import os
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.data.avsbench.locate import find_release
from ska_vct.data.avsbench.subsets import LARGE_FRAMES, SUBSETS
from ska_vct.data.facts import SPLITS
from ska_vct.data.registry import get_facts
from ska_vct.utils.cli import one_sentence_errors

SHOWN = 10


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--root", required=True, metavar="DIR", help="folder with the releases")
    parser.add_argument("--subset", required=True, choices=sorted(SUBSETS))
    parser.add_argument("--what", nargs="+", choices=("frames", "log-mel", "flow"), default=["frames", "log-mel"],
                        help="default: frames log-mel")  # fmt: skip
    parser.add_argument("--split", nargs="+", choices=SPLITS, help="default: all; frames of AVSS: val test")
    parser.add_argument("--out", default="", metavar="DIR", help="default: ROOT/prepared")
    parser.add_argument("--into-release", action="store_true", help="write frames and log-mels into the release")
    parser.add_argument("--flow-root", default="", metavar="DIR", help="published flow; default: ROOT/flow")
    parser.add_argument(
        "--flow-side", type=int, default=96, help="longer side of the stored flow (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=0, help="threads; 0 (default): one per core, at most 8")
    return parser.parse_args()


def make(args: argparse.Namespace, what: str, base: str, target: str, out: str):
    """Make the files of one kind; returns the outcome of ``ska_vct.data.prepare``."""
    from ska_vct.data import prepare
    from ska_vct.data.catalog import load_records

    splits = args.split or SPLITS
    if what == "frames":
        facts, source = get_facts(args.subset), get_facts(LARGE_FRAMES)
        if not facts.twin_label:
            # Training crops AVSS's original frames at their own short side, so it needs no prepared ones.
            splits = args.split or SPLITS[1:]
        return prepare.prepare_frames(facts, base, find_release(source, args.root), target, splits, jobs=args.jobs)
    options = {"prefer_rebuilt": False, "flow_root": args.flow_root, "prepared": out, "find_flow": False}
    records = [record for split in splits for record in load_records(args.subset, split, args.root, **options)]
    if what == "flow":
        return prepare.prepare_flow(records, f"{out}/flow", side=args.flow_side, jobs=args.jobs)
    return prepare.prepare_log_mel(records, target, jobs=args.jobs)


def main() -> int:
    args = parse_args()
    failed = 0
    with one_sentence_errors():
        from ska_vct.data import prepare
        from ska_vct.data.avsbench.records import PREPARED_FOLDER

        base = find_release(get_facts(args.subset), args.root)
        out = args.out or os.path.join(args.root, PREPARED_FOLDER)
        if not args.into_release or "flow" in args.what:
            prepare.check_target(args.root, out)
        target = base if args.into_release else f"{out}/{get_facts(args.subset).folder}"
        for what in args.what:
            outcome = make(args, what, base, target, out)
            where = f"{out}/flow" if what == "flow" else target
            print(
                f"{what}: {outcome.written} clips written, {outcome.present} existed or need no file, "
                f"{len(outcome.failed)} failed; in {where}"
            )
            for text in outcome.failed[:SHOWN]:
                print(f"    {text}")
            if len(outcome.failed) > SHOWN:
                print(f"    ... and {len(outcome.failed) - SHOWN} more")
            failed += len(outcome.failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
