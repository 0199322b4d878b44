"""Matching and losses of a batch's frames and all predictions, forward and backward."""

import argparse
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
    help = "matching and losses"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--frames", type=int, default=0, metavar="N", help="annotated frames in all; default: a clip's"
        )
        parser.add_argument(
            "--predictions", type=int, default=0, metavar="N", help="default: decoder layers + 1, as in training"
        )
        parser.add_argument(
            "--points", type=int, nargs="+", metavar="N", help="per mask, 0: every cell; default: the config's"
        )

    def options(self, args: argparse.Namespace) -> Sequence[tuple[str, dict]]:
        sizes = {"frames": args.frames, "predictions": args.predictions}
        if args.points is None:
            return [("", {**sizes, "points": None})]
        return [(f"{points or 'no'} points", {**sizes, "points": points}) for points in args.points]

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
    """Class logits, mask embeddings and mask features as the decoder of ``cfg`` gives them, with gradients."""
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
