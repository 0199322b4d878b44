"""Boundary F: how well contours agree, within a tolerance (Perazzi et al., DAVIS, CVPR 2016; spec: metrics.md)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 0.008  # share of the diagonal


def contour(mask: Tensor) -> Tensor:
    """Pixels that differ from their right, lower or lower right neighbour.

    Args:
        mask: bool (T, H, W).

    Returns:
        bool (T, H, W), contours one pixel wide.
    """
    # repeating the last row and column makes the picture's own rim no contour
    padded = F.pad(mask.float()[:, None], (0, 1, 0, 1), mode="replicate")[:, 0] > 0.5
    right, lower, diagonal = padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    return (mask ^ right) | (mask ^ lower) | (mask ^ diagonal)


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
    disk = _disk(radius).to(mask.device)
    found = (ours & _dilate(theirs, disk)).flatten(1).sum(1).double()
    covered = (theirs & _dilate(ours, disk)).flatten(1).sum(1).double()
    num_ours, num_theirs = ours.flatten(1).sum(1), theirs.flatten(1).sum(1)
    # nothing predicted is nothing wrong, nothing labelled is nothing missed
    precision = torch.where(num_ours == 0, torch.ones_like(found), found / num_ours.clamp(min=1))
    recall = torch.where(num_theirs == 0, torch.ones_like(found), covered / num_theirs.clamp(min=1))
    return torch.nan_to_num(2 * precision * recall / (precision + recall), nan=0.0)


def _disk(radius: int) -> Tensor:
    steps = torch.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps[None] ** 2 <= radius**2).float()


def _dilate(mask: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(mask.float()[:, None], kernel[None, None], padding=kernel.shape[0] // 2)[:, 0] > 0.5
