"""Boundary Refinement Module: an auxiliary head that predicts contours from mask features (model.md, BRM)."""

import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

# Beyond every class index, so that ignored pixels never win a maximum or a minimum.
_BELOW, _ABOVE = -1.0, 1e4


def boundary_target(labels: Tensor, ignore_label: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Morphological gradient (3x3 dilation minus erosion) of label maps, kept when shrunk.

    A cell of the result is a boundary if any of its pixels is one, so that thin borders survive.

    Args:
        labels: int64 (N, H, W); a border between any two classes counts, one with ignored pixels does not.
        ignore_label: value of pixels that are neither.
        size: (h, w) of the result.

    Returns:
        target float32 (N, h, w), 0 or 1, and valid bool (N, h, w): cells with at least one labelled pixel.
    """
    known = labels != ignore_label
    values = labels.float()
    highest = F.max_pool2d(values.masked_fill(~known, _BELOW)[:, None], 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-values.masked_fill(~known, _ABOVE)[:, None], 3, stride=1, padding=1)
    border = ((highest != lowest) & known[:, None]).float()
    target = F.adaptive_max_pool2d(border, size)[:, 0]
    valid = F.adaptive_max_pool2d(known[:, None].float(), size)[:, 0] > 0
    return target, valid


class BRM(nn.Module):
    """Boundary head and its loss."""

    @configurable
    def __init__(self, *, mask_dim: int, dim: int, pos_weight: float):
        """
        Args:
            mask_dim: width of the mask features.
            dim: hidden width.
            pos_weight: weight of boundary cells in the loss.
        """
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(mask_dim, dim, 3, padding=1),
            nn.BatchNorm2d(dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim, 1, 1),
        )
        self.pos_weight = pos_weight

    @classmethod
    def from_config(cls, cfg):
        return {
            "mask_dim": cfg.MODEL.PIXEL_DECODER.MASK_DIM or cfg.MODEL.HIDDEN_DIM,
            "dim": cfg.MODEL.BRM.DIM,
            "pos_weight": cfg.MODEL.BRM.POS_WEIGHT,
        }

    def forward(self, mask_features: Tensor) -> Tensor:
        """(N, mask_dim, h, w) -> boundary logits (N, h, w)."""
        return self.head(mask_features)[:, 0]

    def loss(self, logits: Tensor, labels: Tensor, ignore_label: int) -> Tensor:
        """Weighted binary cross-entropy over cells that hold ground truth.

        Args:
            logits: (N, h, w).
            labels: int64 (N, H, W).
            ignore_label: value of pixels without ground truth.

        Returns:
            scalar; 0 where nothing is labelled.
        """
        target, valid = boundary_target(labels, ignore_label, logits.shape[-2:])
        weight = logits.new_tensor(self.pos_weight)
        per_cell = F.binary_cross_entropy_with_logits(
            logits.float(), target, pos_weight=weight.float(), reduction="none"
        )
        return (per_cell * valid).sum() / valid.sum().clamp(min=1)


def build_brm(cfg) -> BRM | None:
    """The boundary head of the configuration, or None where it is off."""
    return BRM(cfg) if cfg.MODEL.BRM.ENABLED else None
