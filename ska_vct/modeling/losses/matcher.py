"""Hungarian matching of queries to the masks of a frame (Cheng et al., "Mask2Former", CVPR 2022, section 3.3).

Shape legend: P predictions, N frames, Q queries, M maximum number of targets per frame, X points.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .mask_losses import pairwise_class_cost, pairwise_dice_cost, pairwise_mask_cost


@dataclass(frozen=True)
class Assignment:
    """Matched pairs of all predictions, ordered by prediction, frame and query.

    Attributes:
        prediction, frame, query, target: int64 (T,) each.
        slot: int64 (T,), index of each pair among all pairs of its frame.
        num_slots: maximum number of pairs per frame, at least 1.
    """

    prediction: Tensor
    frame: Tensor
    query: Tensor
    target: Tensor
    slot: Tensor
    num_slots: int


@dataclass(frozen=True, kw_only=True)
class MatchingCost:
    """Weighted sum of class, mask and dice costs."""

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0

    def __call__(self, logits: Tensor, mask_logits: Tensor, classes: Tensor, masks: Tensor) -> Tensor:
        """Cost of assigning each query to each target.

        Args:
            logits: (..., Q, K + 1).
            mask_logits: (..., Q, X) at points or on all cells.
            classes: int64 (..., M).
            masks: (..., M, X) in 0..1, at the same locations.

        Returns:
            float32 (..., Q, M).
        """
        mask_logits, masks = mask_logits.float(), masks.float()
        # Always float32, even under autocast: these are sums over thousands of points.
        with torch.autocast(device_type=logits.device.type, enabled=False):
            return (
                self.class_weight * pairwise_class_cost(logits.float(), classes)
                + self.mask_weight * pairwise_mask_cost(mask_logits, masks)
                + self.dice_weight * pairwise_dice_cost(mask_logits, masks)
            )


@torch.no_grad()
def assign(cost: Tensor, counts: list[int]) -> Assignment:
    """Optimal one-to-one assignment for every prediction and frame, with a single transfer to the host.

    Args:
        cost: (P, N, Q, M).
        counts: number of targets in each frame; further columns are padding.

    Raises:
        FloatingPointError: a cost is not finite.
    """
    host = cost.float().cpu().numpy()
    if not np.isfinite(host).all():
        raise FloatingPointError(
            "The matching cost is not finite: the predictions have become NaN or infinite. "
            "Lower SOLVER.BASE_LR or disable SOLVER.AMP.ENABLED."
        )
    parts = []
    filled = [0] * len(counts)
    for prediction, frames in enumerate(host):
        for frame, (matrix, count) in enumerate(zip(frames, counts, strict=True)):
            query, target = linear_sum_assignment(matrix[:, :count])
            where = np.full_like(query, prediction), np.full_like(query, frame)
            parts.append(np.stack([*where, query, target, filled[frame] + np.arange(len(query))]))
            filled[frame] += len(query)
    index = torch.from_numpy(np.concatenate(parts, axis=1).astype(np.int64)).to(cost.device, non_blocking=True)
    return Assignment(*index, num_slots=max(1, *filled))
