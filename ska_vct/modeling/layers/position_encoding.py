"""Sine position embedding over a grid (Carion et al., "DETR", ECCV 2020)."""

import math

import torch

from ska_vct.utils.errors import InputError

from .constants import cached_constant

_TEMPERATURE = 10000.0
_EPS = 1e-6


@cached_constant(maxsize=64)
def sine_position_embedding(height: int, width: int, dim: int, device: torch.device) -> torch.Tensor:
    """Normalised sine embedding of a ``height`` x ``width`` grid.

    Returns:
        float32 (1, dim, height, width); the first half of the channels encodes rows, the second columns.

    Raises:
        ValueError: ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise InputError(f"A sine position embedding needs a width that is a multiple of 4, got {dim}.")
    half = dim // 2
    exponent = 2 * torch.arange(half, device=device, dtype=torch.float32).div(2, rounding_mode="floor") / half
    frequency = _TEMPERATURE**exponent

    def encode(length: int) -> torch.Tensor:
        position = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        angle = (position / (length + _EPS) * 2 * math.pi)[:, None] / frequency
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    rows = encode(height).t()[:, :, None].expand(half, height, width)
    columns = encode(width).t()[:, None, :].expand(half, height, width)
    return torch.cat((rows, columns))[None]
