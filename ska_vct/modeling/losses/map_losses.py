"""Losses on the motion map and the match behind it (ours; docs/method.md, How the map reaches the masks).

Shape legend: N frames, g x g motion map, H x W label maps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ska_vct.structures import IGNORE_LABEL

from ..motion.ska import MotionPrompt
from .auxiliary import LOSS_REGISTRY, LossInputs
from .over_processes import shared_denominator

# Keeps the cross-entropy finite: a stretched map contains exact zeros and ones.
_EDGE = 1e-3
# A frame contributes if at least this fraction of its foreground moves.
_MOVING = 0.5
# Inverse temperature of the cosines in the contrastive softmax.
_CONTRAST_SCALE = 6.0


def foreground(labels: Tensor, ignore_label: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Foreground fraction of each grid cell.

    Args:
        labels: int64 (N, H, W), 0 is background.
        ignore_label: label of pixels without ground truth.
        grid: (g, g).

    Returns:
        float32 (N, 1, g, g), foreground fraction of a cell's labelled pixels; bool (N, 1, g, g), cells with any
        labelled pixels.
    """
    known = (labels != ignore_label)[:, None].float()
    inside = ((labels > 0) & (labels != ignore_label))[:, None].float()
    known, inside = (F.adaptive_avg_pool2d(x, grid) for x in (known, inside))
    return inside / known.clamp(min=1e-6), known > 0


def map_loss(prompt: MotionPrompt, labels: Tensor, ignore_label: int) -> Tensor:
    """Binary cross-entropy of the map against the mask, on the map's grid.

    Frames with a static foreground carry no information about motion and are excluded; for frames without
    foreground the target is a map of zeros.

    Args:
        prompt: of the N frames.
        labels: int64 (N, H, W).
        ignore_label: pixels without ground truth.

    Returns:
        scalar; 0 if no frame remains.
    """
    target, known = foreground(labels, ignore_label, prompt.motion_map.shape[-2:])
    area = target.sum((1, 2, 3))
    use = (target * _moving(prompt)).sum((1, 2, 3)) >= _MOVING * area
    weight = (known & use[:, None, None, None]).float()
    probability = prompt.motion_map.float().clamp(_EDGE, 1 - _EDGE)
    loss = -(target * probability.log() + (1 - target) * (1 - probability).log())
    return (loss * weight).sum() / shared_denominator(weight.sum(), at_least=1)


def _moving(prompt: MotionPrompt) -> Tensor:
    return torch.ones_like(prompt.motion_map) if prompt.moving is None else prompt.moving.detach()


def contrast_loss(
    prompt: MotionPrompt, labels: Tensor, lengths: Sequence[int], negative: Tensor, ignore_label: int
) -> Tensor:
    """Contrastive loss: the foreground's motion should match its own audio better than that of other clips.

    Args:
        prompt: of the N frames, with ``region_match``.
        labels: int64 (N, H, W).
        lengths: frames of each clip, in order; frames of the same clip are not contrasted.
        negative: bool (N,), frames whose audio was replaced; they are excluded as anchors, their audio serves as a
            negative.
        ignore_label: pixels without ground truth.

    Returns:
        scalar; 0 if no frame has a moving foreground or there is only one clip.
    """
    target, _ = foreground(labels, ignore_label, prompt.motion_map.shape[-2:])
    region = (target * _moving(prompt)).flatten(1)
    area = region.sum(1)
    use = (area >= _MOVING * target.sum((1, 2, 3))) & (area > 0) & ~negative
    match = prompt.region_match(region / area.clamp(min=1e-6)[:, None]) * _CONTRAST_SCALE
    # Built from Python's numbers: its size must be known where models are traced without data.
    clip = torch.tensor([k for k, length in enumerate(lengths) for _ in range(length)], device=match.device)
    others = clip[:, None] != clip[None]
    own = torch.eye(len(clip), dtype=torch.bool, device=match.device)
    match = match.masked_fill(~(others | own), float("-inf"))
    per_frame = F.cross_entropy(match, torch.arange(len(clip), device=match.device), reduction="none")
    use = use.float()
    return (per_frame * use).sum() / shared_denominator(use.sum(), at_least=1)


@LOSS_REGISTRY.register()
class MapLoss(nn.Module):
    """:func:`map_loss` times ``MODEL.SKA.MAP_LOSS``, as ``loss_map``."""

    @configurable
    def __init__(self, *, weight: float):
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg):
        return {"weight": cfg.MODEL.SKA.MAP_LOSS}

    def forward(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The loss; empty if the model has no motion map."""
        prompt = inputs.outputs.prompt
        if prompt is None:
            return {}
        return {"loss_map": self.weight * map_loss(prompt, inputs.targets.labels, IGNORE_LABEL)}


@LOSS_REGISTRY.register()
class ContrastLoss(nn.Module):
    """:func:`contrast_loss` times ``MODEL.SKA.CONTRAST``, as ``loss_contrast``."""

    @configurable
    def __init__(self, *, weight: float):
        super().__init__()
        self.weight = weight

    @classmethod
    def from_config(cls, cfg):
        return {"weight": cfg.MODEL.SKA.CONTRAST}

    def forward(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The loss; empty if the motion module does not compare motion and audio over time."""
        prompt, batch = inputs.outputs.prompt, inputs.batch
        if prompt is None or prompt.region_match is None:
            return {}
        loss = contrast_loss(prompt, inputs.targets.labels, batch.lengths, batch.negative, IGNORE_LABEL)
        return {"loss_contrast": self.weight * loss}
