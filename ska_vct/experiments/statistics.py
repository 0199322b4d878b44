"""Means over seeds, and paired differences between two models trained with the same seeds."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student_t

# With only two values the interval would extend nine standard deviations to either side.
MIN_FOR_INTERVAL = 3


@dataclass(frozen=True)
class Spread:
    """One metric over several runs.

    Attributes:
        n: number of runs.
        mean: mean over the runs.
        sd: sample standard deviation (n - 1); None for one value.
    """

    n: int
    mean: float
    sd: float | None

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Student's t interval of the mean; None for fewer than three values."""
        if self.n < MIN_FOR_INTERVAL or self.sd is None:
            return None
        half = float(student_t.ppf((1 + level) / 2, self.n - 1)) * self.sd / math.sqrt(self.n)
        return self.mean - half, self.mean + half


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and standard deviation; None if there are no values."""
    values = list(values)
    if not values:
        return None
    return Spread(len(values), fmean(values), stdev(values) if len(values) > 1 else None)


def paired_differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """``values - baseline`` for the seeds that both have, seed -> value."""
    return {seed: values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())}
