"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021) in plain PyTorch.

Shape legend: N batch, Q queries, L levels, P points, M heads, D width of a head, S = sum of h*w over levels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def ms_deform_attn_core(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sample every level bilinearly (zeros outside, ``align_corners=False``) and sum by attention weight.

    Args:
        value: (N, S, M, D), the levels one after another.
        spatial_shapes: (h, w) of each level.
        sampling_locations: (N, Q, M, L, P, 2), x and y, 0..1 within the level.
        attention_weights: (N, Q, M, L, P).

    Returns:
        (N, Q, M * D).
    """
    n, _, heads, dim = value.shape
    num_queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    grids = (2 * sampling_locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # L, N*M, Q, P, 2
    levels = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in spatial_shapes], dim=-1)
    sampled = [
        F.grid_sample(level.unflatten(-1, shape), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        for level, shape, grid in zip(levels, spatial_shapes, grids, strict=True)
    ]  # each N*M, D, Q, P
    weights = attention_weights.permute(0, 2, 1, 3, 4).reshape(n * heads, 1, num_queries, len(levels) * points)
    out = (torch.cat(sampled, dim=-1) * weights).sum(-1)  # N*M, D, Q
    return out.view(n, heads * dim, num_queries).transpose(1, 2)


class MSDeformAttn(nn.Module):
    """Each query reads ``num_points`` places per level and head, at offsets it predicts itself."""

    def __init__(self, *, dim: int, num_levels: int, num_heads: int, num_points: int):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"The attention width {dim} is no multiple of its number of heads {num_heads}.")
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        direction = torch.stack((angle.cos(), angle.sin()), -1)
        # On the unit square rather than the unit circle, as published.
        direction = direction / direction.abs().amax(-1, keepdim=True)
        radius = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = direction[:, None, None, :] * radius[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        spatial_shapes: list[tuple[int, int]],
        padding: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: (N, Q, C).
            reference_points: (N or 1, Q, L, 2) x and y in 0..1, or (N or 1, Q, L, 4) boxes as centre and size.
            memory: (N, S, C), the levels one after another.
            spatial_shapes: (h, w) of each level.
            padding: bool (N, S), True where ``memory`` is padding and reads as zero.

        Returns:
            (N, Q, C).

        Raises:
            ValueError: if the last axis of ``reference_points`` is neither 2 nor 4.
        """
        n, num_queries, _ = query.shape
        value = self.value_proj(memory)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0.0)
        value = value.unflatten(-1, (self.num_heads, -1))
        shape = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(n, num_queries, *shape, 2)
        weights = self.attention_weights(query).view(n, num_queries, self.num_heads, -1).softmax(-1)
        reference = reference_points[:, :, None, :, None]
        if reference_points.shape[-1] == 2:
            sides = [side for h, w in spatial_shapes for side in (w, h)]
            if torch.compiler.is_exporting():
                # Sides of a graph for any size are no numbers yet, which new_tensor would make of them.
                size = torch.stack([offsets.new_ones(()) * side for side in sides]).view(-1, 2)
            else:
                size = offsets.new_tensor(sides).view(-1, 2)
            locations = reference + offsets / size[:, None]
        elif reference_points.shape[-1] == 4:
            locations = reference[..., :2] + offsets / self.num_points * reference[..., 2:] * 0.5
        else:
            raise ValueError(f"Reference points have {reference_points.shape[-1]} numbers each, expected 2 or 4.")
        out = ms_deform_attn_core(value, spatial_shapes, locations, weights.view(n, num_queries, *shape))
        return self.output_proj(out)
