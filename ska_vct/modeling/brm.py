"""Boundary Refinement Module: an auxiliary head that predicts contours from mask features (docs/architecture.md).

Shape legend: N frames, Q queries, h x w mask features.
"""

import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ska_vct.utils.errors import InputError

from .layers import small_batch_norm
from .losses.over_processes import shared_denominator

# Beyond every class index, so that ignored pixels never win a maximum or a minimum.
_BELOW, _ABOVE = -1.0, 1e4
# Side, in cells of the mask features, of what a local average covers.
_WINDOW = 5


def above_average(x: Tensor) -> Tensor:
    """The high-frequency part: (N, c, h, w) less the average around each cell, of the cells that exist."""
    around = F.avg_pool2d(x, _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False)
    return x - around


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
    """Boundary head, its loss, and the fusion of its contours with masks."""

    @configurable
    def __init__(
        self,
        *,
        mask_dim: int,
        dim: int,
        pos_weight: float,
        high_frequency: bool = False,
        fusion: float = 0.0,
        norm: str = "BN",
    ):
        """
        Args:
            mask_dim: width of the mask features.
            dim: hidden width.
            pos_weight: weight of boundary cells in the loss.
            high_frequency: whether the head reads the features less their local average.
            fusion: weight of contours in the masks, see ``sharpen``.
            norm: ``BN`` as published, or ``GN``, which does not depend on the batch.

        Raises:
            ValueError: a negative ``fusion``, another ``norm``.
        """
        super().__init__()
        if fusion < 0:
            raise InputError(f"MODEL.BRM.FUSION is {fusion}; it must be 0 or more.")
        self.high_frequency = high_frequency
        self.fusion = fusion
        self.head = nn.Sequential(
            nn.Conv2d(mask_dim, dim, 3, padding=1),
            small_batch_norm(norm, dim, key="MODEL.BRM.NORM"),
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
            "high_frequency": cfg.MODEL.BRM.HIGH_FREQUENCY,
            "fusion": cfg.MODEL.BRM.FUSION,
            "norm": cfg.MODEL.BRM.NORM,
        }

    def forward(self, mask_features: Tensor) -> Tensor:
        """(N, mask_dim, h, w) -> boundary logits (N, h, w)."""
        return self.head(above_average(mask_features) if self.high_frequency else mask_features)[:, 0]

    def sharpen(self, masks: Tensor, mask_features: Tensor) -> Tensor:
        """Fuse contours with coarse masks: make masks steeper where a contour is seen.

        The authors' formula is not published; this one is ours. With contour probability b and weight w a mask's
        logits m become m + w b (m - average of m around the cell), an unsharp mask that acts on contours only. It
        draws a mask's edge to where the mask itself is steepest, and leaves even areas and w = 0 as they are.

        Args:
            masks: (N, Q, h, w) logits.
            mask_features: (N, mask_dim, h, w).

        Returns:
            (N, Q, h, w) logits.
        """
        if not self.fusion:
            return masks
        contour = self(mask_features).sigmoid()[:, None]
        return masks + self.fusion * contour * above_average(masks)

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
        return (per_cell * valid).sum() / shared_denominator(valid.sum(), at_least=1)


def build_brm(cfg) -> BRM | None:
    """The boundary head of the configuration, or None where it is off.

    Raises:
        ValueError: for contours to be fused without a head that finds them.
    """
    if cfg.MODEL.BRM.FUSION and not cfg.MODEL.BRM.ENABLED:
        raise InputError("MODEL.BRM.FUSION needs contours: set MODEL.BRM.ENABLED True, or MODEL.BRM.FUSION 0.0.")
    return BRM(cfg) if cfg.MODEL.BRM.ENABLED else None
