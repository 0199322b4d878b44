"""Measures cases in turn, a b a b ..., so that other load on the machine affects all of them equally."""

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
    """Measurements of one case.

    Attributes:
        case: the case.
        seconds: by part, one value per repetition; ``total`` is the whole call.
        clips, frames: number per call.
        calls: calls per repetition.
        first_call_seconds: duration of the very first call, including compilation.
        peak_bytes: peak memory above the initial use; None if unknown.
        threads: PyTorch threads.
        facts: further facts added by the subject.
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
        """Median seconds per call."""
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
        """All fields and all repetitions, for JSON."""
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
        cases: the cases.
        build: creates the work of a case, in the process that measures it.
        repeat: repetitions of each case.
        apart: run only one process at a time and restart it for every repetition, for models that do not fit into
            memory together. Else all processes stay alive and take turns.
        progress: show a progress bar.

    Raises:
        BenchmarkError: a case cannot be built, or its process was killed.
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
