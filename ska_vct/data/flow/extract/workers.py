"""Clips of flow, one after the other here, side by side in processes, or through one device that threads read for.

Whichever way is taken, outcomes come in the order of the clips, and files are the same.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from ska_vct.data.flow.extract.clip import FlowRequest, compute_clip, read_clip
from ska_vct.data.flow.methods.base import FlowMethod, ImagePairs
from ska_vct.data.flow.methods.registry import RAFT
from ska_vct.data.flow.store import FlowError, write_flow
from ska_vct.utils.errors import FileSystemError

# Clips that are read or computed ahead of the one waited for, per process or thread.
_AHEAD = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one clip: its file's size and the source of its images, or why there is no file."""

    clip_id: str
    bytes: int = 0
    source: str = ""
    remark: str = ""
    error: str = ""


def run_here(todo: list[dict], request: FlowRequest, method: FlowMethod) -> Iterator[Outcome]:
    _use_one_thread(request.method)
    for record in todo:
        yield _one_clip(record, request, method)


def run_in_processes(
    todo: list[dict], request: FlowRequest, build: Callable[[], FlowMethod], jobs: int
) -> Iterator[Outcome]:
    # spawn: forking a process that has threads (torch, OpenCV) can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start_worker, (request, build)) as pool:
        try:
            for _, future in _ahead(pool, _work, todo, _AHEAD * jobs):
                yield future.result()
        except BrokenProcessPool:
            raise FlowError(
                "A worker process was killed, as happens when memory runs out; run the same command again with "
                "fewer --jobs, and it goes on where it stopped."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def run_on_device(todo: list[dict], request: FlowRequest, method: FlowMethod, jobs: int) -> Iterator[Outcome]:
    """One process feeds the device, threads read ahead of it."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for record, future in _ahead(pool, lambda record: read_clip(record, request), todo, _AHEAD * jobs):
                yield _one_clip(record, request, method, future.result)
        finally:
            pool.shutdown(cancel_futures=True)


def _ahead(pool: Executor, function: Callable, items: Iterable, depth: int) -> Iterator[tuple[object, Future]]:
    """Futures of ``function`` in the order of ``items``, never more than ``depth`` ahead."""
    waiting: deque = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting


# What a worker process keeps from clip to clip.
_worker: dict = {}


def _start_worker(request: FlowRequest, build: Callable[[], FlowMethod]) -> None:
    _use_one_thread(request.method)
    _worker.update(request=request, method=build())


def _work(record: dict) -> Outcome:
    return _one_clip(record, _worker["request"], _worker["method"])


def _one_clip(
    record: Mapping,
    request: FlowRequest,
    method: FlowMethod,
    read: Callable[[], tuple[ImagePairs | None, str]] | None = None,
) -> Outcome:
    clip_id, path = record["clip_id"], Path(record["flow_path"])
    try:
        pairs, remark = read() if read else read_clip(record, request)
        flow = compute_clip(record, request, method, pairs)
    except FlowError as error:
        return Outcome(clip_id=clip_id, error=str(error))
    try:
        write_flow(path, flow, bits=request.bits)
    except OSError as error:
        raise FileSystemError(
            f"Flow file {path} cannot be written ({error.strerror or error}); nothing was left half-written. Make "
            "room and run the same command again: it goes on where it stopped."
        ) from None
    return Outcome(clip_id=clip_id, bytes=path.stat().st_size, source=flow.meta["source"], remark=remark)


def _use_one_thread(method: str) -> None:
    """Run torch on one thread: its results depend on the number of threads; clips are distributed instead."""
    if method in RAFT:
        torch.set_num_threads(1)
