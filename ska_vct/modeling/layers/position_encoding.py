"""Sine position embedding over a grid (Carion et al., "DETR", ECCV 2020)."""

import math
from functools import lru_cache

import torch

_TEMPERATURE = 10000.0
_EPS = 1e-6


def sine_position_embedding(height: int, width: int, dim: int, device: torch.device) -> torch.Tensor:
    """Normalised sine embedding of a ``height`` x ``width`` grid; kept, since it depends on its arguments alone.

    Returns:
        float32 (1, dim, height, width); the first half of the channels encodes rows, the second columns.

    Raises:
        ValueError: if ``dim`` is no multiple of 4.
    """
    # A graph that is being made has sizes that may be no numbers and tensors that hold none.
    make = _embedding if torch.compiler.is_compiling() else _kept_embedding
    return make(height, width, dim, device)


def _embedding(height: int, width: int, dim: int, device: torch.device) -> torch.Tensor:
    if dim % 4:
        raise ValueError(f"A sine position embedding needs a width that is a multiple of 4, got {dim}.")
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


_kept_embedding = lru_cache(maxsize=64)(_embedding)
