"""The set criterion: one for all subsets (Cheng et al., "Mask2Former", CVPR 2022; spec: training.md).

Shape legend: P predictions, N frames, Q queries, M most targets of a frame, T matched pairs, X points.
"""

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from .losses import class_loss, dice_loss, mask_loss, most_uncertain_points, sample_points
from .matcher import Assignment, MatchingCost, assign
from .targets import Targets
from .transformer_decoder import Predictions


def num_masks_over_ranks(count: int, device: torch.device) -> Tensor:
    """Target masks per rank, averaged over all ranks, at least 1."""
    total = torch.tensor(float(count), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
        total = total / torch.distributed.get_world_size()
    return total.clamp(min=1)


class SetCriterion(nn.Module):
    """Class, mask and dice loss of every prediction after one Hungarian matching each."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        weights: dict[str, float],
        no_object_weight: float,
        num_points: int,
        oversample_ratio: float,
        importance_ratio: float,
        deep_supervision: bool,
    ):
        """
        Args:
            num_classes: K, background included.
            weights: of ``loss_ce``, ``loss_mask`` and ``loss_dice``, in the matching and in the sum.
            no_object_weight: weight of the class "no object" in the cross-entropy.
            num_points: X, points per mask; 0 for every cell of the mask grid.
            oversample_ratio: candidates per uncertain point.
            importance_ratio: share of the points that are the most uncertain ones.
            deep_supervision: whether predictions before the last carry a loss.
        """
        super().__init__()
        self.num_classes = num_classes
        self.weights = dict(weights)
        self.cost = MatchingCost(
            class_weight=weights["loss_ce"], mask_weight=weights["loss_mask"], dice_weight=weights["loss_dice"]
        )
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_ratio = importance_ratio
        self.deep_supervision = deep_supervision
        class_weight = torch.ones(num_classes + 1)
        class_weight[-1] = no_object_weight
        self.register_buffer("class_weight", class_weight, persistent=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.CRITERION
        return {
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "weights": {
                "loss_ce": node.CLASS_WEIGHT,
                "loss_mask": node.MASK_WEIGHT,
                "loss_dice": node.DICE_WEIGHT,
            },
            "no_object_weight": node.NO_OBJECT_WEIGHT,
            "num_points": node.NUM_POINTS,
            "oversample_ratio": node.OVERSAMPLE_RATIO,
            "importance_ratio": node.IMPORTANCE_RATIO,
            "deep_supervision": node.DEEP_SUPERVISION,
        }

    def forward(self, predictions: Predictions, targets: Targets) -> dict[str, Tensor]:
        """Unweighted losses.

        Returns:
            ``loss_ce``, ``loss_mask``, ``loss_dice`` of the last prediction and, with a trailing ``_i``, of
            prediction i before it.
        """
        logits, masks = predictions.logits, predictions.masks
        if not self.deep_supervision:
            logits, masks = logits[-1:], masks[-1:]
        logits = logits.float()
        grid = targets.on_grid(masks[0].shape[-2:]).flatten(2) if not self.num_points else None
        pairs = self.match(logits, masks, targets, grid)
        losses = {
            "loss_ce": class_loss(logits, self._target_classes(logits, pairs, targets), self.class_weight),
            **self._mask_losses(masks, pairs, targets, grid),
        }
        last = len(masks) - 1
        return {
            name if index == last else f"{name}_{index}": values[index]
            for index in range(len(masks))
            for name, values in losses.items()
        }

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each loss times its weight."""
        return {
            name: value * self.weights[name.rstrip("0123456789").rstrip("_")] for name, value in losses.items()
        }

    @torch.no_grad()
    def match(
        self, logits: Tensor, masks: tuple[Tensor, ...], targets: Targets, grid: Tensor | None
    ) -> Assignment:
        """Assign targets to the queries of every prediction.

        Args:
            logits: (P, N, Q, K + 1).
            masks: P of (N, Q, h, w).
            targets: what is to be found.
            grid: (N, M, h*w) coverage of each cell where all cells are used, else None.
        """
        costs = []
        target_masks = targets.masks.float() if grid is None else None
        for layer_logits, layer_masks in zip(logits, masks, strict=True):
            layer_masks = layer_masks.detach().float()
            if grid is None:
                coords = self.uniform("match", (len(layer_masks), self.num_points, 2), layer_masks)
                at_points = sample_points(layer_masks, coords)
                truth = sample_points(target_masks, coords)
            else:
                at_points, truth = layer_masks.flatten(2), grid
            costs.append(self.cost(layer_logits, at_points, targets.classes, truth))
        return assign(torch.stack(costs), targets.counts)

    def uniform(self, purpose: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Coordinates in 0..1; ``purpose`` is ``match``, ``oversample`` or ``random``. Override to fix them."""
        return torch.rand(shape, device=like.device)

    def _target_classes(self, logits: Tensor, pairs: Assignment, targets: Targets) -> Tensor:
        classes = torch.full(logits.shape[:-1], self.num_classes, dtype=torch.int64, device=logits.device)
        classes[pairs.prediction, pairs.frame, pairs.query] = targets.classes[pairs.frame, pairs.target]
        return classes

    def _mask_losses(
        self, masks: tuple[Tensor, ...], pairs: Assignment, targets: Targets, grid: Tensor | None
    ) -> dict[str, Tensor]:
        # Every prediction matches the same number of masks.
        per_prediction = len(pairs.query) // len(masks)
        matched = torch.cat(
            [
                layer[frame, query]
                for layer, frame, query in zip(
                    masks,
                    pairs.frame.view(len(masks), per_prediction),
                    pairs.query.view(len(masks), per_prediction),
                    strict=True,
                )
            ]
        ).float()
        if grid is not None:
            predicted, truth = matched.flatten(1), grid[pairs.frame, pairs.target]
        else:
            coords = self._loss_points(matched.detach())
            predicted = sample_points(matched[:, None], coords)[:, 0]
            with torch.no_grad():
                wanted = targets.masks[pairs.frame, pairs.target].float()
                truth = sample_points(wanted[:, None], coords)[:, 0]
        num_masks = num_masks_over_ranks(sum(targets.counts), matched.device)
        shape = (len(masks), per_prediction)
        return {
            "loss_mask": mask_loss(predicted, truth).view(shape).sum(1) / num_masks,
            "loss_dice": dice_loss(predicted, truth).view(shape).sum(1) / num_masks,
        }

    def _loss_points(self, matched: Tensor) -> Tensor:
        """Places of the mask losses for (T, h, w) logits: (T, X, 2)."""
        uncertain = int(self.importance_ratio * self.num_points)
        candidates = self.uniform(
            "oversample", (len(matched), int(self.num_points * self.oversample_ratio), 2), matched
        )
        random = self.uniform("random", (len(matched), self.num_points - uncertain, 2), matched)
        return torch.cat((most_uncertain_points(matched, candidates, uncertain), random), dim=1)
