"""Deformable attention by ``grid_sample``: for every device and exported graphs; the reference of the others."""

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_attn_grid(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """See :func:`ska_vct.modeling.layers.deform_attn.deform_attn`."""
    n, _, heads, dim = value.shape
    num_queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    # The kernel wants one dtype, and locations need more than half precision.
    dtype = torch.promote_types(value.dtype, sampling_locations.dtype)
    grids = (2 * sampling_locations - 1).to(dtype).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # L, N*M, Q, P, 2
    levels = value.to(dtype).permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in spatial_shapes], dim=-1)
    sampled = [
        F.grid_sample(level.unflatten(-1, shape), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        for level, shape, grid in zip(levels, spatial_shapes, grids, strict=True)
    ]  # each N*M, D, Q, P
    weights = attention_weights.permute(0, 2, 1, 3, 4).reshape(n * heads, 1, num_queries, len(levels) * points)
    out = (torch.cat(sampled, dim=-1) * weights).sum(-1)  # N*M, D, Q
    return out.view(n, heads * dim, num_queries).transpose(1, 2).to(value.dtype)
