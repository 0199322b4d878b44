"""Deformable attention on CPUs as weighted sums of table rows.

A bilinear read is a weighted sum of four rows of ``value``, so that a query's result is one bag of 4 * L * P rows:
PyTorch's embedding bag makes it, a sampled product of matrices the gradient by weight, and SciPy's transposed
sparse product the gradient by value. Levels get a border of zeros that stands for everything outside them.

Shape legend: N batch, Q queries, L levels, P points, M heads, D width of a head, S = sum of h*w over levels,
F frames of a block times heads, R rows of a head's table.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor

from ..constants import cached_constant
from .op import define_operator

# Cells around a level. Both corners of a location beyond them are zero, and so is its gradient.
_BORDER = 2
# Points processed at once: their intermediate results fit the cache of a core.
_BLOCK_POINTS = 2**19


@dataclass(frozen=True)
class _Layout:
    """Where the cells of a level lie in a head's table; tensors hold an entry per level and point."""

    sides: tuple[tuple[int, int], ...]
    size: Tensor  # (L * P, 2), w and h
    first: Tensor  # (L * P,), row of cell (0, 0)
    stride: Tensor  # (L * P,), rows from a cell to the one below it
    rows: int  # R

    def levels(self, table: Tensor) -> list[Tensor]:
        """Views (F, h, w, D) of the cells of each level in ``table`` (F, R, D)."""
        padded = [(h + 2 * _BORDER, w + 2 * _BORDER) for h, w in self.sides]
        inner = slice(_BORDER, -_BORDER)
        parts = table.split([h * w for h, w in padded], dim=1)
        return [part.unflatten(1, size)[:, inner, inner] for part, size in zip(parts, padded, strict=True)]


@cached_constant(maxsize=64)
def _layout(sides: tuple[int, ...], points: int, dtype: torch.dtype) -> _Layout:
    levels = tuple(zip(sides[::2], sides[1::2], strict=True))
    size, first, stride, rows = [], [], [], 0
    for h, w in levels:
        width = w + 2 * _BORDER
        size.append((w, h))
        first.append(rows + _BORDER * (width + 1))
        stride.append(width)
        rows += (h + 2 * _BORDER) * width

    def per_point(numbers: list) -> Tensor:
        return torch.tensor(numbers, dtype=dtype).repeat_interleave(points, 0)

    return _Layout(levels, per_point(size), per_point(first), per_point(stride), rows)


def _make_table(value: Tensor, layout: _Layout) -> Tensor:
    """(n, S, M, D) -> (F, R, D), at least float32."""
    frames, _, heads, dim = value.shape
    dtype = torch.promote_types(value.dtype, torch.float32)
    table = torch.zeros(frames * heads, layout.rows, dim, dtype=dtype)
    parts = value.split([h * w for h, w in layout.sides], dim=1)
    for cells, part, (h, w) in zip(layout.levels(table), parts, layout.sides, strict=True):
        cells.unflatten(0, (frames, heads)).copy_(part.unflatten(1, (h, w)).permute(0, 3, 1, 2, 4))
    return table


