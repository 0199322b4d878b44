"""Costs and losses on mask logits at points or all cells (Cheng et al., "Mask2Former", CVPR 2022, section 3.3).

Shape legend: Q queries, M targets, X points or cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .over_processes import shared_denominator


def sample_points(maps: Tensor, coords: Tensor) -> Tensor:
    """Sample (N, C, h, w) bilinearly at ``coords`` (N, X, 2), x and y in 0..1: (N, C, X)."""
    grid = (2 * coords - 1)[:, None]
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, :, 0]


def sample_all_queries(masks: Tensor, coords: Tensor) -> Tensor:
    """Equivalent of ``sample_points`` for many queries that share points, several times faster.

    In channels-last (N, Q, h, w) masks, the values of all queries at one cell are adjacent in memory, so each
    point is a weighted sum of four rows.
    """
    n, num_queries, h, w = masks.shape
    cells, weights = _corners(coords, h, w)
    cells = cells + torch.arange(n, device=cells.device)[:, None, None] * (h * w)
    rows = masks.permute(0, 2, 3, 1).reshape(-1, num_queries)
    weights = weights.to(rows.dtype).flatten(0, 1)
    sampled = F.embedding_bag(cells.flatten(0, 1), rows, per_sample_weights=weights, mode="sum")
    return sampled.unflatten(0, (n, -1)).transpose(1, 2)


def _corners(coords: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
    """The four cells around each point and their weights, 0 outside: (N, X, 2) -> int64 and float (N, X, 4)."""
    (left, right), x_weights = _neighbours(coords[..., 0], w)
    (above, below), y_weights = _neighbours(coords[..., 1], h)
    cells = [row * w + column for row in (above, below) for column in (left, right)]
    weights = [y * x for y in y_weights for x in x_weights]
    return torch.stack(cells, -1), torch.stack(weights, -1)


def _neighbours(coords: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    # Same arithmetic as grid_sample, for identical rounding.
    position = ((2 * coords - 1 + 1) * size - 1) / 2
    first = position.floor()
    share = position - first
    cells = first.clamp(min=0).long(), (first + 1).clamp(max=size - 1).long()
    # Coordinates in 0..1 extend half a cell beyond the outer cell centres, where values are 0.
    return cells, ((1 - share) * (first >= 0), share * (first < size - 1))


def pairwise_mask_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query against every target.

    Args:
        logits: (..., Q, X); fastest where the queries' values at one location are adjacent in memory.
        targets: (..., M, X) in 0..1.

    Returns:
        (..., Q, M).
    """
    # -t ln s(x) - (1 - t) ln(1 - s(x)) = softplus(x) - t x
    return (F.softplus(logits).sum(-1, keepdim=True) - _overlap(logits, targets)) / logits.shape[-1]


def pairwise_dice_cost(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice distance of every query to every target; shapes as in ``pairwise_mask_cost``."""
    probability = logits.sigmoid()
    total = probability.sum(-1)[..., :, None] + targets.sum(-1)[..., None, :]
    return 1 - (2 * _overlap(probability, targets) + 1) / (total + 1)


def _overlap(values: Tensor, targets: Tensor) -> Tensor:
    # Targets on the left: the other order is five times slower for values stored by location.
    return (targets @ values.transpose(-1, -2)).transpose(-1, -2)


def pairwise_class_cost(logits: Tensor, classes: Tensor) -> Tensor:
    """Negative probability of each target's class.

    Args:
        logits: (..., Q, K + 1).
        classes: int64 (..., M).

    Returns:
        (..., Q, M).
    """
    index = classes[..., None, :].expand(*logits.shape[:-1], -1)
    return -logits.softmax(-1).gather(-1, index)


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of matched pairs: (T, X), (T, X) -> (T,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice distance of matched pairs: (T, X), (T, X) -> (T,)."""
    probability = logits.sigmoid()
    return 1 - (2 * (probability * targets).sum(-1) + 1) / (probability.sum(-1) + targets.sum(-1) + 1)


def class_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy of each prediction over its frames and queries, weighed over all processes.

    Args:
        logits: (P, N, Q, K + 1).
        classes: int64 (P, N, Q).
        weight: (K + 1,) weight of each class.

    Returns:
        (P,).
    """
    losses = F.cross_entropy(logits.permute(0, 3, 1, 2), classes, reduction="none")
    weights = weight[classes]
    return (losses * weights).sum((1, 2)) / shared_denominator(weights.sum((1, 2)))


@torch.no_grad()
def most_uncertain_points(maps: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The ``count`` candidates whose logits are nearest to zero (Kirillov et al., "PointRend", CVPR 2020).

    Args:
        maps: (T, h, w) logits.
        candidates: (T, Y, 2) coordinates to choose from, x and y in 0..1.
        count: how many.

    Returns:
        (T, count, 2), in any order.
    """
    certainty = sample_points(maps[:, None], candidates)[:, 0].abs()
    chosen = certainty.topk(count, dim=1, largest=False, sorted=False).indices
    return candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
