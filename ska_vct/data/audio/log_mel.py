"""Audio to log-mel patches, exactly as VGGish does it (Hershey et al., 2017; docs/data.md, "Log-mel").

Shape legend
    N   samples of the waveform
    ch  its channels
    M   spectrogram frames, one per 10 ms
    P   patches of 96 spectrogram frames, one per second of a clip
"""

from functools import lru_cache

import numpy as np

SAMPLE_RATE = 16000
WINDOW = 400  # 25 ms
HOP = 160  # 10 ms
FFT_SIZE = 512
NUM_BANDS = 64
MIN_HZ, MAX_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01
# Largest sample in full scales, 20 dB: files of floats may exceed 1, but unscaled integers are not audio.
MAX_PEAK = 10.0
PATCH_FRAMES = 96
# Shortest waveform that fills one patch, samples at 16 kHz.
MIN_SAMPLES = WINDOW + (PATCH_FRAMES - 1) * HOP


@lru_cache(maxsize=1)
def hann_window() -> np.ndarray:
    """Periodic Hann window of 25 ms, float64 (400,)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    window.flags.writeable = False
    return window


@lru_cache(maxsize=1)
def mel_matrix() -> np.ndarray:
    """Weights of the 64 HTK-mel bands, float64 (257, 64); triangles are linear in mel, the DC bin is zero."""

    def to_mel(hertz):
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    bins = to_mel(np.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1))[:, None]
    edges = np.linspace(to_mel(MIN_HZ), to_mel(MAX_HZ), NUM_BANDS + 2)
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    matrix = np.maximum(0.0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
    matrix[0] = 0.0
    matrix.flags.writeable = False
    return matrix


def resample_to_16k(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample (N,) floats to 16 kHz with resampy's ``kaiser_best``, the literature's resampler."""
    if sample_rate == SAMPLE_RATE:
        return wave
    # Imported late: it compiles for some seconds on first use, which 16 kHz audio never needs.
    import resampy

    return resampy.resample(wave, sample_rate, SAMPLE_RATE, filter="kaiser_best")


def log_mel_spectrogram(wave16k: np.ndarray) -> np.ndarray:
    """ln(mel + 0.01) of a 16 kHz waveform.

    Args:
        wave16k: (N,) floats in -1..1.

    Returns:
        float64 (M, 64), M = 1 + (N - 400) // 160, none where N < 400.
    """
    wave16k = np.asarray(wave16k, dtype=np.float64)
    if len(wave16k) < WINDOW:
        return np.zeros((0, NUM_BANDS))
    frames = np.lib.stride_tricks.sliding_window_view(wave16k, WINDOW)[::HOP]
    magnitude = np.abs(np.fft.rfft(frames * hann_window(), FFT_SIZE))
    return np.log(magnitude @ mel_matrix() + LOG_OFFSET)


def waveform_to_log_mel(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Log-mel patches of a mono waveform.

    Args:
        wave: (N,) floats in -1..1.
        sample_rate: Hz.

    Returns:
        float32 (P, 1, 96, 64); what does not fill a patch at the end is left out.
    """
    return to_patches(log_mel_spectrogram(resample_to_16k(np.asarray(wave), sample_rate)))


def to_patches(spectrogram: np.ndarray) -> np.ndarray:
    """Spectrogram (M, 64) -> VGGish's patches, float32 (P, 1, 96, 64); what does not fill one is left out."""
    patches = len(spectrogram) // PATCH_FRAMES
    spectrogram = spectrogram[: patches * PATCH_FRAMES].astype(np.float32)
    return spectrogram.reshape(patches, 1, PATCH_FRAMES, NUM_BANDS)


def to_mono(samples: np.ndarray) -> np.ndarray:
    """(N,) or (N, ch) samples, integers of their type's full range or floats in -1..1, to (N,) float64."""
    samples = np.asarray(samples)
    if samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    samples = samples.astype(np.float64, copy=False)
    return samples if samples.ndim == 1 else samples.mean(axis=1)


def apply_gain(log_mel: np.ndarray, decibels: float) -> np.ndarray:
    """Log-mel of the same audio, ``decibels`` louder.

    ln(mel + 0.01) is not linear in the gain, so the magnitudes are recovered first. Patches that are all zero
    are AVSS's padding rather than audio and stay as they are.

    Args:
        log_mel: float32 (P, 1, 96, 64).
    """
    mel = np.maximum(np.exp(log_mel) - np.float32(LOG_OFFSET), 0)
    louder = np.log(mel * np.float32(10 ** (decibels / 20)) + np.float32(LOG_OFFSET))
    filling = (log_mel == 0).all(axis=(1, 2, 3), keepdims=True)
    return np.where(filling, log_mel, louder).astype(np.float32)
