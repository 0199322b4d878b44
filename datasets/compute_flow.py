#!/usr/bin/env python
"""Compute the optical flow of AVSBench (or synthetic) clips: one small file per clip, in physical units.

Examples:
    python datasets/compute_flow.py --root datasets --subset s4 ms3 --method raft_large      # a GPU
    python datasets/compute_flow.py --root datasets --subset s4 ms3                          # DIS on all cores
    python datasets/compute_flow.py --root datasets --subset s4 --shard 0/4                  # one of four machines
    python datasets/compute_flow.py --root datasets --subset s4 --submit slurm --shards 16 \\
        --cluster-option slurm_partition=cpu cpus_per_task=8                                 # a job array

Raw videos are read at their own frame rate where available, otherwise the released frames. To resume an
interrupted run, repeat the command. docs/flow.md describes the file format, and the methods' accuracy and cost.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout that is not installed; an installed package comes first.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from ska_vct.cli._parser import cluster_parameters, command_parser
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import SPLITS, DatasetFacts
from ska_vct.data.flow.names import CLUSTERS, SOURCES
from ska_vct.data.registry import get_facts, get_reader
from ska_vct.utils.cli import one_sentence_errors
from ska_vct.utils.errors import InputError

SHOWN = 5


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add("--root", default="", metavar="DIR",
        help="folder of the releases (default: datasets); with a config: overrides DATASETS.ROOT")
    add("--subset", nargs="+", choices=sorted(SUBSETS), help="one or several")
    add("--config-file", default="", metavar="FILE",
        help="instead of --subset: the dataset of this config, which may be your own")
    add("--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="default: all three")
    add("--out", default="", metavar="DIR", help="folder of the flow files (default: ROOT/flow)")
    add("--leave-out", default="", metavar="FILE",
        help="csv file of clips to exclude, as written by datasets/check.py --fix-list")
    add("--method", default="dis", metavar="NAME",
        help="dis (default) or farneback, without weights; raft_large or raft_small; truth, for synthetic clips")
    add("--weights", default="", metavar="FILE",
        help="RAFT's weights in torchvision's format; default: downloaded once")
    add("--source", choices=SOURCES, default="auto",
        help="auto (default): the raw video if it exists and is intact, otherwise the frames")
    add("--series", type=int, default=10, metavar="S",
        help="fields per second of a video (default: %(default)s); frames give 1")
    add("--size", type=int, default=48, metavar="N", help="side of the stored fields (default: %(default)s)")
    add("--bits", type=int, choices=(16, 8), default=16, help="per value (default: %(default)s)")
    add("--long-side", type=int, default=384, metavar="PX",
        help="images are first downscaled to this, 0: never (default: %(default)s)")
    add("--device", default="auto", help="where RAFT runs: auto (default), cpu, cuda, cuda:1, ...")
    add("--batch-size", type=int, default=8, metavar="N", help="image pairs per RAFT call (default: %(default)s)")
    add("--jobs", type=int, default=0, metavar="N",
        help="processes, or reader threads for a GPU; 0 (default): one per core if there is enough work")
    add("--shard", default="0/1", metavar="I/N", help="the I-th of N parts; I counts from 0")
    add("--limit", type=int, default=0, metavar="N", help="only the first N clips, for a trial")
    add("--overwrite", action="store_true", help="replace files made with other settings")
    add("--submit", choices=CLUSTERS, help="submit to a cluster as a job array (needs submitit)")
    add("--shards", type=int, default=8, metavar="N", help="jobs to submit (default: %(default)s)")
    add("--cluster-option", nargs="+", default=[], metavar="KEY=VALUE",
        help="options of submitit, such as slurm_partition=gpu timeout_min=120 gpus_per_node=1 cpus_per_task=8")
    add("--log-folder", default="output/compute_flow", metavar="DIR",
        help="logs of submitted jobs (default: %(default)s)")
    # fmt: on
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    with one_sentence_errors():
        args = parse_args(arguments)
        from ska_vct.data.flow.extract.clip import FlowRequest
        from ska_vct.data.flow.extract.run import compute_flow, parse_shard
        from ska_vct.data.flow.extract.slurm import submit_flow
        from ska_vct.synth import true_flow  # noqa: F401  registers "truth"

        root, subsets, facts = find_datasets(args)
        options = {
            "root": root, "subsets": subsets, "facts": facts, "splits": args.split, "out": args.out,
            "weights": args.weights, "device": args.device, "batch_size": args.batch_size, "jobs": args.jobs,
            "overwrite": args.overwrite, "leave_out": args.leave_out,
            "limit": args.limit,
            "request": FlowRequest(
                method=args.method, source=args.source, series=args.series, size=args.size, bits=args.bits,
                long_side=args.long_side,
            ),
        }  # fmt: skip
        if args.submit:
            jobs = submit_flow(
                args.submit, args.log_folder, shards=args.shards,
                parameters=cluster_parameters(args.cluster_option), **options,
            )  # fmt: skip
            print(f"Submitted {len(jobs)} jobs, {jobs[0].job_id} to {jobs[-1].job_id}; logs in {args.log_folder}.")
            # Local jobs end with the program that started them, so wait for them.
            summaries = [job.result() for job in jobs] if args.submit == "local" else []
        else:
            summaries = [compute_flow(**options, shard=parse_shard(args.shard))]
        failures = [line for summary in summaries for line in summary.failures]
        show("Remark", [line for summary in summaries for line in summary.remarks])
        show("Failed", failures)
        print(*summaries, sep="\n")
    return 1 if failures else 0


def find_datasets(args: argparse.Namespace) -> tuple[str, list[str], list[DatasetFacts]]:
    """The root, the names of the datasets, and facts that worker processes must register first."""
    if not args.config_file:
        if not args.subset:
            raise InputError("Name one or several subsets with --subset, or a config with --config-file.")
        return args.root or "datasets", args.subset, []
    from ska_vct.engine.datasets import register_datasets, resolve_root
    from ska_vct.engine.setup import load_cfg

    cfg = load_cfg(args.config_file, ["DATASETS.ROOT", args.root] if args.root else None)
    register_datasets(cfg)
    facts = get_facts(cfg.DATASETS.SUBSET)
    own = [] if facts.name in SUBSETS or get_reader(facts.name) else [facts]
    return str(resolve_root(cfg)), [facts.name], own


def show(title: str, lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        print(f"{title}: {line}")
    if len(lines) > SHOWN:
        print(f"{title}: {len(lines) - SHOWN} more.")


if __name__ == "__main__":
    sys.exit(main())
