"""Mask2Former's pixel decoder: deformable attention over three scales, one FPN step to stride 4.

Paper: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022.

Shape legend: N frames, C width, h x w mask-feature grid (input / 4).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn

from ska_vct.utils.errors import InputError

from .layers import (
    MSDeformAttn,
    at_least_float32,
    checkpoint_blocks,
    sine_position_embedding,
    without_autocast,
)

_GROUPS = 32


class DeformableEncoderLayer(nn.Module):
    """Post-norm encoder layer: deformable self-attention over all levels, then a feed-forward block.

    Under autocast the matrix products are in half precision; tokens, and with them the norms, stay in float32.
    """

    def __init__(
        self,
        *,
        dim: int,
        feedforward_dim: int,
        num_levels: int,
        num_heads: int,
        num_points: int,
        dropout: float,
        deform_attn: str = "auto",
    ):
        super().__init__()
        self.self_attn = MSDeformAttn(
            dim=dim,
            num_levels=num_levels,
            num_heads=num_heads,
            num_points=num_points,
            implementation=deform_attn,
        )
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, tokens: Tensor, pos: Tensor, reference: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """float32 (N, S, C) -> float32 (N, S, C)."""
        attended = self.self_attn(tokens + pos, reference, tokens, shapes)
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = self.dropout(torch.relu(self.linear1(tokens)))
        return self.norm2(tokens + self.dropout(self.linear2(hidden)))


class MSDeformAttnPixelDecoder(nn.Module):
    """Mask features at stride 4 and encoder outputs at strides 32, 16 and 8."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        in_features: list[str],
        dim: int,
        mask_dim: int,
        num_layers: int,
        num_heads: int,
        num_points: int,
        feedforward_dim: int,
        dropout: float,
        checkpoint: bool = False,
        deform_attn: str = "auto",
        amp: bool = True,
    ):
        """
        Args:
            input_shape: channels of the backbone's features by name.
            in_features: four names, fine to coarse: the first feeds the FPN step, the others the encoder.
            dim: width C of the encoder and of its outputs.
            mask_dim: width of the mask features.
            num_layers: encoder layers.
            num_heads, num_points: of the deformable attention.
            feedforward_dim: hidden width of the encoder's feed-forward blocks.
            dropout: probability.
            checkpoint: in training store only the inputs of encoder layers and recompute the rest.
            deform_attn: implementation of the deformable attention.
            amp: whether autocast reaches the convolutions and linear layers; else all runs in float32.

        Raises:
            ValueError: ``in_features`` are not four names of ``input_shape``, ``dim`` is not a multiple of 32, or
                ``deform_attn`` is unknown or not installed.
        """
        super().__init__()
        missing = [name for name in in_features if name not in input_shape]
        if len(in_features) != 4 or missing:
            raise InputError(
                f"MODEL.PIXEL_DECODER.IN_FEATURES must be four of the backbone's features "
                f"{list(input_shape)}, fine to coarse; got {in_features}."
            )
        if dim % _GROUPS:
            raise InputError(f"MODEL.HIDDEN_DIM must be a multiple of {_GROUPS} (GroupNorm), got {dim}.")
        self.in_features = list(in_features)
        self.fine_feature = in_features[0]
        self.coarse_to_fine = list(reversed(in_features[1:]))
        self.dim = dim
        self.amp = amp
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(input_shape[name].channels, dim, 1), nn.GroupNorm(_GROUPS, dim))
            for name in self.coarse_to_fine
        )
        for proj in self.input_proj:
            nn.init.xavier_uniform_(proj[0].weight)
            nn.init.zeros_(proj[0].bias)
        self.level_embed = nn.Parameter(torch.empty(len(self.coarse_to_fine), dim))
        nn.init.normal_(self.level_embed)
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                dim=dim,
                feedforward_dim=feedforward_dim,
                num_levels=len(self.coarse_to_fine),
                num_heads=num_heads,
                num_points=num_points,
                dropout=dropout,
                deform_attn=deform_attn,
            )
            for _ in range(num_layers)
        )
        # As published, layers start as copies of one; then only their matrices are drawn anew.
        with torch.no_grad():
            for layer in self.layers[1:]:
                layer.linear1.bias.copy_(self.layers[0].linear1.bias)
                layer.linear2.bias.copy_(self.layers[0].linear2.bias)
        if checkpoint:
            checkpoint_blocks(self.layers)
        self.lateral = Conv2d(
            input_shape[self.fine_feature].channels, dim, 1, bias=False, norm=nn.GroupNorm(_GROUPS, dim)
        )
        self.output = Conv2d(
            dim, dim, 3, padding=1, bias=False, norm=nn.GroupNorm(_GROUPS, dim), activation=F.relu
        )
        self.mask_features = nn.Conv2d(dim, mask_dim, 1)
        for conv in (self.lateral, self.output, self.mask_features):
            nn.init.kaiming_uniform_(conv.weight, a=1)
        nn.init.zeros_(self.mask_features.bias)

    @classmethod
    def from_config(cls, cfg, input_shape):
        node = cfg.MODEL.PIXEL_DECODER
        return {
            "input_shape": input_shape,
            "in_features": node.IN_FEATURES,
            "dim": cfg.MODEL.HIDDEN_DIM,
            "mask_dim": node.MASK_DIM or cfg.MODEL.HIDDEN_DIM,
            "num_layers": node.ENC_LAYERS,
            "num_heads": node.NUM_HEADS,
            "num_points": node.NUM_POINTS,
            "feedforward_dim": node.FEEDFORWARD_DIM,
            "dropout": node.DROPOUT,
            "checkpoint": node.CHECKPOINT,
            "deform_attn": node.DEFORM_ATTN,
            "amp": node.AMP,
        }

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode.

        Args:
            features: backbone features by name, each (N, channels, H_i, W_i).

        Returns:
            mask features (N, mask_dim, h, w), and the encoder's outputs at strides 32, 16, 8, each (N, C, ., .).
        """
        if self.amp:
            return self._decode(features)
        with without_autocast(features[self.fine_feature].device):
            return self._decode({name: at_least_float32(features[name]) for name in self.in_features})

    def _decode(self, features: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        scales = self._encode([features[name] for name in self.coarse_to_fine])
        lateral = self.lateral(features[self.fine_feature])
        upsampled = F.interpolate(scales[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return self.mask_features(self.output(lateral + upsampled)), scales

    def _encode(self, features: list[Tensor]) -> list[Tensor]:
        shapes = [tuple(x.shape[-2:]) for x in features]
        device = features[0].device
        projected = [
            norm(at_least_float32(conv(x))) for (conv, norm), x in zip(self.input_proj, features, strict=True)
        ]
        tokens = torch.cat([x.flatten(2) for x in projected], dim=-1).transpose(1, 2)
        pos = torch.cat(
            [
                (sine_position_embedding(h, w, self.dim, device) + embed[None, :, None, None]).flatten(2)
                for (h, w), embed in zip(shapes, self.level_embed, strict=True)
            ],
            dim=-1,
        ).transpose(1, 2)
        reference = _cell_centres(shapes, device)[None, :, None].expand(-1, -1, len(shapes), -1)
        for layer in self.layers:
            tokens = layer(tokens, pos, reference, shapes)
        levels = tokens.transpose(1, 2).split([h * w for h, w in shapes], dim=-1)
        return [level.unflatten(-1, shape) for level, shape in zip(levels, shapes, strict=True)]


def _cell_centres(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Centres (x, y) in 0..1 of all cells, the levels one after another: (S, 2)."""
    centres = []
    for h, w in shapes:
        y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
        x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
        centres.append(torch.stack((x.expand(h, w), y[:, None].expand(h, w)), -1).flatten(0, 1))
    return torch.cat(centres)
