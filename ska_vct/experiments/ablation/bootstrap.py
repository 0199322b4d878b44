"""Bootstrap intervals of a row's scores over seeds and clips, from the ``per_clip.csv`` of its runs."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LEVEL, _DRAWS = 0.95, 2000


@dataclass(frozen=True)
class ClipScore:
    """A score of a split under a condition as a ratio of sums over clips; without ``over``, a mean over clips.

    Attributes:
        plus, minus: columns of ``per_clip.csv`` that are added to and taken from the numerator.
        over: column of the denominator.
    """

    split: str
    condition: str
    plus: str
    minus: str = ""
    over: str = ""


def read_clips(path: Path) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Rows of a run's ``per_clip.csv`` by split and condition; empty if the file does not exist."""
    if not path.is_file():
        return {}
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["split"], row["condition"]), []).append(row)
    return found


def interval(
    runs: Sequence[Mapping[tuple[str, str], Sequence[Mapping[str, str]]]], score: ClipScore, *, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of the mean over runs; seeds and clips are both drawn again with replacement.

    All runs score the same clips, so each draw takes the same clips for every run in it.

    Args:
        runs: results of ``read_clips``, one per training seed.
        seed: of the draws.

    Returns:
        lower and upper end in percent; None if a run lacks the score.
    """
    tables = [run.get((score.split, score.condition)) for run in runs]
    if not runs or any(not table or score.plus not in table[0] for table in tables):
        return None
    top = np.array([[_number(row, score.plus) - _number(row, score.minus) for row in table] for table in tables])
    below = np.array([[_number(row, score.over) if score.over else 1.0 for row in table] for table in tables])
    if not below.sum():
        return None
    rng = np.random.default_rng(seed)
    num_runs, num_clips = top.shape
    # How often each clip is in each draw.
    clips = rng.multinomial(num_clips, np.full(num_clips, 1 / num_clips), size=_DRAWS)
    values = (clips @ top.T) / np.maximum(clips @ below.T, 1)  # draws, runs
    chosen = rng.integers(num_runs, size=(_DRAWS, num_runs))
    means = np.take_along_axis(values, chosen, axis=1).mean(1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]) * (100 if score.over else 1)
    return float(low), float(high)


def _number(row: Mapping[str, str], column: str) -> float:
    return float(row[column] or 0) if column else 0.0
