"""Feeds the motion map into the features that form masks (ours; docs/method.md, How the map reaches the masks).

In the published model the map only reweights the features from which queries are generated. Masks are products of
queries with features that do not contain the map, so two objects that look alike are both segmented even if the
map distinguishes them.

Shape legend: N frames, C width, g x g motion map, h x w mask-feature grid, K scales read by the decoder.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..transformer_decoder import MaskedTransformerDecoder
from .ska import MotionPrompt


class MapFeatures(nn.Module):
    """Adds the map times a learnt vector to the mask features and to the keys of the decoder's visual memories."""

    @configurable
    def __init__(self, *, dim: int, mask_dim: int, num_scales: int):
        """
        Args:
            dim: width C of the memories.
            mask_dim: width of the mask features.
            num_scales: K, number of the three scales, coarse to fine, that at least one decoder layer reads.
        """
        super().__init__()
        # Initialised to zero, so that training starts from the unmodified model.
        self.mask_vector = nn.Parameter(torch.zeros(mask_dim))
        self.key_vectors = nn.Parameter(torch.zeros(num_scales, dim)) if num_scales else None

    @classmethod
    def from_config(cls, cfg):
        sources = min(cfg.MODEL.DECODER.NUM_LAYERS, MaskedTransformerDecoder.NUM_SOURCES)
        return {
            "dim": cfg.MODEL.HIDDEN_DIM,
            "mask_dim": cfg.MODEL.PIXEL_DECODER.MASK_DIM or cfg.MODEL.HIDDEN_DIM,
            # The first source is the audio.
            "num_scales": max(0, sources - 1),
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
        marked = mask_features + self._spread(prompt, self.mask_vector, mask_features)
        vectors = [] if self.key_vectors is None else list(self.key_vectors)
        keys = [self._spread(prompt, vector, scale) for vector, scale in zip(vectors, scales, strict=False)]
        return marked, keys + [None] * (len(scales) - len(keys))

    @staticmethod
    def _spread(prompt: MotionPrompt, vector: Tensor, like: Tensor) -> Tensor:
        size = like.shape[-2:]
        motion_map = F.interpolate(prompt.motion_map, size=size, mode="bilinear", align_corners=False)
        return (vector[:, None, None] * motion_map).to(like.dtype)


def build_map_features(cfg) -> MapFeatures | None:
    """The module if ``MODEL.SKA.MAP_AS_FEATURE`` is set and the model computes a map, else None."""
    on = cfg.MODEL.SKA.MAP_AS_FEATURE and cfg.MODEL.SKA.ENABLED and cfg.MODEL.MPQG.MOTION
    return MapFeatures(cfg) if on else None
