"""Boundary F: agreement of contours within a tolerance (Perazzi et al., DAVIS, CVPR 2016, section 4)."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

TOLERANCE = 0.008  # share of the diagonal


def contour(mask: Tensor) -> Tensor:
    """Pixels that differ from their right, lower or lower right neighbour; the image's border does not count.

    Args:
        mask: bool (T, H, W).

    Returns:
        bool (T, H, W), contours one pixel wide.
    """
    result = torch.zeros_like(mask)
    result[:, :, :-1] |= mask[:, :, :-1] ^ mask[:, :, 1:]
    result[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    result[:, :-1, :-1] |= mask[:, :-1, :-1] ^ mask[:, 1:, 1:]
    return result


def boundary_f(prediction: Tensor, mask: Tensor, *, tolerance: float = TOLERANCE) -> Tensor:
    """F (beta = 1) of contour precision and recall per frame.

    A contour pixel counts as found when the other contour passes within ``ceil(tolerance * diagonal)`` pixels.
    A frame without any contour scores 1; one with a contour on one side only scores 0.

    Args:
        prediction: bool (T, H, W).
        mask: bool (T, H, W).
        tolerance: share of the diagonal, or pixels when 1 or more.

    Returns:
        float64 (T,).
    """
    height, width = mask.shape[-2:]
    radius = int(tolerance) if tolerance >= 1 else math.ceil(tolerance * math.hypot(height, width))
    ours, theirs = contour(prediction.bool()), contour(mask.bool())
    found = (ours & _dilate(theirs, radius)).count_nonzero((1, 2)).double()
    covered = (theirs & _dilate(ours, radius)).count_nonzero((1, 2)).double()
    num_ours, num_theirs = ours.count_nonzero((1, 2)), theirs.count_nonzero((1, 2))
    # Without a predicted contour precision is 1; without a labelled one recall is 1.
    precision = torch.where(num_ours == 0, torch.ones_like(found), found / num_ours.clamp(min=1))
    recall = torch.where(num_theirs == 0, torch.ones_like(found), covered / num_theirs.clamp(min=1))
    return torch.nan_to_num(2 * precision * recall / (precision + recall), nan=0.0)


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Pixels within ``radius`` of ``mask``, bool (T, H, W) on its device."""
    offset = np.arange(-radius, radius + 1) ** 2
    disk = (offset[:, None] + offset <= radius**2).astype(np.uint8)
    frames = mask.cpu().numpy().astype(np.uint8)
    return torch.from_numpy(np.stack([cv2.dilate(frame, disk) for frame in frames])).to(mask.device, torch.bool)
