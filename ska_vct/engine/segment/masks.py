"""From class scores at the network's size to masks at the video's, without holding all classes at that size.

Shape legend: K classes, h x w the network's size, H x W the video's.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from .result import class_probabilities

# Numbers at the video's size at a time.
_NUMBERS = 1 << 24


def frame_labels(sem_seg: torch.Tensor, size: tuple[int, int], threshold: float | None = None) -> np.ndarray:
    """The class of each pixel: that of the scores enlarged bilinearly, as the evaluation enlarges them.

    Args:
        sem_seg: (K, h, w), class scores of one frame, not normalised.
        size: (H, W).
        threshold: None for the class with the highest score, as in the papers; else the best class but background
            where its score (:func:`class_probabilities`) exceeds this.

    Returns:
        uint8 (H, W).
    """
    if threshold is None:
        classes, limit = _candidates(sem_seg), -math.inf
        values = sem_seg[classes.to(sem_seg.device)]
    elif len(sem_seg) == 2:
        # Enlarged before the softmax, so that 0.5 gives the argmax.
        classes, limit = torch.ones(1, dtype=torch.long), _logit(threshold)
        values = (sem_seg[1] - sem_seg[0])[None]
    else:
        scores = class_probabilities(sem_seg[None])[0, 1:]
        chosen = (scores.amax((1, 2)) > threshold).nonzero()[:, 0]
        classes, limit, values = chosen.cpu() + 1, threshold, scores[chosen]
    result = np.zeros(size, np.uint8)
    if not len(classes):
        return result
    # Rows of the result at a time: many classes of a large frame do not fit into memory.
    bands = -(-len(classes) * size[0] * size[1] // _NUMBERS)
    for rows in np.array_split(np.arange(size[0]), min(bands, size[0])):
        best, index = _enlarge_rows(values, size, int(rows[0]), int(rows[-1]) + 1).max(0)
        labels = classes.to(index.device)[index]
        result[rows[0] : rows[-1] + 1] = labels.where(best > limit, 0).to(torch.uint8).cpu().numpy()
    return result


def _candidates(sem_seg: torch.Tensor) -> torch.Tensor:
    """Classes that can have the highest score anywhere after bilinear enlargement.

    An enlarged score lies between the smallest and the largest of its neighbours. So a class can win only where
    its neighbourhood's largest score reaches the smallest one of every other class.
    """
    if len(sem_seg) == 2:
        return torch.arange(2)
    largest = F.max_pool2d(sem_seg, 3, 1, 1)
    smallest = -F.max_pool2d(-sem_seg, 3, 1, 1)
    possible = (largest >= smallest.amax(0)).flatten(1).any(1)
    return possible.nonzero()[:, 0].cpu()


def _enlarge_rows(values: torch.Tensor, size: tuple[int, int], first: int, stop: int) -> torch.Tensor:
    """Rows ``first`` to ``stop`` of bilinear enlargement to ``size``, (K, stop - first, W)."""
    if (first, stop) == (0, size[0]):
        return F.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    # align_corners=False, written out for the rows; columns are enlarged after them.
    height = values.shape[1]
    at = ((torch.arange(first, stop, device=values.device) + 0.5) * (height / size[0]) - 0.5).clamp(min=0)
    above = at.floor().long().clamp(max=height - 1)
    below = (above + 1).clamp(max=height - 1)
    share = (at - above)[None, :, None].to(values.dtype)
    rows = values[:, above] * (1 - share) + values[:, below] * share
    return F.interpolate(rows[None], size=(stop - first, size[1]), mode="bilinear", align_corners=False)[0]


def _logit(probability: float) -> float:
    if probability in (0, 1):
        return -math.inf if probability == 0 else math.inf
    return math.log(probability / (1 - probability))
