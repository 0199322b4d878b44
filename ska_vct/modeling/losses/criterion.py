"""The set criterion, shared by all subsets (Cheng et al., "Mask2Former", CVPR 2022, section 3.3).

Shape legend: P predictions, N frames, Q queries, M maximum number of targets per frame, T matched pairs, X points.
"""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from ..predictions import Predictions
from .mask_losses import (
    class_loss,
    dice_loss,
    mask_loss,
    most_uncertain_points,
    sample_all_queries,
    sample_points,
)
from .matcher import Assignment, MatchingCost, assign
from .over_processes import ClipDraws, shared_denominator
from .targets import Targets


class SetCriterion(nn.Module):
    """Class, mask and dice losses of every prediction, each with its own Hungarian matching."""

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
            oversample_ratio: candidates as a multiple of ``num_points``, from which the most uncertain are taken.
            importance_ratio: fraction of the points chosen for their uncertainty; the rest is random.
            deep_supervision: whether intermediate predictions also contribute losses.
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

    def forward(
        self,
        predictions: Predictions,
        targets: Targets,
        noise: Sequence[tuple[int, int]] | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted losses.

        Args:
            predictions: of the decoder.
            targets: the ground truth.
            noise: seed and number of frames of each clip, for the random points; None: PyTorch's own generator.

        Returns:
            ``loss_ce``, ``loss_mask``, ``loss_dice`` of the last prediction and, with the suffix ``_i``, of the
            intermediate prediction i.
        """
        if not self.deep_supervision:
            predictions = predictions.last()
        logits = predictions.logits.float()
        grid = targets.on_grid(predictions.mask_size).flatten(2) if not self.num_points else None
        draws = ClipDraws(noise, logits.device) if noise is not None and grid is None else None
        pairs = self.match(predictions, targets, grid, draws)
        losses = {
            "loss_ce": class_loss(logits, self._target_classes(logits, pairs, targets), self.class_weight),
            **self._mask_losses(predictions, pairs, targets, grid, draws),
        }
        last = len(predictions) - 1
        return {
            name if index == last else f"{name}_{index}": values[index]
            for index in range(len(predictions))
            for name, values in losses.items()
        }

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each loss times its weight."""
        return {
            name: value * self.weights[name.rstrip("0123456789").rstrip("_")] for name, value in losses.items()
        }

    @torch.no_grad()
    def match(
        self, predictions: Predictions, targets: Targets, grid: Tensor | None, draws: ClipDraws | None = None
    ) -> Assignment:
        """Assign targets to the queries of every prediction.

        Args:
            predictions: of the decoder.
            targets: the ground truth.
            grid: (N, M, h*w) target coverage of each cell if all cells are used, else None.
            draws: random numbers of the clips; None: PyTorch's own generator.
        """
        if grid is None:
            shape = (len(targets.counts), self.num_points, 2)
            if draws is None:
                points = [self.uniform("match", shape, logits) for logits in predictions.logits]
            else:
                points = [draws.uniform(draws.frames, shape) for _ in predictions.logits]
            truth = sample_points(targets.masks.float(), torch.cat(points, 1)).split(self.num_points, dim=-1)
        costs = []
        # One prediction at a time: masks of all queries of all predictions would take gigabytes.
        for index, logits in enumerate(predictions.logits):
            masks = predictions.masks(index).float()
            if grid is None:
                at_points, wanted = sample_all_queries(masks, points[index]), truth[index]
            else:
                at_points, wanted = masks.flatten(2), grid
            costs.append(self.cost(logits, at_points, targets.classes, wanted))
        return assign(torch.stack(costs), targets.counts)

    def uniform(self, purpose: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Random coordinates in 0..1; override to fix them. ``purpose``: ``match``, ``oversample``, ``random``."""
        return torch.rand(shape, device=like.device)

    def _target_classes(self, logits: Tensor, pairs: Assignment, targets: Targets) -> Tensor:
        classes = torch.full(logits.shape[:-1], self.num_classes, dtype=torch.int64, device=logits.device)
        classes[pairs.prediction, pairs.frame, pairs.query] = targets.classes[pairs.frame, pairs.target]
        return classes

    def _mask_losses(
        self,
        predictions: Predictions,
        pairs: Assignment,
        targets: Targets,
        grid: Tensor | None,
        draws: ClipDraws | None = None,
    ) -> dict[str, Tensor]:
        matched = predictions.matched_masks(pairs).float()
        if grid is not None:
            predicted, truth = matched.flatten(1), grid[pairs.frame, pairs.target]
        else:
            matches = [min(count, predictions.logits.shape[2]) for count in targets.counts]
            coords = self._loss_points(matched.detach(), len(predictions), matches, draws)
            predicted = sample_points(matched[:, None], coords)[:, 0]
            truth = targets.at_points(pairs, coords, len(predictions))
        num_masks = shared_denominator(matched.new_tensor(float(sum(targets.counts))), at_least=1)
        # Every prediction matches the same number of masks.
        shape = (len(predictions), len(matched) // len(predictions))
        return {
            "loss_mask": mask_loss(predicted, truth).view(shape).sum(1) / num_masks,
            "loss_dice": dice_loss(predicted, truth).view(shape).sum(1) / num_masks,
        }

    def _loss_points(
        self, matched: Tensor, predictions: int, matches: Sequence[int], draws: ClipDraws | None
    ) -> Tensor:
        """Sampling points of the mask losses for (T, h, w) logits: (T, X, 2).

        Args:
            matched: the logits.
            predictions: P.
            matches: how many masks of each frame are matched in every prediction.
            draws: random numbers of the clips; None: PyTorch's own generator.
        """

        def draw(purpose: str, count: int) -> Tensor:
            if draws is None:
                return self.uniform(purpose, (len(matched), count, 2), matched)
            frames = iter(matches)
            rows = [sum(next(frames) for _ in range(number)) for number in draws.frames]
            # Pairs are ordered by prediction first, draws by clip.
            drawn = draws.uniform(rows, (sum(rows), predictions, count, 2))
            return drawn.transpose(0, 1).flatten(0, 1)

        uncertain = int(self.importance_ratio * self.num_points)
        candidates = draw("oversample", int(self.num_points * self.oversample_ratio))
        random = draw("random", self.num_points - uncertain)
        return torch.cat((most_uncertain_points(matched, candidates, uncertain), random), dim=1)
