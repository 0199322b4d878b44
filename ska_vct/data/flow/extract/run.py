"""The flow of whole datasets: in shards, on many cores or a GPU, going on where an earlier run stopped."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from ska_vct.data.catalog import load_records
from ska_vct.data.facts import DatasetFacts
from ska_vct.data.flow.extract.clip import FlowRequest
from ska_vct.data.flow.extract.workers import Outcome, run_here, run_in_processes, run_on_device
from ska_vct.data.flow.methods.registry import RAFT, flow_method_builder
from ska_vct.data.flow.store import FlowError, read_flow_meta
from ska_vct.data.registry import register_dataset

# Starting a process takes as long as DIS on about this many clips.
_CLIPS_PER_PROCESS = 20


@dataclass(kw_only=True)
class FlowSummary:
    """What a run did.

    Attributes:
        clips: in this shard.
        kept: were there already; ``damaged`` files were computed again.
        sources: clips written, by where their images came from.
        bytes: of all files of the shard.
        seconds: spent on the clips written.
        remarks: what is unusual, one sentence per clip.
        failures: why a clip has no file, one sentence per clip.
    """

    clips: int = 0
    kept: int = 0
    damaged: int = 0
    bytes: int = 0
    seconds: float = 0.0
    sources: Counter = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def written(self) -> int:
        return sum(self.sources.values())

    def add(self, outcome: Outcome) -> None:
        """Count one clip."""
        if outcome.error:
            self.failures.append(outcome.error)
            return
        self.sources[outcome.source] += 1
        self.bytes += outcome.bytes
        if outcome.remark:
            self.remarks.append(outcome.remark)

    def __str__(self) -> str:
        origin = ", ".join(f"{count} from {source}" for source, count in sorted(self.sources.items()))
        stored = self.written + self.kept
        parts = [
            f"{self.clips} clips: {self.written} written" + (f" ({origin})" if origin else ""),
            f"{self.kept} there already",
            *([f"{self.damaged} damaged files made again"] if self.damaged else []),
            f"{len(self.failures)} failed",
        ]
        size = f"{self.bytes / 1e6:.1f} MB, {self.bytes / max(stored, 1) / 1e3:.1f} kB per clip"
        speed = f", {self.written / self.seconds:.2f} clips/s" if self.written else ""
        return f"{', '.join(parts)}; {size}{speed}."


def parse_shard(text: str) -> tuple[int, int]:
    """``i/n``, the i-th of n shards counted from 0, as numbers.

    Raises:
        FlowError: it is not of that form.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise FlowError(f"Shard '{text}' is not of the form i/n with i from 0 to n - 1, such as 0/4.")
    return int(index), int(count)


def compute_flow(
    *,
    root: str | os.PathLike,
    subsets: Sequence[str],
    splits: Sequence[str],
    request: FlowRequest,
    out: str | os.PathLike = "",
    leave_out: str | os.PathLike = "",
    shard: tuple[int, int] = (0, 1),
    weights: str | os.PathLike = "",
    device: str = "auto",
    batch_size: int = 8,
    jobs: int = 0,
    overwrite: bool = False,
    limit: int = 0,
    facts: Sequence[DatasetFacts] = (),
    progress: bool = True,
) -> FlowSummary:
    """Compute the flow of subsets and write one file per clip.

    A clip's file depends on the clip, ``request``, weights, device and (RAFT) batch size, not on shards, jobs or
    interruptions.

    Args:
        root: folder of the releases.
        subsets, splits: of what.
        request: what flow.
        out: folder of the flow files; empty for ``{root}/flow``.
        leave_out: csv file of clips to do without, see ``load_records``.
        shard: (i, n): every n-th clip, from the i-th.
        weights, batch_size: see ``build_flow_method``.
        device: where RAFT runs; ``auto`` for a GPU where there is one.
        jobs: processes on a CPU, threads that read ahead of a GPU; 0 for one per core.
        overwrite: replace files that were made with other settings.
        limit: the first clips of the shard only; 0 for all.
        facts: of datasets of your own among ``subsets``, which a job in another process does not know yet.

    Returns:
        what was done; clips that could not be computed are among ``failures``.

    Raises:
        DatasetError: the release is not there.
        FlowError: there are files of other settings, or the method is not to be had.
        OSError: the disk is full or cannot be written; whole files stay, and the next run goes on with them.
    """
    for own in facts:
        register_dataset(own)
    records = [
        (subset, record)
        for subset in subsets
        for split in splits
        for record in load_records(subset, split, root, flow_root=out, leave_out=leave_out, find_flow=False)
    ]
    records = records[shard[0] :: shard[1]]
    records = records[:limit] if limit else records
    summary = FlowSummary()
    for subset in subsets:
        builder = flow_method_builder(request.method)
        options = {
            "weights": weights, "device": _device(device, request.method), "batch_size": batch_size, "root": root,
            "subset": subset,
        }  # fmt: skip
        chosen = [record for name, record in records if name == subset]
        if chosen:
            start = time.perf_counter()
            _compute(chosen, request, partial(builder, **options), jobs, overwrite, progress, summary)
            summary.seconds += time.perf_counter() - start
    return summary


