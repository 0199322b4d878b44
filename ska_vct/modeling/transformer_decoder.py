"""Mask2Former's decoder with audio as an additional source.

Papers: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022;
Huang et al., "Revisiting Audio-Visual Segmentation with Vision-Centric Transformer", CVPR 2025.

Shape legend: N frames, C width, Q queries, K classes, h x w mask-feature grid, L tokens of a source.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from .layers import (
    MLP,
    CrossAttentionLayer,
    FeedForwardLayer,
    SelfAttentionLayer,
    checkpoint_blocks,
    sine_position_embedding,
)
from .predictions import Predictions


class DecoderLayer(nn.Module):
    """Cross-attention, self-attention, feed-forward; each post-norm."""

    def __init__(self, *, dim: int, num_heads: int, feedforward_dim: int):
        super().__init__()
        self.cross_attention = CrossAttentionLayer(dim=dim, num_heads=num_heads)
        self.self_attention = SelfAttentionLayer(dim=dim, num_heads=num_heads)
        self.feed_forward = FeedForwardLayer(dim=dim, hidden_dim=feedforward_dim)

    def forward(
        self, queries: Tensor, query_pos: Tensor, memory: Tensor, memory_pos: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """(N, Q, C) -> (N, Q, C)."""
        queries = self.cross_attention(
            queries, memory, query_pos=query_pos, memory_pos=memory_pos, allowed=allowed
        )
        return self.feed_forward(self.self_attention(queries, query_pos=query_pos))


class MaskedTransformerDecoder(nn.Module):
    """Queries read {audio, stride 32, 16, 8} in turn; each visual source only inside their own previous mask."""

    NUM_SOURCES = 4

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        mask_dim: int,
        num_classes: int,
        num_queries: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
        checkpoint: bool = False,
    ):
        """
        Args:
            dim: width C.
            mask_dim: width of the mask features.
            num_classes: K, background included; "no object" comes on top.
            num_queries: Q.
            num_layers: decoder layers.
            num_heads: attention heads.
            feedforward_dim: hidden width of the feed-forward blocks.
            checkpoint: in training store only the inputs of layers and recompute the rest.
        """
        super().__init__()
        self.dim = dim
        self.query_embed = nn.Embedding(num_queries, dim)
        self.level_embed = nn.Embedding(self.NUM_SOURCES, dim)
        self.layers = nn.ModuleList(
            DecoderLayer(dim=dim, num_heads=num_heads, feedforward_dim=feedforward_dim) for _ in range(num_layers)
        )
        if checkpoint:
            checkpoint_blocks(self.layers)
        self.norm = nn.LayerNorm(dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = MLP([dim, dim, dim, mask_dim])

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.DECODER
        return {
            "dim": cfg.MODEL.HIDDEN_DIM,
            "mask_dim": cfg.MODEL.PIXEL_DECODER.MASK_DIM or cfg.MODEL.HIDDEN_DIM,
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "num_queries": node.NUM_QUERIES,
            "num_layers": node.NUM_LAYERS,
            "num_heads": node.NUM_HEADS,
            "feedforward_dim": node.FEEDFORWARD_DIM,
            "checkpoint": node.CHECKPOINT,
        }

    def forward(
        self,
        queries: Tensor,
        audio_grid: Tensor,
        scales: list[Tensor],
        mask_features: Tensor,
        *,
        all_layers: bool,
        key_offsets: list[Tensor | None] | None = None,
    ) -> Predictions:
        """Decode.

        Args:
            queries: (N, Q, C).
            audio_grid: (N, C, a, b).
            scales: three of (N, C, ., .), coarse to fine.
            mask_features: (N, mask_dim, h, w).
            all_layers: keep every layer's predictions (for the losses), else only the last.
            key_offsets: offsets added to the keys of each scale, (N, C, ., .) or None; None for none.
        """
        sources = [audio_grid, *scales]
        shapes = [tuple(source.shape[-2:]) for source in sources]
        memories, positions = [], []
        for source, shape, embed in zip(sources, shapes, self.level_embed.weight, strict=True):
            memories.append(source.flatten(2).transpose(1, 2) + embed)
            position = sine_position_embedding(*shape, self.dim, source.device)
            positions.append(position.flatten(2).transpose(1, 2).to(source.dtype))
        for index, offset in enumerate(key_offsets or ()):
            if offset is not None:
                # Keys are memory + position; values stay as they are.
                positions[index + 1] = positions[index + 1] + offset.flatten(2).transpose(1, 2)
        query_pos = self.query_embed.weight.expand(queries.shape[0], -1, -1)
        # Resizing commutes with the product that makes a mask, so masks for attention are made small at once.
        small_features = [
            F.interpolate(mask_features.detach(), size=shape, mode="bilinear", align_corners=False).flatten(2)
            for shape in shapes[1:]
        ]

        logits, mask_embeds = [], []
        for index, layer in enumerate(self.layers):
            source = index % self.NUM_SOURCES
            # Audio is never masked, so inference needs no prediction before reading it.
            if all_layers or source:
                layer_logits, layer_embed = self.predict(queries)
                if all_layers:
                    logits.append(layer_logits)
                    mask_embeds.append(layer_embed)
            allowed = self.allowed(layer_embed, small_features[source - 1]) if source else None
            queries = layer(queries, query_pos, memories[source], positions[source], allowed)
        layer_logits, layer_embed = self.predict(queries)
        return Predictions(
            logits=torch.stack([*logits, layer_logits]),
            mask_embeds=torch.stack([*mask_embeds, layer_embed]),
            mask_features=mask_features,
        )

    def predict(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (N, Q, K + 1) and mask embeddings (N, Q, mask_dim) of ``queries`` (N, Q, C)."""
        queries = self.norm(queries)
        return self.class_embed(queries), self.mask_embed(queries)

    @staticmethod
    @torch.no_grad()
    def allowed(mask_embed: Tensor, features: Tensor) -> Tensor:
        """Where each query may read: bool (N, Q, L), its mask >= 0.5, or everywhere if that leaves nothing.

        Args:
            mask_embed: (N, Q, mask_dim).
            features: (N, mask_dim, L), mask features at the size of the source.
        """
        inside = mask_embed @ features >= 0  # sigmoid(x) >= 0.5
        return inside | ~inside.any(-1, keepdim=True)
