"""Feeds the motion map into the features that form masks (ours; docs/method.md, How the map reaches the masks).

In the published model the map only reweights the features from which queries are generated. Masks are products of
queries with features that do not contain the map, so two objects that look alike are both segmented even if the
map distinguishes them.

The map is high where something moves, often a part of the object only. Wider copies of it tell the other parts of
the object from another one that looks like them.

Shape legend: N frames, C width, g x g motion map, h x w mask-feature grid, K scales read by the decoder, R radii.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..transformer_decoder import MaskedTransformerDecoder
from .ska import MotionPrompt


class MapFeatures(nn.Module):
    """Adds the map times a learnt vector to the mask features and to the keys of the decoder's visual memories."""

    @configurable
    def __init__(self, *, dim: int, mask_dim: int, num_scales: int, radii: Sequence[float] = ()):
        """
        Args:
            dim: width C of the memories.
            mask_dim: width of the mask features.
            num_scales: K, number of the three scales, coarse to fine, that at least one decoder layer reads.
            radii: of wider copies of the map, fractions of its longer side; each has its own vector.
        """
        super().__init__()
        # Initialised to zero, so that training starts from the unmodified model.
        self.mask_vector = nn.Parameter(torch.zeros(mask_dim))
        self.key_vectors = nn.Parameter(torch.zeros(num_scales, dim)) if num_scales else None
        self.radii = tuple(radii)
        self.wide_vectors = nn.Parameter(torch.zeros(len(radii), mask_dim)) if radii else None

    @classmethod
    def from_config(cls, cfg):
        sources = min(cfg.MODEL.DECODER.NUM_LAYERS, MaskedTransformerDecoder.NUM_SOURCES)
        return {
            "dim": cfg.MODEL.HIDDEN_DIM,
            "mask_dim": cfg.MODEL.PIXEL_DECODER.MASK_DIM or cfg.MODEL.HIDDEN_DIM,
            # The first source is the audio.
            "num_scales": max(0, sources - 1),
            "radii": cfg.MODEL.SKA.MAP_RADII,
        }

    def forward(
        self, prompt: MotionPrompt, mask_features: Tensor, scales: list[Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Add the map to mask features and keys.

        Args:
            prompt: of the N frames.
            mask_features: (N, mask_dim, h, w).
            scales: three of (N, C, ., .).

        Returns:
            mask features of the same shape, and for each scale the term added to its keys, (N, C, ., .), or None.
        """
        motion_map = prompt.motion_map
        marked = mask_features + _term(motion_map, self.mask_vector, mask_features)
        if self.wide_vectors is not None:
            for radius, vector in zip(self.radii, self.wide_vectors, strict=True):
                marked = marked + _term(widen(motion_map, radius), vector, mask_features)
        vectors = [] if self.key_vectors is None else list(self.key_vectors)
        keys = [_term(motion_map, vector, scale) for vector, scale in zip(vectors, scales, strict=False)]
        return marked, keys + [None] * (len(scales) - len(keys))


def widen(motion_map: Tensor, radius: float) -> Tensor:
    """Spread a map: the maximum over a square window, then the mean over one of the same size.

    Args:
        motion_map: (N, 1, g, g).
        radius: half of the window, as a fraction of the longer side; at least one cell.

    Returns:
        (N, 1, g, g): the value of a cell reaches up to two radii.
    """
    cells = max(1, round(radius * max(motion_map.shape[-2:])))
    size = 2 * cells + 1
    highest = F.max_pool2d(motion_map, size, stride=1, padding=cells)
    return F.avg_pool2d(highest, size, stride=1, padding=cells, count_include_pad=False)


def _term(motion_map: Tensor, vector: Tensor, like: Tensor) -> Tensor:
    """The map, resized to ``like`` (N, C, h, w), times ``vector`` (C,): (N, C, h, w)."""
    resized = F.interpolate(motion_map, size=like.shape[-2:], mode="bilinear", align_corners=False)
    return (vector[:, None, None] * resized).to(like.dtype)


def build_map_features(cfg) -> MapFeatures | None:
    """The module if ``MODEL.SKA.MAP_AS_FEATURE`` is set and the model computes a map, else None."""
    on = cfg.MODEL.SKA.MAP_AS_FEATURE and cfg.MODEL.SKA.ENABLED and cfg.MODEL.MPQG.MOTION
    return MapFeatures(cfg) if on else None
