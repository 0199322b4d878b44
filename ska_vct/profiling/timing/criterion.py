"""Matching and losses for all frames and predictions of a batch, forward and backward."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ska_vct.data.registry import get_facts
from ska_vct.modeling.losses.criterion import SetCriterion
from ska_vct.modeling.losses.targets import Targets
from ska_vct.modeling.predictions import Predictions
from ska_vct.structures import IGNORE_LABEL

from .clips import blob_masks
from .subject import Subject, case_cfg
from .work import Case, Clock, Work

# Stride of the mask features.
_STRIDE = 4


class CriterionSubject(Subject):
    name = "criterion"

    def options(
        self, *, device: str, frames: int = 0, predictions: int = 0, points: Sequence[int] | None = None
    ) -> Sequence[tuple[str, dict]]:
        """
        Args:
            frames: total number of annotated frames; 0 for those of one clip.
            predictions: number of predictions; 0 for decoder layers + 1, as in training.
            points: points per mask, one variant for each number (0: every cell); None for the config's.
        """
        sizes = {"frames": frames, "predictions": predictions}
        if points is None:
            return [("", {**sizes, "points": None})]
        return [(f"{number or 'no'} points", {**sizes, "points": number}) for number in points]

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        options = case.options
        if options["points"] is not None:
            cfg.MODEL.CRITERION.NUM_POINTS = options["points"]
        frames = options["frames"] or len(get_facts(cfg.DATASETS.SUBSET).annotated_frames("train"))
        count = options["predictions"] or cfg.MODEL.DECODER.NUM_LAYERS + 1
        device = torch.device(case.device)
        criterion = SetCriterion(cfg).to(device)
        labels = blob_masks(frames, tuple(cfg.INPUT.SIZE), cfg.MODEL.NUM_CLASSES, torch.Generator().manual_seed(0))
        leaves = random_predictions(cfg, frames, count, device)

        def run(clock: Clock) -> None:
            for leaf in leaves:
                leaf.grad = None
            with clock("forward"):
                targets = Targets.from_label_maps(labels, ignore_label=IGNORE_LABEL, device=device)
                loss = sum(criterion.weigh(criterion(Predictions(*leaves), targets)).values())
            with clock("backward"):
                loss.backward()

        facts = {"predictions": count, "points": cfg.MODEL.CRITERION.NUM_POINTS}
        return Work(run=run, frames=frames, facts=facts)


def random_predictions(
    cfg: CfgNode, frames: int, count: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Random class logits, mask embeddings and mask features in the decoder's shapes, requiring gradients."""
    generator = torch.Generator().manual_seed(0)
    queries = cfg.MODEL.DECODER.NUM_QUERIES
    dim = cfg.MODEL.PIXEL_DECODER.MASK_DIM or cfg.MODEL.HIDDEN_DIM
    grid = [side // _STRIDE for side in cfg.INPUT.SIZE]
    shapes = (
        (count, frames, queries, cfg.MODEL.NUM_CLASSES + 1),
        (count, frames, queries, dim),
        (frames, dim, *grid),
    )
    return tuple(torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes)
