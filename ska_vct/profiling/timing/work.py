"""Descriptions of benchmark work that another process can build."""

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
    """A benchmark cannot be run as requested."""


class Clock:
    """Times the parts of one call, in seconds.

    On a GPU it uses CUDA events, so that timing a part does not synchronize.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any, Any]] = []
        self._added: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str = TOTAL) -> Iterator[None]:
        """Time the block as ``part``."""
        start = self._now()
        yield
        self._marks.append((part, start, self._now()))

    def add(self, part: str, seconds: float) -> None:
        """Count seconds that the work has measured itself."""
        self._added[part] += seconds

    def read(self) -> dict[str, float]:
        """Seconds by part, including ``total``: the part of that name, else the sum of all parts."""
        if self._cuda:
            torch.cuda.synchronize()
        seconds: dict[str, float] = defaultdict(float, self._added)
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
    """Work that can be run repeatedly.

    Attributes:
        run: performs one call and times itself with the given clock.
        clips, frames: number processed per call; 0 if not applicable.
        facts: further facts for the report.
        whole_process: whether the memory of the process represents that of the work.
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
        subject: name of the subject whose ``build`` creates the work.
        name: name of the row.
        config_file: the config.
        opts: ``KEY VALUE`` overrides.
        options: options of the subject.
        device: ``cpu`` or ``cuda``.
        threads: threads of PyTorch and OpenCV; 0 for their default.
        warmup: calls before the first measured one.
        min_seconds: minimum duration of a repetition; faster work is called several times.
        mmap_threshold: size in bytes from which glibc maps each block separately and returns it when freed, which
            is slower but avoids fragmentation; 0 for its default.
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
