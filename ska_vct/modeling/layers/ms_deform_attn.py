"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021).

Shape legend: N batch, Q queries, L levels, P points, M heads, D width of a head, S = sum of h*w over levels.
"""

import math

import torch
from torch import Tensor, nn

from ska_vct.utils.errors import InputError

from .deform_attn import deform_attn, require
from .precision import at_least_float32, without_autocast


class MSDeformAttn(nn.Module):
    """Each query samples ``num_points`` locations per level and head, at offsets it predicts itself."""

    def __init__(
        self, *, dim: int, num_levels: int, num_heads: int, num_points: int, implementation: str = "auto"
    ):
        """
        Args:
            dim: width C.
            num_levels: L.
            num_heads: M.
            num_points: P, per head and level.
            implementation: see :func:`ska_vct.modeling.layers.deform_attn.deform_attn`.

        Raises:
            ValueError: the heads do not divide the width, or the implementation is unknown or not installed.
        """
        super().__init__()
        if dim % num_heads:
            raise InputError(f"The attention width {dim} is not a multiple of its number of heads {num_heads}.")
        require(implementation, dim=dim // num_heads)
        self.implementation = implementation
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
        # Places need more than the eight bits of bfloat16.
        with without_autocast(query.device):
            offsets = self.sampling_offsets(at_least_float32(query)).view(n, num_queries, *shape, 2)
        logits = self.attention_weights(query).view(n, num_queries, self.num_heads, -1)
        weights = at_least_float32(logits).softmax(-1)
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
        weights = weights.view(n, num_queries, *shape)
        out = deform_attn(value, spatial_shapes, locations, weights, self.implementation)
        return self.output_proj(out)
