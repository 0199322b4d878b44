"""Costs and losses on mask logits, at points or on all cells (Mask2Former, CVPR 2022; training.md).

Shape legend: Q queries, M targets, X points or cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_points(maps: Tensor, coords: Tensor) -> Tensor:
    """Bilinear values of (N, C, h, w) at ``coords`` (N, X, 2), x and y in 0..1: (N, C, X)."""
    grid = (2 * coords - 1)[:, None]
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, :, 0]


def pairwise_mask_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query against every target.

    Args:
        logits: (..., Q, X).
        targets: (..., M, X) in 0..1.

    Returns:
        (..., Q, M).
    """
    # -t ln s(x) - (1 - t) ln(1 - s(x)) = softplus(x) - t x
    return (F.softplus(logits).sum(-1, keepdim=True) - logits @ targets.transpose(-1, -2)) / logits.shape[-1]


def pairwise_dice_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice distance of every query to every target; shapes as in ``pairwise_mask_cost``."""
    probability = logits.sigmoid()
    overlap = 2 * probability @ targets.transpose(-1, -2)
    total = probability.sum(-1)[..., :, None] + targets.sum(-1)[..., None, :]
    return 1 - (overlap + 1) / (total + 1)


def pairwise_class_cost(logits: Tensor, classes: Tensor) -> Tensor:
    """Minus the probability of each target's class.

    Args:
        logits: (..., Q, K + 1).
        classes: int64 (..., M).

    Returns:
        (..., Q, M).
    """
    index = classes[..., None, :].expand(*logits.shape[:-1], -1)
    return -logits.softmax(-1).gather(-1, index)


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of pairs: (T, X), (T, X) -> (T,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice distance of pairs: (T, X), (T, X) -> (T,)."""
    probability = logits.sigmoid()
    return 1 - (2 * (probability * targets).sum(-1) + 1) / (probability.sum(-1) + targets.sum(-1) + 1)


def class_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy of each prediction over its frames and queries.

    Args:
        logits: (P, N, Q, K + 1).
        classes: int64 (P, N, Q).
        weight: (K + 1,) weight of each class.

    Returns:
        (P,).
    """
    losses = F.cross_entropy(logits.permute(0, 3, 1, 2), classes, reduction="none")
    weights = weight[classes]
    return (losses * weights).sum((1, 2)) / weights.sum((1, 2))


@torch.no_grad()
def most_uncertain_points(maps: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The ``count`` candidates whose logits are nearest to zero (Kirillov et al., "PointRend", CVPR 2020).

    Args:
        maps: (T, h, w) logits.
        candidates: (T, Y, 2) coordinates to choose from, x and y in 0..1.
        count: how many.

    Returns:
        (T, count, 2).
    """
    certainty = sample_points(maps[:, None], candidates)[:, 0].abs()
    chosen = certainty.topk(count, dim=1, largest=False).indices
    return candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
