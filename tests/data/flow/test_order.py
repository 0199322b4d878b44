"""Flow of a clip does not depend on the clips before it."""

import cv2
import numpy as np

from ska_vct.data.flow.methods.base import dis_flow


def shifted_pair(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random texture and the same moved by (2, -1) pixels."""
    texture = cv2.GaussianBlur(np.random.default_rng(0).random((side + 8, side + 8)).astype(np.float32), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return texture[4:-4, 4:-4].copy(), texture[3:-5, 2:-6].copy()


def test_a_small_picture_leaves_no_trace_in_later_flow():
    pair = shifted_pair(96)
    before = dis_flow(*pair)
    dis_flow(*shifted_pair(24))
    assert np.array_equal(dis_flow(*pair), before)
