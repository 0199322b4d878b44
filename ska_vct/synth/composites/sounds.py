"""From recordings to a clip's audio and to the loudness that drives motion."""

import numpy as np
from scipy.ndimage import uniform_filter1d

from ska_vct.data.audio.log_mel import SAMPLE_RATE
from ska_vct.synth.envelopes import CONTROL_RATE, Envelope, active_runs, least_correlated

_PIECE, _GAP = (0.25, 1.2), (0.05, 0.5)  # seconds
_FADE_IN, _FADE_OUT = 0.01, 0.04
_PITCH = (0.87, 1.15)
# Root mean square of a track where it sounds, of full scale.
_LEVEL = (0.05, 0.2)
_WINDOW = 0.03
# Loudness below this share of the track's loud moments moves nothing.
_FLOOR = 0.08
_TRIES = 8


def draw_track(rng: np.random.Generator, recording: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, Envelope]:
    """Pieces of a recording, 0.05 to 0.5 s apart, so that loudness varies within every second.

    Args:
        recording: float (n,) at 16 kHz, peak 1.
        active: bool (seconds,), where pieces may lie.

    Returns:
        samples float64 (seconds * 16000,), and their loudness, 0..1.
    """
    pitch = rng.uniform(*_PITCH)
    recording = np.interp(np.arange(0, len(recording) - 1, pitch), np.arange(len(recording)), recording)
    track, onsets = np.zeros(len(active) * SAMPLE_RATE), []
    for start, stop in active_runs(active):
        onset = start + rng.uniform(0, 0.2)
        while onset < stop - 0.1:
            piece = _piece(rng, recording) * rng.uniform(0.5, 1.0)
            first = round(onset * SAMPLE_RATE)
            piece = piece[: round(stop * SAMPLE_RATE) - first]
            fade = min(len(piece), round(_FADE_OUT * SAMPLE_RATE))
            piece[len(piece) - fade :] *= np.linspace(1, 0, fade)
            track[first : first + len(piece)] += piece
            onsets.append(onset)
            onset += len(piece) / SAMPLE_RATE + rng.uniform(*_GAP)
    heard = np.abs(track) > 0
    if heard.any():
        track *= rng.uniform(*_LEVEL) / np.sqrt(np.mean(track[heard] ** 2))
    return track, Envelope(values=_loudness(track), onsets=np.array(onsets), active=np.asarray(active, bool))


def draw_unrelated_track(
    rng: np.random.Generator, recordings: list[np.ndarray], active: np.ndarray, other: Envelope
) -> Envelope:
    """Loudness of a track that hardly correlates with ``other``; nobody hears the track."""

    def draw() -> Envelope:
        return draw_track(rng, recordings[rng.integers(len(recordings))], active)[1]

    return least_correlated(draw, other, tries=_TRIES)


def _piece(rng: np.random.Generator, recording: np.ndarray) -> np.ndarray:
    """A piece that is not quiet, or the whole of a short recording, float64 (n,)."""
    length = min(len(recording), round(rng.uniform(*_PIECE) * SAMPLE_RATE))
    loud = np.sqrt(np.mean(recording**2))
    for _ in range(_TRIES):
        start = int(rng.integers(0, len(recording) - length + 1))
        piece = recording[start : start + length].copy()
        if np.sqrt(np.mean(piece**2)) > 0.5 * loud:
            break
    fade = min(length, round(_FADE_IN * SAMPLE_RATE))
    piece[:fade] *= np.linspace(0, 1, fade)
    return piece


def _loudness(track: np.ndarray) -> np.ndarray:
    """Square root of the amplitude, which is closer to what is heard, (seconds * CONTROL_RATE,) in 0..1."""
    power = uniform_filter1d(track**2, round(_WINDOW * SAMPLE_RATE), mode="constant")
    amplitude = np.sqrt(np.maximum(power, 0))[:: SAMPLE_RATE // CONTROL_RATE]
    top = np.percentile(amplitude[amplitude > 0], 95) if (amplitude > 0).any() else 1.0
    values = np.sqrt(np.clip(amplitude / top, 0, 1))
    return np.where(values > np.sqrt(_FLOOR), values, 0.0)
