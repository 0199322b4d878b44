"""Loudness over time: single events 0.25-0.9 s apart, so that loudness varies within each second."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Steps per second of all control signals: envelopes and the motion driven by them.
CONTROL_RATE = 1000
_ONSET_GAP = (0.25, 0.9)
_FADE = 0.03


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Activity of an object over a clip.

    Attributes:
        values: float64 (seconds * CONTROL_RATE,), 0..1.
        onsets: float64 (events,), seconds, increasing.
        active: bool (seconds,), the seconds in which it is active; ``values`` is exactly zero in the others.
    """

    values: np.ndarray
    onsets: np.ndarray
    active: np.ndarray


def draw_envelope(rng: np.random.Generator, events: str, active: np.ndarray) -> Envelope:
    """Draw the events of one object.

    Args:
        events: name in ``EVENTS``.
        active: bool (seconds,).
    """
    shape = EVENTS[events]
    time = np.arange(len(active) * CONTROL_RATE) / CONTROL_RATE
    values, onsets = np.zeros(len(time)), []
    for start, stop in active_runs(active):
        onset, run = start + rng.uniform(0.0, 0.2), np.zeros(len(time))
        while onset < stop - 0.1:
            gap = rng.uniform(*_ONSET_GAP)
            onsets.append(onset)
            run = np.maximum(run, rng.uniform(0.6, 1.0) * shape(rng, time - onset, gap))
            onset += gap
        # An event that outlasts its run is faded out, not cut.
        values += run * np.clip((stop - time) / _FADE, 0, 1)
    return Envelope(values=values, onsets=np.array(onsets), active=np.asarray(active, dtype=bool))


def draw_unrelated_envelope(
    rng: np.random.Generator, events: str, active: np.ndarray, other: Envelope
) -> Envelope:
    """An envelope with an independent rhythm: the first of a few draws that hardly correlates, else the best."""
    return least_correlated(lambda: draw_envelope(rng, events, active), other, tries=20)


def least_correlated(draw: Callable[[], Envelope], other: Envelope, *, tries: int) -> Envelope:
    """The first of ``tries`` draws that hardly correlates with ``other``, else the one that does least."""
    best, lowest = None, np.inf
    for _ in range(tries):
        drawn = draw()
        correlation = correlate(drawn.values, other.values)
        if correlation < lowest:
            best, lowest = drawn, correlation
        if lowest < 0.1:
            break
    return best


def correlate(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation; 0 where a signal is constant."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def active_runs(active: np.ndarray) -> list[tuple[int, int]]:
    """First and last second (exclusive) of each run of active seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(active, dtype=int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _hit(rng: np.random.Generator, time: np.ndarray, gap: float) -> np.ndarray:
    """Sharp onset, exponential decay."""
    decay = rng.uniform(0.12, 0.22)
    return np.where(time < 0, 0.0, np.clip(time / 0.008, 0, 1) * np.exp(-np.maximum(time, 0) / decay))


def _swell(rng: np.random.Generator, time: np.ndarray, gap: float) -> np.ndarray:
    """A raised cosine."""
    length = gap * rng.uniform(0.7, 0.95)
    return np.where((time < 0) | (time > length), 0.0, np.sin(np.pi * time / length) ** 2)


def _hold(rng: np.random.Generator, time: np.ndarray, gap: float) -> np.ndarray:
    """On at once, held, off at once."""
    length = gap * rng.uniform(0.45, 0.7)
    return np.clip(np.minimum(time, length - time) / 0.03, 0, 1)


EVENTS = {"hit": _hit, "swell": _swell, "hold": _hold}
