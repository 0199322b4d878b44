"""Log-mel patches from ``.npy`` files and from pickles of one tensor, checked for what audio can be.

Magnitudes are never negative, so the least value is ln(0.01). The most is that of a full-scale tone: a window of
sum 200 makes its magnitude at most 200 times its peak in every bin, and a band adds its bins by weights whose sum
is known. ``MAX_PEAK`` leaves 20 dB for audio beyond full scale.
"""

import math
import os

import numpy as np
import torch

from ska_vct.data.audio.log_mel import LOG_OFFSET, MAX_PEAK, NUM_BANDS, PATCH_FRAMES, hann_window, mel_matrix
from ska_vct.utils.array_files import ArrayFileError, parse_npy, read_bytes
from ska_vct.utils.array_pickle import UnsafePickleError, load_arrays
from ska_vct.utils.media.errors import AudioError

PATCH_SHAPE = (1, PATCH_FRAMES, NUM_BANDS)
# An hour in double precision.
_MAX_BYTES = 1 << 28
# Half of bfloat16's steps near ln(0.01), generously.
_ROUNDING = 0.05


def log_mel_bounds() -> tuple[float, float]:
    """Least and largest value that the log-mel of audio can have."""
    loudest = MAX_PEAK * hann_window().sum() * mel_matrix().sum(axis=0).max()
    return math.log(LOG_OFFSET) - _ROUNDING, math.log(loudest + LOG_OFFSET) + _ROUNDING


def read_log_mel_npy(path: str | os.PathLike) -> np.ndarray:
    """Patches of a ``.npy`` file, float32 (P, 1, 96, 64).

    Raises:
        AudioError: the file cannot be read, or does not hold the log-mel of audio.
    """
    try:
        return _checked(path, parse_npy(read_bytes(path, limit=_MAX_BYTES), kinds="fiu"))
    except ArrayFileError as error:
        raise AudioError(
            f"Log-mel file {path} cannot be read: it {error}; make it again or set INPUT.AUDIO.SOURCE to wav."
        ) from None


def read_log_mel_pickle(path: str | os.PathLike) -> np.ndarray:
    """Patches of a pickled tensor or array, or of a file of ``torch.save``, float32 (P, 1, 96, 64).

    Raises:
        AudioError: the file cannot be read, asks for anything but numbers, or does not hold the log-mel of audio.
    """
    try:
        value = load_arrays(read_bytes(path, limit=_MAX_BYTES))
    except (ArrayFileError, UnsafePickleError) as error:
        raise AudioError(
            f"Log-mel pickle {path} cannot be read: it {error}; only tensors and arrays are loaded, make it again "
            "or set INPUT.AUDIO.SOURCE to wav."
        ) from None
    if isinstance(value, torch.Tensor):
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if not isinstance(value, np.ndarray):
        raise AudioError(
            f"Log-mel pickle {path} holds a {type(value).__name__}, expected a tensor (seconds, 1, 96, 64)."
        )
    return _checked(path, value)


def _checked(path: str | os.PathLike, log_mel: np.ndarray) -> np.ndarray:
    if log_mel.dtype.kind != "f" or log_mel.ndim != 4 or log_mel.shape[1:] != PATCH_SHAPE or not len(log_mel):
        raise AudioError(
            f"Log-mel of {path} is {log_mel.dtype} {log_mel.shape}, expected floats (seconds, 1, 96, 64); make it "
            "again."
        )
    low, high = log_mel_bounds()
    least, most = float(log_mel.min()), float(log_mel.max())  # NaN where there is one
    if not (math.isfinite(least) and math.isfinite(most)):
        raise AudioError(f"Log-mel of {path} holds values that are not finite; make it again.")
    if least < low or most > high:
        raise AudioError(
            f"Log-mel of {path} ranges from {least:.4g} to {most:.4g}, but that of audio lies between {low:.2f} "
            f"and {high:.2f}; the file is damaged or holds something else: make it again."
        )
    return log_mel.astype(np.float32)