def _bags(locations: Tensor, weights: Tensor, layout: _Layout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows and weights of the four corners of every point.

    Args:
        locations: (n, Q, M, L, P, 2).
        weights: (n, Q, M, L, P).
        layout: of the table.

    Returns:
        rows int32 and their weights, both (F, Q, 4, L * P), the corners in the order of rows, then columns;
        the position between corners (F, Q, L * P, 2) in 0..1; the points' weights (F, Q, L * P).
    """
    heads_first = locations.flatten(3, 4).transpose(1, 2)  # n, M, Q, L * P, 2
    between = torch.mul(heads_first, 2, out=torch.empty(heads_first.shape, dtype=locations.dtype))
    # Rounded as grid_sample's input is, so that a location on the border of two cells has the same gradient there.
    between = between.flatten(0, 1).sub_(1).add_(1).mul_(layout.size / 2).sub_(0.5)
    between = between.clamp_(min=torch.full_like(layout.size, -_BORDER), max=layout.size)
    low = between.floor()
    between.sub_(low)
    x, y = between.unbind(-1)

    cell = torch.addcmul(layout.first, low[..., 1], layout.stride).add_(low[..., 0]).int()
    cell += (torch.arange(len(cell), dtype=torch.int32) * layout.rows)[:, None, None]
    # A location that is no number has a weight that is none, but must have a row.
    cell.clamp_(0, len(cell) * layout.rows - layout.sides[-1][1] - 2 * _BORDER - 2)
    rows = torch.empty(*cell.shape[:2], 4, cell.shape[2], dtype=torch.int32)
    below = cell + layout.stride.int()
    for corner, (start, step) in enumerate(((cell, 0), (cell, 1), (below, 0), (below, 1))):
        torch.add(start, step, out=rows[:, :, corner])

    weights = weights.flatten(3).transpose(1, 2).flatten(0, 1).to(between.dtype)
    shares = torch.empty(rows.shape, dtype=between.dtype)
    lower = y * weights
    for corner, share in ((0, weights - lower), (2, lower)):
        right = torch.mul(share, x, out=shares[:, :, corner + 1])
        torch.sub(share, right, out=shares[:, :, corner])
    return rows, shares, between, weights


def _dots(rows: Tensor, grad: Tensor, table: Tensor) -> Tensor:
    """Products of each bag's gradient (bags, D) with the rows (bags, K) of ``table`` it holds: (bags, K)."""
    bags, length = rows.shape
    starts = torch.arange(0, rows.numel() + 1, length, dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        wanted = torch.sparse_csr_tensor(
            starts, rows.view(-1), table.new_zeros(rows.numel()), size=(bags, len(table)), check_invariants=False
        )
    return torch.sparse.sampled_addmm(wanted, grad, table.t(), beta=0.0).values().view(bags, length)


def _scatter(rows: Tensor, shares: Tensor, grad: Tensor, size: int) -> Tensor:
    """Add to each of ``size`` rows its shares (bags, K) of the bags' gradients (bags, D): (size, D)."""
    bags, length = rows.shape
    starts = torch.arange(0, rows.numel() + 1, length, dtype=torch.int32).numpy()
    taken = csr_array((shares.view(-1).numpy(), rows.view(-1).numpy(), starts), shape=(bags, size))
    return torch.from_numpy(taken.T @ grad.numpy())


def _blocks(locations: Tensor) -> list[slice]:
    points = locations[0].numel() // 2
    step = max(1, _BLOCK_POINTS // max(1, points))
    return [slice(start, start + step) for start in range(0, len(locations), step)]


def _forward(value: Tensor, sides: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    frames, queries, heads = locations.shape[:3]
    layout = _layout(tuple(sides), locations.shape[4], locations.dtype)
    out = value.new_empty(frames, queries, heads, value.shape[-1])
    for block in _blocks(locations):
        table = _make_table(value[block], layout).flatten(0, 1)
        rows, shares, _, _ = _bags(locations[block], weights[block], layout)
        summed = F.embedding_bag(
            rows.view(-1, rows.shape[2] * rows.shape[3]),
            table,
            mode="sum",
            per_sample_weights=shares.to(table.dtype).flatten(0, 1).flatten(1),
        )
        out[block] = summed.view(-1, heads, queries, value.shape[-1]).transpose(1, 2)
    return out.flatten(2)


def _backward(
    grad: Tensor, value: Tensor, sides: list[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    frames, queries, heads, num_levels, points = weights.shape
    dim = value.shape[-1]
    layout = _layout(tuple(sides), points, locations.dtype)
    of_value = torch.empty(value.shape, dtype=value.dtype)
    of_locations = torch.empty(locations.shape, dtype=locations.dtype)
    of_weights = torch.empty(weights.shape, dtype=weights.dtype)
    grad = grad.unflatten(2, (heads, dim))
    for block in _blocks(locations):
        table = _make_table(value[block], layout)
        rows, shares, between, share = _bags(locations[block], weights[block], layout)
        flat_rows = rows.view(-1, 4 * num_levels * points)
        flat_grad = grad[block].transpose(1, 2).to(table.dtype).reshape(-1, dim).contiguous()

        shares = shares.to(table.dtype).view_as(flat_rows)
        of_table = _scatter(flat_rows, shares, flat_grad, table.shape[0] * table.shape[1]).view_as(table)
        parts = of_value[block].split([h * w for h, w in layout.sides], dim=1)
        for cells, part in zip(layout.levels(of_table), parts, strict=True):
            part.copy_(cells.flatten(1, 2).unflatten(0, (-1, heads)).transpose(1, 2))

        dots = _dots(flat_rows, flat_grad, table.flatten(0, 1)).view(rows.shape).to(between.dtype)
        top_left, top_right, bottom_left, bottom_right = dots.unbind(2)
        x, y = between.unbind(-1)
        along_top, along_bottom = top_right - top_left, bottom_right - bottom_left
        top = torch.addcmul(top_left, x, along_top)
        down = torch.addcmul(bottom_left, x, along_bottom).sub_(top)
        by_place = torch.stack((torch.lerp(along_top, along_bottom, y), down), -1)
        by_place.mul_(share[..., None]).mul_(layout.size)

        def heads_last(x: Tensor) -> Tensor:
            return x.unflatten(0, (-1, heads)).transpose(1, 2).unflatten(3, (num_levels, points))

        of_weights[block] = heads_last(torch.addcmul(top, y, down))
        of_locations[block] = heads_last(by_place)
    return of_value, of_locations, of_weights


deform_attn_rows = define_operator("deform_attn_rows", _forward, _backward)
