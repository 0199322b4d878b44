"""Cases measured in turn, a b a b ..., so that what else the machine does falls on all alike."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from .work import TOTAL, Case, Work
from .worker import Worker


@dataclass(kw_only=True)
class Measurement:
    """What was measured of one case.

    Attributes:
        case: the case.
        seconds: by part, of every repetition; ``total`` is the whole.
        clips, frames: per call.
        calls: per repetition.
        first_call_seconds: of the first call of all, compilation included.
        peak_bytes: peak memory above the start; None where it is not known.
        threads: of PyTorch.
        facts: what the subject adds.
    """

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    clips: int = 0
    frames: int = 0
    calls: int = 1
    first_call_seconds: float = 0.0
    peak_bytes: int | None = None
    threads: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def median(self, part: str = TOTAL) -> float:
        """Seconds of one call."""
        return statistics.median(self.seconds[part])

    def quartiles(self, part: str = TOTAL) -> tuple[float, float]:
        """Lower and upper quartile, seconds."""
        values = self.seconds[part]
        if len(values) < 2:
            return values[0], values[0]
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return low, high

    @property
    def clips_per_second(self) -> float:
        return self.clips / self.median()

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.median()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything, every repetition."""
        low, high = self.quartiles()
        result = {
            "name": self.case.name, "config": self.case.config_file, "changes": list(self.case.opts),
            "options": dict(self.case.options), "device": self.case.device, "threads": self.threads,
            "median_seconds": self.median(), "quartile_seconds": [low, high], "seconds": dict(self.seconds),
            "parts_median_seconds": {part: self.median(part) for part in self.seconds if part != TOTAL},
            "calls_per_repetition": self.calls, "first_call_seconds": self.first_call_seconds,
            "peak_bytes": self.peak_bytes, "clips": self.clips, "frames": self.frames, "facts": self.facts,
        }  # fmt: skip
        if self.clips:
            result["clips_per_second"] = self.clips_per_second
        if self.frames:
            result["frames_per_second"] = self.frames_per_second
        return result

    def _add(self, repetition: dict[str, float]) -> None:
        for part, value in repetition.items():
            self.seconds[part].append(value)

    def _started(self, answer: dict[str, Any]) -> None:
        for name, value in answer.items():
            setattr(self, name, value)

    def _stopped(self, peak: int | None) -> None:
        if peak is not None:
            self.peak_bytes = max(peak, self.peak_bytes or 0)


def measure_in_turn(
    cases: Sequence[Case],
    build: Callable[[Case], Work],
    *,
    repeat: int,
    apart: bool = False,
    progress: bool = True,
) -> list[Measurement]:
    """Measure ``cases``.

    Args:
        cases: what is measured.
        build: makes a case's work, in the process that measures it.
        repeat: repetitions of each.
        apart: one process at a time, started anew for every repetition: for models that do not fit into memory
            together. Else all are kept, ready, while one works.
        progress: show a bar.

    Raises:
        BenchmarkError: a case cannot be built, or its process was ended from outside.
    """
    measurements = [Measurement(case=case) for case in cases]
    workers: list[Worker] = []
    total = len(cases) * (2 * repeat if apart else 1 + repeat)
    bar = tqdm(total=total, desc="Measuring", unit="run", disable=not progress)

    def start(measurement: Measurement) -> Worker:
        bar.set_postfix_str(f"{measurement.case.name}: warm-up")
        workers.append(Worker(measurement.case, build))
        measurement._started(workers[-1].start())
        bar.update()
        return workers[-1]

    def run(measurement: Measurement, worker: Worker) -> None:
        bar.set_postfix_str(measurement.case.name)
        measurement._add(worker.run())
        bar.update()

    try:
        if apart:
            for _ in range(repeat):
                for measurement in measurements:
                    worker = start(measurement)
                    run(measurement, worker)
                    measurement._stopped(worker.stop())
        else:
            ready = [start(measurement) for measurement in measurements]
            for _ in range(repeat):
                for measurement, worker in zip(measurements, ready, strict=True):
                    run(measurement, worker)
            for measurement, worker in zip(measurements, ready, strict=True):
                measurement._stopped(worker.stop())
    finally:
        bar.close()
        for worker in workers:
            worker.kill()
    return measurements
