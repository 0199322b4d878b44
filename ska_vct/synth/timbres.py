"""Timbres of object classes: waveforms that an envelope then shapes.

A timbre takes ``(rng, pitch, onsets, num_samples, rate)``: a pitch factor near 1, the events' onsets in seconds,
and the number of samples and their rate. It returns float64 (num_samples,) of any level.
"""

import numpy as np
from scipy.signal import butter, sosfilt

from ska_vct.synth.classes import NUM_VARIANTS
from ska_vct.synth.envelopes import CONTROL_RATE, Envelope

# Pitch of each variant of a timbre in octaves; the held-out ones (the last two) lie between the others.
_VARIANT_OCTAVES = (-0.4, 0.35, -0.15, 0.45, 0.05, -0.3, 0.2, -0.08)
_SCALE = np.array([1, 9 / 8, 5 / 4, 4 / 3, 3 / 2])
_LEVEL = 0.12


def draw_sound(
    rng: np.random.Generator, timbre: str, variant: int, envelope: Envelope, *, rate: int
) -> np.ndarray:
    """The sound of one object over the clip.

    Args:
        timbre: name in ``TIMBRES``.
        variant: 0 .. NUM_VARIANTS - 1.
        rate: samples per second.

    Returns:
        float64 (seconds * rate,), root mean square about 0.12 where the envelope is 1, zero where it is 0.
    """
    num_samples = len(envelope.active) * rate
    pitch = 2 ** (_VARIANT_OCTAVES[variant % NUM_VARIANTS] + rng.uniform(-0.05, 0.05))
    wave = TIMBRES[timbre](rng, pitch, envelope.onsets, num_samples, rate)
    wave *= _LEVEL / max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    time = np.arange(num_samples) / rate
    loudness = np.interp(time, np.arange(len(envelope.values)) / CONTROL_RATE, envelope.values)
    return wave * loudness * rng.uniform(0.7, 1.3)


def _since_onset(onsets: np.ndarray, num_samples: int, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since the last onset, and that event's number (0 before the first), both (num_samples,)."""
    time = np.arange(num_samples) / rate
    event = np.clip(np.searchsorted(onsets, time, side="right") - 1, 0, None)
    since = time - onsets[event] if len(onsets) else time
    return np.maximum(since, 0.0), event


def _melody(rng: np.random.Generator, event: np.ndarray) -> np.ndarray:
    return rng.choice(_SCALE, size=int(event.max()) + 1)[event]


def _partials(frequency: np.ndarray, rate: int, partials: dict[float, float]) -> np.ndarray:
    """Sum of ``ratio: weight`` sines of a varying frequency in Hz, without those above the rate's limit."""
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    top = 0.45 * rate / frequency.max()
    return sum(
        (weight * np.sin(ratio * phase) for ratio, weight in partials.items() if ratio < top), np.zeros(len(phase))
    )


def _band_noise(rng: np.random.Generator, low: float, high: float, num_samples: int, rate: int) -> np.ndarray:
    sos = butter(2, [low, min(high, 0.45 * rate)], btype="bandpass", fs=rate, output="sos")
    noise = sosfilt(sos, rng.standard_normal(num_samples))
    return noise / max(float(noise.std()), 1e-9)


def _bowed_string(rng, pitch, onsets, num_samples, rate):
    since, event = _since_onset(onsets, num_samples, rate)
    vibrato = 1 + 0.012 * np.sin(2 * np.pi * 5.5 * since)
    return _partials(392 * pitch * _melody(rng, event) * vibrato, rate, {k: 1 / k for k in range(1, 9)})


def _drum(rng, pitch, onsets, num_samples, rate):
    since, _ = _since_onset(onsets, num_samples, rate)
    thump = _partials(130 * pitch * (1 + np.exp(-since / 0.03)), rate, {1: 1.0, 2.3: 0.3})
    return thump + 0.8 * np.exp(-since / 0.015) * _band_noise(rng, 200, 900, num_samples, rate)


def _struck_bar(rng, pitch, onsets, num_samples, rate):
    _, event = _since_onset(onsets, num_samples, rate)
    return _partials(1300 * pitch * _melody(rng, event), rate, {1: 1.0, 2.76: 0.5, 5.4: 0.2})


def _bark(rng, pitch, onsets, num_samples, rate):
    since, _ = _since_onset(onsets, num_samples, rate)
    throat = _partials(340 * pitch * 2 ** (-1.5 * np.minimum(since, 0.5)), rate, {1: 0.4, 2: 1.0, 3: 0.7, 5: 0.2})
    return throat + 0.7 * _band_noise(rng, 500 * pitch, 1400 * pitch, num_samples, rate)


def _siren(rng, pitch, onsets, num_samples, rate):
    since, _ = _since_onset(onsets, num_samples, rate)
    sweep = 2 ** (0.5 * np.sin(2 * np.pi * 1.7 * since))
    return _partials(900 * pitch * sweep, rate, {1: 1.0, 3: 0.33, 5: 0.15})


def _rotor(rng, pitch, onsets, num_samples, rate):
    time = np.arange(num_samples) / rate
    chop = (0.5 + 0.5 * np.sin(2 * np.pi * 14 * pitch * time)) ** 2
    return (0.15 + chop) * _band_noise(rng, 70, 380 * pitch, num_samples, rate)


def _meow(rng, pitch, onsets, num_samples, rate):
    since, _ = _since_onset(onsets, num_samples, rate)
    glide = 2 ** (0.7 * np.sin(np.pi * np.minimum(since / 0.6, 1)))
    return _partials(560 * pitch * glide, rate, {1: 0.5, 2: 1.0, 3: 0.9, 4: 0.4})


def _buzz(rng, pitch, onsets, num_samples, rate):
    engine = _partials(np.full(num_samples, 95.0 * pitch), rate, {k: 1 / np.sqrt(k) for k in range(1, 16)})
    return 0.4 * engine + _band_noise(rng, 2500 * pitch, 6000, num_samples, rate)


TIMBRES = {
    "bowed_string": _bowed_string,
    "drum": _drum,
    "struck_bar": _struck_bar,
    "bark": _bark,
    "siren": _siren,
    "rotor": _rotor,
    "meow": _meow,
    "buzz": _buzz,
}
