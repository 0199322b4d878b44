"""Deformable attention as Triton kernels, compiled when first used; importing this module needs Triton.

Each program works on a block of rows, a row being a query and head, and walks over its levels and points.
Arithmetic is float32 (float64 for float64 values) whatever the values are stored in. The gradient by value is
summed by atomics, whose order, and with it the last bits, differs from run to run.

Shape legend: N batch, Q queries, L levels, P points, M heads, D width of a head, S = sum of h*w over levels,
B rows of a block, W = D rounded up to a power of two.
"""

from contextlib import nullcontext
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .op import define_operator

# Elements (B * W) a program holds of each corner, and the warps that share them.
_BLOCK_ELEMENTS = 1024
_WARPS = 4


@triton.jit
def _corners(x, y, width, height, start):
    """Cells (int64) of the four corners around (x, y), and which of them exist; no cell is out of range."""
    left, top = tl.floor(x), tl.floor(y)
    # Compared as floats: NaN and values too large for an integer count as outside.
    has_left, has_right = (left >= 0) & (left < width), (left >= -1) & (left < width - 1)
    has_top, has_bottom = (top >= 0) & (top < height), (top >= -1) & (top < height - 1)
    column = tl.where(has_left | has_right, left, 0.0).to(tl.int32)
    line = tl.where(has_top | has_bottom, top, 0.0).to(tl.int32)
    cell = (start + line * width + column).to(tl.int64)
    return cell, has_top & has_left, has_top & has_right, has_bottom & has_left, has_bottom & has_right


@triton.jit
def _level(levels, level):
    """Height, width and first cell of a level."""
    return tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1), tl.load(levels + 3 * level + 2)


@triton.jit
def _sample(locations, weights, index, real, height, width, start, EXACT: tl.constexpr):
    """Weight of a sampling point, its offset from the upper left cell, that cell, and which corners are inside."""
    share = tl.load(weights + index, mask=real, other=0.0).to(EXACT)
    x = tl.load(locations + 2 * index, mask=real, other=-1.0).to(EXACT) * width - 0.5
    y = tl.load(locations + 2 * index + 1, mask=real, other=-1.0).to(EXACT) * height - 0.5
    cell, in00, in01, in10, in11 = _corners(x, y, width, height, start)
    return share, x - tl.floor(x), y - tl.floor(y), cell, in00, in01, in10, in11


