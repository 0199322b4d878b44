"""Log-mel on a clip's time line: hop m begins at m / 100 s, so that second k holds hops 100 k to 100 k + 99.

VGGish's patches are 0.96 s long and follow each other without a gap, so patch k begins at 0.96 k s: almost four
tenths of a second early in the tenth second. What compares audio with motion over time reads whole seconds.

Shape legend: M hops of a clip's spectrogram, T seconds.
"""

import numpy as np

from ska_vct.data.audio.log_mel import HOP, LOG_OFFSET, NUM_BANDS, SAMPLE_RATE

HOPS_PER_SECOND = SAMPLE_RATE // HOP


def patches_to_spectrogram(patches: np.ndarray) -> np.ndarray:
    """Join VGGish's patches to the spectrogram they were cut from, without the filling at its end.

    AVSBench fills clips whose audio is short: AVSBench-object repeats the last patch, AVSBench-semantic appends
    zeros. Neither is audio; patches of digital silence, which are alike as well, are.

    Args:
        patches: float32 (P, 1, 96, 64).

    Returns:
        float32 (M, 64), M at most 96 P.
    """
    count = len(patches)
    while count and not patches[count - 1].any():
        count -= 1
    silent = np.float32(np.log(LOG_OFFSET))
    while count > 1 and np.array_equal(patches[count - 1], patches[count - 2]):
        if np.allclose(patches[count - 1], silent, atol=1e-3):
            break
        count -= 1
    return patches[:count].reshape(-1, NUM_BANDS)


def seconds(spectrogram: np.ndarray, num_seconds: int) -> np.ndarray:
    """Cut a spectrogram into whole seconds.

    Args:
        spectrogram: float (M, 64), hop 0 at the clip's start.
        num_seconds: T.

    Returns:
        float32 (T, 1, 100, 64); NaN in hops that the spectrogram does not hold.
    """
    wanted = num_seconds * HOPS_PER_SECOND
    result = np.full((wanted, NUM_BANDS), np.nan, np.float32)
    result[: len(spectrogram)] = spectrogram[:wanted]
    return result.reshape(num_seconds, 1, HOPS_PER_SECOND, NUM_BANDS)
