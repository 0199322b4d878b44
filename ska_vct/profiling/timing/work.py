"""What a benchmark measures, described so that a process of its own can build it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ska_vct.utils.errors import SkaVctError

TOTAL = "total"


class BenchmarkError(SkaVctError, ValueError):
    """A benchmark cannot be run as asked for."""


class Clock:
    """Seconds by part of one call.

    On a GPU it reads the GPU's own clock by events, so that timing a part makes nobody wait.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any, Any]] = []

    @contextmanager
    def __call__(self, part: str = TOTAL) -> Iterator[None]:
        """Time the block as ``part``."""
        start = self._now()
        yield
        self._marks.append((part, start, self._now()))

    def read(self) -> dict[str, float]:
        """Seconds by part, and ``total``: the part of that name, else the sum of the others."""
        if self._cuda:
            torch.cuda.synchronize()
        seconds: dict[str, float] = defaultdict(float)
        for part, start, end in self._marks:
            seconds[part] += start.elapsed_time(end) / 1000 if self._cuda else end - start
        seconds.setdefault(TOTAL, sum(seconds.values()))
        return dict(seconds)

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


@dataclass(kw_only=True)
class Work:
    """Something ready to be called again and again.

    Attributes:
        run: one call, which times itself with the clock it is given.
        clips, frames: what one call processes; 0 where that means nothing.
        facts: what else is worth knowing, for the report.
        whole_process: whether this process's memory is the work's memory.
    """

    run: Callable[[Clock], None]
    clips: int = 0
    frames: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    whole_process: bool = True


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a benchmark.

    Attributes:
        subject: whose ``build`` makes the work.
        name: of the row.
        config_file: the config.
        opts: ``KEY VALUE`` pairs that change it.
        options: the subject's own.
        device: ``cpu`` or ``cuda``.
        threads: of PyTorch and OpenCV; 0 for their own choice.
        warmup: calls before the first that counts.
        min_seconds: shortest repetition; quicker work is called several times.
        mmap_threshold: bytes from which glibc maps a block of memory alone and gives it back when it is freed;
            slower, but without gaps between blocks. 0 for its own choice.
    """

    subject: str
    name: str
    config_file: str
    opts: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 0
    warmup: int = 1
    min_seconds: float = 0.2
    mmap_threshold: int = 0