def _compute(
    records: list[dict],
    request: FlowRequest,
    build: partial,
    jobs: int,
    overwrite: bool,
    progress: bool,
    summary: FlowSummary,
) -> None:
    # Built before any worker starts: weights are downloaded once, and errors are reported once.
    method = build()
    device, subset = build.keywords["device"], build.keywords["subset"]
    todo = _missing(records, request, method.weights, overwrite, summary)
    done = len(records) - len(todo)
    if not jobs:
        cores = os.cpu_count() or 1
        jobs = cores if device != "cpu" else max(1, min(cores, len(todo) // _CLIPS_PER_PROCESS))
    if device != "cpu":
        outcomes = run_on_device(todo, request, method, jobs)
    elif min(jobs, len(todo)) > 1:
        outcomes = run_in_processes(todo, request, build, min(jobs, len(todo)))
    else:
        outcomes = run_here(todo, request, method)
    with (
        closing(outcomes),
        tqdm(total=len(records), initial=done, desc=f"Flow of {subset}", unit="clip", disable=not progress) as bar,
    ):
        for outcome in outcomes:
            summary.add(outcome)
            bar.update()


def _missing(
    records: list[dict], request: FlowRequest, weights: str, overwrite: bool, summary: FlowSummary
) -> list[dict]:
    """Records without a whole file of this request."""
    todo, others = [], []
    for record in tqdm(records, desc="Looking for files", delay=3, leave=False):
        path = Path(record["flow_path"])
        summary.clips += 1
        try:
            found = read_flow_meta(path)
        except FlowError:
            summary.damaged += path.is_file()
            todo.append(record)
            continue
        wanted = {"request": request.to_meta(), "weights": weights, "clip_id": record["clip_id"]}
        if all(found.get(key) == value for key, value in wanted.items()):
            summary.kept += 1
            summary.bytes += path.stat().st_size
        else:
            others.append((path, found))
            todo.append(record)
    if others and not overwrite:
        path, found = others[0]
        made = found.get("request") or {"method": found["method"]}
        asked = request.to_meta() if "request" in found else {"method": request.method}
        other = [f"{key} {made.get(key)} instead of {asked[key]}" for key in asked if made.get(key) != asked[key]]
        if found["weights"] != weights:
            other.append(f"weights {found['weights'] or 'none'} instead of {weights or 'none'}")
        shown = ", ".join(other) or f"of clip {found['clip_id']}"
        raise FlowError(
            f"{len(others)} of {len(records)} flow files were made with other settings, such as {path} ({shown}); "
            "choose another --out, or replace them with --overwrite."
        )
    return todo


def _device(name: str, method: str) -> str:
    if method not in RAFT:
        return "cpu"
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
