"""Resizes weights that depend on a size: Swin's position tables and the query mixer's grid."""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

_TABLE = re.compile(r".*\.attn\.relative_position_bias_table$")
_INDEX = re.compile(r".*\.attn\.relative_position_index$")
_MIXER = "mpqg.query_mixer.0.weight"


def is_size_dependent(name: str) -> bool:
    """Whether an entry of this name can be resized."""
    return bool(_TABLE.match(name)) or name == _MIXER


def follows_from_sizes(name: str) -> bool:
    """Whether an entry is computed from sizes only, so the model's own value is correct."""
    return bool(_INDEX.match(name))


def resize(name: str, tensor: Tensor, wanted: torch.Size, mixer_grid: tuple[int, int] | None) -> Tensor | None:
    """``tensor`` resized to ``wanted``; None if they differ in more than the size.

    Args:
        name: our name, see :func:`is_size_dependent`.
        tensor: from the file.
        wanted: shape in the model.
        mixer_grid: rows and columns of the model's query mixer.
    """
    if _TABLE.match(name):
        return resize_position_table(tensor, wanted[0]) if tensor.shape[1:] == wanted[1:] else None
    if tensor.shape[0] != wanted[0] or mixer_grid is None:
        return None
    grid = mixer_grid_of(tensor.shape[1], mixer_grid)
    return None if grid is None else resize_mixer(tensor, grid, mixer_grid)


def resize_position_table(table: Tensor, length: int) -> Tensor | None:
    """Bicubic resize of a relative-position table, as Swin's authors do for a different window.

    Args:
        table: ((2w - 1)^2, heads).
        length: wanted number of rows, a square.

    Returns:
        (length, heads); None if either is not a square.
    """
    old, new = math.isqrt(len(table)), math.isqrt(length)
    if old * old != len(table) or new * new != length:
        return None
    grid = table.t().reshape(1, -1, old, old).float()
    resized = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return resized[0].flatten(1).t().to(table.dtype).contiguous()


def mixer_grid_of(cells: int, like: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of a grid of ``cells`` cells with the aspect ratio of ``like``; None if there is none."""
    rows = math.isqrt(round(cells * like[0] / like[1]))
    return (
        (rows, cells // rows) if rows and cells % rows == 0 and rows * like[1] == cells // rows * like[0] else None
    )


def resize_mixer(weight: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Adapt the query mixer's first layer to a different grid.

    Applied to features on the new grid, the result gives exactly what the old layer gives for the same features
    resized to the old grid, so nothing is lost.

    Args:
        weight: (hidden, old cells).
        old: rows and columns of the old grid.
        new: rows and columns of the new grid.

    Returns:
        (hidden, new cells).
    """
    grid = weight.double().unflatten(1, old)
    rows, columns = (_resampling(there, here) for there, here in zip(new, old, strict=True))
    return torch.einsum("kab,ai,bj->kij", grid, rows, columns).flatten(1).to(weight.dtype)


def _resampling(source: int, target: int) -> Tensor:
    """Matrix (target, source) of the bilinear resize along one axis."""
    basis = torch.eye(source, dtype=torch.float64)[:, None]
    return F.interpolate(basis, size=target, mode="linear", align_corners=False)[:, 0].t()
