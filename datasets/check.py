#!/usr/bin/env python
"""Check datasets on disk: report missing, damaged or unusual files, and what will be computed on the fly.

Examples:
    python datasets/check.py --root /data/AVSBench
    python datasets/check.py --root /data/AVSBench --subset ms3 --quick
    python datasets/check.py --root /data/AVSBench --fix-list fix.csv
    python datasets/check.py --config-file my_dataset.yaml

AVSBench's releases are found at any depth below ROOT, as released or as rebuilt by COMBO's and VCT's scripts.
Only the fix list is written, a csv file with one line per problem; passed as DATASETS.LEAVE_OUT, it excludes the
clips it lists from training. --config-file checks the dataset that DATASETS.SUBSET names, which may be your own
(configs/_base_/datasets/own.yaml), for what this config reads, as training does before it starts. Exit status: 0
if all clips of all subsets found are usable, 1 if some are not, 2 if no release was found.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import command_parser
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.locate import find_release, find_releases, skipped_note
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import DatasetFacts
from ska_vct.data.registry import ReadOptions, get_facts
from ska_vct.utils.cli import one_sentence_errors


def parse_args() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--root", default="", metavar="DIR", help="folder with the releases, at any depth")
    parser.add_argument("--config-file", default="", metavar="FILE", help="check the dataset of this config")
    parser.add_argument(
        "--subset", nargs="+", choices=sorted(SUBSETS), default=sorted(SUBSETS), help="default: all"
    )
    parser.add_argument("--fix-list", metavar="OUT", help="csv file that lists all problems")
    parser.add_argument("--quick", action="store_true", help="read only headers and ends of files")
    parser.add_argument("--as-released", action="store_true", help="ignore rebuilt and prepared frames")
    parser.add_argument("--pre-masks", action="store_true", help="also look for pre-masks")
    parser.add_argument("--prepared", default="", metavar="DIR", help="default: ROOT/prepared")
    parser.add_argument("--show", type=int, default=10, help="findings shown per kind (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=0, help="threads; 0 (default): one per core, at most 8")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    with one_sentence_errors():
        options, needs, found = find_datasets(args)
        if not found:
            wanted = ", ".join(args.subset)
            skipped = skipped_note(options.root)
            print(f"No release of {wanted} below {options.root}{skipped}; see datasets/README.md for the layout.")
            return 2
        from ska_vct.data.validation.check import check_release
        from ska_vct.data.validation.findings import write_fix_list
        from ska_vct.data.validation.report import describe

        reports = []
        for facts, base in found:
            report = check_release(facts, base, options, content=not args.quick, jobs=args.jobs, needs=needs)
            reports.append(report)
            print(describe(report, show=args.show))
        if args.fix_list:
            lines = write_fix_list(args.fix_list, [finding for report in reports for finding in report.findings])
            print(f"{lines} lines in {args.fix_list}")
    return 1 if any(report.errors for report in reports) else 0


def find_datasets(args: argparse.Namespace) -> tuple[ReadOptions, Any, list[tuple[DatasetFacts, str]]]:
    """Where files are looked for, what is read of them, and the facts and folder of each dataset to check.

    Without a config, what is read is None.
    """
    given = {"prefer_rebuilt": False} if args.as_released else {}
    given |= {"pre_masks": True} if args.pre_masks else {}
    given |= {"prepared": args.prepared} if args.prepared else {}
    if args.config_file:
        from ska_vct.engine.data_check import needs_of
        from ska_vct.engine.datasets import record_options, register_datasets, resolve_root
        from ska_vct.engine.setup import chosen_keys, load_cfg
        from ska_vct.engine.unused_keys import unused_keys

        cfg = load_cfg(args.config_file, ["DATASETS.ROOT", args.root] if args.root else None)
        register_datasets(cfg)
        for note in unused_keys(cfg, chosen_keys(args.config_file)):
            print(f"warning: {note}")
        options = ReadOptions(root=str(resolve_root(cfg)), **record_options(cfg) | given)
        facts = get_facts(cfg.DATASETS.SUBSET)
        return options, needs_of(cfg), [(facts, find_release(facts, options.root))]
    if not args.root:
        raise DatasetError("Name the folder of the releases with --root, or a config with --config-file.")
    releases = find_releases(args.root).items()
    found = [(get_facts(name), base) for name, bases in releases if name in args.subset for base in bases]
    return ReadOptions(root=args.root, **given), None, found


if __name__ == "__main__":
    sys.exit(main())
