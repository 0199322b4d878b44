"""Which implementation of deformable attention runs.

Shape legend: N batch, Q queries, L levels, P points, M heads, D width of a head, S = sum of h*w over levels.
"""

import importlib.util
import logging
import subprocess
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ska_vct.utils.errors import InputError

from ..constants import cached_constant
from .grid import deform_attn_grid

_LOGGER = logging.getLogger(__name__)
_KEY = "MODEL.PIXEL_DECODER.DEFORM_ATTN"
_MAX_TRITON_DIM = 128


def deform_attn_torch(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Only PyTorch (and SciPy): sums of table rows on CPUs, ``grid_sample`` elsewhere and in exported graphs."""
    if value.device.type != "cpu" or torch.compiler.is_exporting():
        return deform_attn_grid(value, spatial_shapes, sampling_locations, attention_weights)
    from .rows import deform_attn_rows

    return deform_attn_rows(value, _sides(spatial_shapes), sampling_locations, attention_weights)


def deform_attn_triton(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Triton kernels, on CUDA or in Triton's interpreter."""
    from .triton_kernels import deform_attn_triton as operator

    return operator(value, _sides(spatial_shapes), sampling_locations, attention_weights)


def deform_attn_package(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """The package torch-ms-deform-attn (C++, CUDA); computes in float32 at least."""
    from torch_ms_deform_attn import ms_deform_attn

    shapes, starts = _shape_tensors(tuple(_sides(spatial_shapes)), value.device)
    dtype = torch.promote_types(value.dtype, sampling_locations.dtype)
    inputs = value.to(dtype), shapes, starts, sampling_locations.to(dtype), attention_weights.to(dtype)
    return ms_deform_attn(*inputs).to(value.dtype)


# What the key may name besides "auto"; called as deform_attn is, without its last argument.
DEFORM_IMPLEMENTATIONS: dict[str, Callable[[Tensor, list[tuple[int, int]], Tensor, Tensor], Tensor]] = {
    "torch": deform_attn_torch,
    "triton": deform_attn_triton,
    "ms_deform_attn": deform_attn_package,
    "grid_sample": deform_attn_grid,
}


def deform_attn(
    value: Tensor,
    spatial_shapes: list[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
    implementation: str = "auto",
) -> Tensor:
    """Sample every level bilinearly (zeros outside, ``align_corners=False``) and sum by attention weight.

    Args:
        value: (N, S, M, D), the levels one after another; float32, float64, float16 or bfloat16.
        spatial_shapes: (h, w) of each level.
        sampling_locations: float32 (N, Q, M, L, P, 2), x and y, 0..1 within the level; float64 with such a value.
        attention_weights: (N, Q, M, L, P), floating point.
        implementation: a name of ``DEFORM_IMPLEMENTATIONS`` or ``auto``.

    Returns:
        (N, Q, M * D) in the dtype of ``value``; sums are made in float32 at least.

    Raises:
        ValueError: the implementation is unknown, or cannot run on these tensors or this machine.
    """
    if implementation == "auto":
        implementation = choose(value.device, value.dtype, value.shape[-1])
    else:
        require(implementation, device=value.device, dim=value.shape[-1])
    run = DEFORM_IMPLEMENTATIONS[implementation]
    return run(value, spatial_shapes, sampling_locations, attention_weights)


def choose(device: torch.device, dtype: torch.dtype, dim: int) -> str:
    """The fastest implementation that runs.

    Args:
        device: of the values.
        dtype: of the values.
        dim: width D of a head.
    """
    if device.type != "cuda" or torch.compiler.is_exporting():
        return "torch"
    if not _triton_problem(device, dim) and _triton_works(device.index or 0, dtype):
        return "triton"
    return "torch" if _package_problem(device) else "ms_deform_attn"


def require(implementation: str, *, dim: int, device: torch.device | None = None) -> None:
    """Refuse what cannot run.

    Args:
        implementation: a name of ``DEFORM_IMPLEMENTATIONS`` or ``auto``.
        dim: width D of a head.
        device: of the values; None where it is not known yet.

    Raises:
        ValueError: saying why it cannot and what to do.
    """
    if implementation not in ("auto", *DEFORM_IMPLEMENTATIONS):
        names = ", ".join(DEFORM_IMPLEMENTATIONS)
        raise InputError(f"{_KEY} is '{implementation}'; choose auto or one of {names}.")
    problem = ""
    if implementation == "triton":
        problem = _triton_problem(device, dim)
    elif implementation == "ms_deform_attn":
        problem = _package_problem(device)
    if problem:
        raise InputError(f"{_KEY} is '{implementation}', but {problem} Or set it to auto.")


def _triton_problem(device: torch.device | None, dim: int) -> str:
    if not _installed("triton"):
        return "Triton is not installed; it comes with PyTorch for CUDA on Linux (pip install triton)."
    if dim > _MAX_TRITON_DIM:
        return f"the heads are {dim} wide and its kernels hold {_MAX_TRITON_DIM}; use more heads."
    if device is None or device.type == "cuda":
        return ""
    from .triton_kernels import is_interpreted

    return "" if is_interpreted() else f"the model is on '{device.type}' and Triton needs CUDA."


def _package_problem(device: torch.device | None) -> str:
    if not _installed("torch_ms_deform_attn"):
        return "the package is not installed: pip install --no-build-isolation torch-ms-deform-attn."
    if device is None or device.type != "cuda" or _package_knows_cuda():
        return ""
    return "the package was built without CUDA: install it anew where the CUDA toolkit and a GPU are visible."


@torch.compiler.assume_constant_result
def _package_knows_cuda() -> bool:
    from torch_ms_deform_attn import _C

    return bool(getattr(_C, "with_cuda", False))


@torch.compiler.assume_constant_result
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@torch.compiler.assume_constant_result
@lru_cache(maxsize=16)
def _triton_works(index: int, dtype: torch.dtype) -> bool:
    """Whether kernels compile and run on a device, tested by one call; logs the reason where they do not."""
    from triton import TritonError

    from .triton_kernels import deform_attn_triton as operator

    device = torch.device("cuda", index)
    value = torch.zeros(1, 1, 1, 8, device=device, dtype=dtype)
    locations = torch.zeros(1, 1, 1, 1, 1, 2, device=device)
    try:
        operator(value, [1, 1], locations, locations[..., 0].to(dtype))
    except (TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        reason = str(error).strip().splitlines()[:1]
        _LOGGER.warning(
            f"Triton cannot compile for {device} ({type(error).__name__}: {' '.join(reason)}); deformable "
            f"attention takes a slower way. It needs a C compiler (gcc) and Python's headers when it first runs."
        )
        return False
    return True


@cached_constant(maxsize=64)
def _shape_tensors(sides: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    shapes = torch.tensor(sides, device=device).view(-1, 2)
    cells = shapes.prod(1)
    return shapes, cells.cumsum(0) - cells


def _sides(spatial_shapes: list[tuple[int, int]]) -> list[int]:
    return [side for shape in spatial_shapes for side in shape]
