"""Runs each case in its own process, so that memory measurements are independent; the processes take turns."""

import multiprocessing
import os
import statistics
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import cv2
import torch

from ska_vct.utils.cpu import compute_on_cpu
from ska_vct.utils.errors import SkaVctError

from .memory import PeakMemory
from .work import TOTAL, BenchmarkError, Case, Clock, Work

_START, _RUN, _STOP = "start", "run", "stop"


class Worker:
    """The parent's end of a process that measures one case."""

    def __init__(self, case: Case, build: Callable[[Case], Work]):
        self.case = case
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        # Libraries read these variables when they are loaded.
        wanted = {"OMP_NUM_THREADS": case.threads, "MALLOC_MMAP_THRESHOLD_": case.mmap_threshold}
        with mock.patch.dict(os.environ, {name: str(value) for name, value in wanted.items() if value}):
            self._process = context.Process(target=_serve, args=(child, case, build))
            self._process.start()
        child.close()

    def start(self) -> dict[str, Any]:
        """Build and warm up the work: ``clips``, ``frames``, ``facts``, ``first_call_seconds``, ``threads``."""
        return self._ask(_START)

    def run(self) -> dict[str, float]:
        """Run one repetition; returns seconds per call by part."""
        return self._ask(_RUN)

    def stop(self) -> int | None:
        """End the process; returns the peak memory of its work in bytes, or None if unknown."""
        peak = self._ask(_STOP)
        self._process.join()
        return peak

    def kill(self) -> None:
        """Kill the process."""
        self._connection.close()
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()

    def _ask(self, word: str) -> Any:
        try:
            self._connection.send(word)
            kind, answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise BenchmarkError(
                f"'{self.case.name}': the process ended with exit code {self._process.exitcode} (-9 usually means "
                "out of memory); use smaller sizes (--batch, --frames), or --apart if several were running."
            ) from None
        if kind == "wrong":
            raise BenchmarkError(f"'{self.case.name}': {answer}")
        if kind == "error":
            raise RuntimeError(f"'{self.case.name}' failed:\n{answer}")
        return answer


def _serve(connection: Connection, case: Case, build: Callable[[Case], Work]) -> None:
    try:
        if case.threads:
            torch.set_num_threads(case.threads)
            cv2.setNumThreads(case.threads)
        # Return freed memory to the system, so that the measurement reflects the memory in use.
        if case.device == "cpu" and not case.mmap_threshold:
            compute_on_cpu()
        _measure(connection, case, build)
    except EOFError:
        pass  # the parent process has ended
    except (SkaVctError, OSError) as error:
        connection.send(("wrong", str(error)))
    except Exception:
        connection.send(("error", traceback.format_exc()))


def _measure(connection: Connection, case: Case, build: Callable[[Case], Work]) -> None:
    connection.recv()
    device = torch.device(case.device)
    memory = PeakMemory(device)
    work = build(case)
    begin = time.perf_counter()
    call(work, device)
    first = time.perf_counter() - begin
    # The peak excludes building and the first call, which load libraries and create optimizer state.
    memory.restart()
    # Warm up further: the first call allocates buffers, compiles, and so on.
    warm = [call(work, device)[TOTAL] for _ in range(case.warmup)]
    calls = max(1, int(case.min_seconds / max(min(warm, default=first), 1e-6)))
    answer = {
        "clips": work.clips, "frames": work.frames, "facts": work.facts, "calls": calls,
        "first_call_seconds": first, "threads": torch.get_num_threads(),
    }  # fmt: skip
    connection.send(("done", answer))
    while connection.recv() == _RUN:
        connection.send(("done", repeat(work, device, calls)))
    connection.send(("done", memory.read() if work.whole_process else None))


def call(work: Work, device: torch.device) -> dict[str, float]:
    """Call ``work`` once and return seconds by part."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = Clock(device)
    work.run(clock)
    return clock.read()


def repeat(work: Work, device: torch.device, calls: int) -> Mapping[str, float]:
    """Seconds per call by part, averaged over ``calls``."""
    seconds = defaultdict(list)
    for _ in range(calls):
        for part, value in call(work, device).items():
            seconds[part].append(value)
    return {part: statistics.fmean(values) for part, values in seconds.items()}
