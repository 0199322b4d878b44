"""Colours of label maps: PASCAL VOC's palette, as in AVSBench's ``labels_rgb`` (docs/data.md)."""

import numpy as np


def voc_palette(num_colors: int) -> np.ndarray:
    """Colours of the labels 0 .. ``num_colors`` - 1.

    The bits of a label, lowest first, go to red, green, blue in turn, from a channel's highest bit down:
    1 is (128, 0, 0), 2 is (0, 128, 0), 8 is (64, 0, 0), 70 is (32, 128, 128).

    Returns:
        uint8 (num_colors, 3), RGB.
    """
    labels = np.arange(num_colors)
    palette = np.zeros((num_colors, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette
