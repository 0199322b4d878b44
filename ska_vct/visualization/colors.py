"""Colours of masks: AVSBench's palette for classes, and a colour-blind-safe palette for everything else.

The latter is that of Okabe and Ito, *Color Universal Design*, 2008: https://jfly.uni-koeln.de/color/.
"""

import numpy as np

from ska_vct.utils.palette import voc_palette

ORANGE, SKY_BLUE, VERMILLION = (230, 159, 0), (86, 180, 233), (213, 94, 0)
YELLOW, PURPLE = (240, 228, 66), (204, 121, 167)

# S4 and MS3: background and the sounding object.
BINARY_PALETTE = np.array([(0, 0, 0), ORANGE], np.uint8)
OBJECT_NAME = "sounding object"

# Comparison of a prediction with its ground truth: codes of ``outcome_map`` are the positions in this list.
OUTCOMES = (
    ("background", (0, 0, 0)),
    ("correct (TP)", SKY_BLUE),
    ("false positive (FP)", VERMILLION),
    ("missed (FN)", YELLOW),
    ("wrong class", PURPLE),
)
CORRECT, FALSE_POSITIVE, MISSED, WRONG_CLASS = 1, 2, 3, 4
OUTCOME_PALETTE = np.array([color for _, color in OUTCOMES], np.uint8)


def label_palette(num_classes: int) -> np.ndarray:
    """Colours of labels, uint8 (num_classes, 3): AVSBench's, or a single vivid one for two classes."""
    return BINARY_PALETTE if num_classes == 2 else voc_palette(num_classes)