@triton.jit
def _forward_kernel(
    value, levels, locations, weights, out, rows, queries, cells,
    HEADS: tl.constexpr, DIM: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = row < rows
    column = tl.arange(0, WIDTH)
    used = real[:, None] & (column < DIM)[None, :]
    # Value's row of cell 0 for each row's frame and head: (B, W) addresses.
    origin = value + ((row // (HEADS * queries)) * cells * HEADS + row % HEADS)[:, None] * DIM + column[None, :]
    total = tl.zeros((BLOCK, WIDTH), dtype=EXACT)
    for level in range(LEVELS):
        height, width, start = _level(levels, level)
        for point in tl.static_range(POINTS):
            index = (row * LEVELS + level) * POINTS + point
            share, x, y, cell, in00, in01, in10, in11 = _sample(
                locations, weights, index, real, height, width, start, EXACT
            )
            x, y = x[:, None], y[:, None]
            at = origin + cell[:, None] * (HEADS * DIM)
            below = at + width.to(tl.int64) * (HEADS * DIM)
            v00 = tl.load(at, mask=used & in00[:, None], other=0.0).to(EXACT)
            v01 = tl.load(at + HEADS * DIM, mask=used & in01[:, None], other=0.0).to(EXACT)
            v10 = tl.load(below, mask=used & in10[:, None], other=0.0).to(EXACT)
            v11 = tl.load(below + HEADS * DIM, mask=used & in11[:, None], other=0.0).to(EXACT)
            upper = v00 + x * (v01 - v00)
            lower = v10 + x * (v11 - v10)
            total += share[:, None] * (upper + y * (lower - upper))
    tl.store(out + row[:, None] * DIM + column[None, :], total.to(out.dtype.element_ty), mask=used)


@triton.jit
def _backward_kernel(
    grad, value, levels, locations, weights, of_value, of_locations, of_weights, rows, queries, cells,
    HEADS: tl.constexpr, DIM: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = row < rows
    column = tl.arange(0, WIDTH)
    used = real[:, None] & (column < DIM)[None, :]
    origin = ((row // (HEADS * queries)) * cells * HEADS + row % HEADS)[:, None] * DIM + column[None, :]
    g = tl.load(grad + row[:, None] * DIM + column[None, :], mask=used, other=0.0).to(EXACT)
    for level in range(LEVELS):
        height, width, start = _level(levels, level)
        for point in tl.static_range(POINTS):
            index = (row * LEVELS + level) * POINTS + point
            share, x, y, cell, in00, in01, in10, in11 = _sample(
                locations, weights, index, real, height, width, start, EXACT
            )
            p00 = origin + cell[:, None] * (HEADS * DIM)
            p10 = p00 + width.to(tl.int64) * (HEADS * DIM)
            p01, p11 = p00 + HEADS * DIM, p10 + HEADS * DIM
            m00, m01 = used & in00[:, None], used & in01[:, None]
            m10, m11 = used & in10[:, None], used & in11[:, None]
            # What each corner's value would give with a weight of one.
            d00 = tl.sum(g * tl.load(value + p00, mask=m00, other=0.0).to(EXACT), axis=1)
            d01 = tl.sum(g * tl.load(value + p01, mask=m01, other=0.0).to(EXACT), axis=1)
            d10 = tl.sum(g * tl.load(value + p10, mask=m10, other=0.0).to(EXACT), axis=1)
            d11 = tl.sum(g * tl.load(value + p11, mask=m11, other=0.0).to(EXACT), axis=1)
            upper = d00 + x * (d01 - d00)
            lower = d10 + x * (d11 - d10)
            along_x = (d01 - d00) + y * ((d11 - d10) - (d01 - d00))
            tl.store(of_weights + index, upper + y * (lower - upper), mask=real)
            tl.store(of_locations + 2 * index, share * along_x * width, mask=real)
            tl.store(of_locations + 2 * index + 1, share * (lower - upper) * height, mask=real)

            right, bottom = share * x, share * y
            both = right * y
            tl.atomic_add(of_value + p00, g * (share - right - bottom + both)[:, None], mask=m00, sem="relaxed")
            tl.atomic_add(of_value + p01, g * (right - both)[:, None], mask=m01, sem="relaxed")
            tl.atomic_add(of_value + p10, g * (bottom - both)[:, None], mask=m10, sem="relaxed")
            tl.atomic_add(of_value + p11, g * both[:, None], mask=m11, sem="relaxed")


def is_interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU (``TRITON_INTERPRET=1``) in place of compiling them."""
    return not isinstance(_forward_kernel, triton.JITFunction)


@lru_cache(maxsize=64)
def _levels(sides: tuple[int, ...], device: torch.device) -> Tensor:
    """Height, width and first cell of each level: int32 (L, 3)."""
    rows, start = [], 0
    for height, width in zip(sides[::2], sides[1::2], strict=True):
        rows.append((height, width, start))
        start += height * width
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _launch(kernel, tensors: tuple[Tensor, ...], value: Tensor, locations: Tensor) -> None:
    frames, queries, heads, num_levels, points, _ = locations.shape
    cells, dim = value.shape[1], value.shape[3]
    rows = frames * queries * heads
    if not rows:
        return
    width = triton.next_power_of_2(dim)
    block = max(1, _BLOCK_ELEMENTS // width)
    # Triton compiles for, and launches on, the current device.
    with torch.cuda.device(value.device) if value.is_cuda else nullcontext():
        kernel[(triton.cdiv(rows, block),)](
            *tensors,
            rows,
            queries,
            cells,
            HEADS=heads,
            DIM=dim,
            LEVELS=num_levels,
            POINTS=points,
            BLOCK=block,
            WIDTH=width,
            EXACT=tl.float64 if value.dtype == torch.float64 else tl.float32,
            num_warps=_WARPS,
            enable_fp_fusion=True,
        )


def _forward(value: Tensor, sides: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
    out = value.new_empty(*locations.shape[:2], value.shape[2] * value.shape[3])
    levels = _levels(tuple(sides), value.device)
    _launch(_forward_kernel, (value, levels, locations, weights, out), value, locations)
    return out


def _backward(
    grad: Tensor, value: Tensor, sides: list[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad, value = grad.contiguous(), value.contiguous()
    locations, weights = locations.contiguous(), weights.contiguous()
    of_value = torch.zeros(value.shape, dtype=_exact(value.dtype), device=value.device)
    of_locations, of_weights = torch.empty_like(locations), torch.empty_like(weights)
    inputs = (grad, value, _levels(tuple(sides), value.device), locations, weights)
    _launch(_backward_kernel, (*inputs, of_value, of_locations, of_weights), value, locations)
    return of_value.to(value.dtype), of_locations, of_weights


deform_attn_triton = define_operator("deform_attn_triton", _forward, _backward)
