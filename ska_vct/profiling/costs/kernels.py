"""Cost of attention with fused kernels, independent of the implementation that would run.

A fused kernel never stores attention weights. The implementation that runs depends on device and shapes, and a
fallback would be counted as other operations. Here each kind of attention is a single operation with the fused
kernel's cost.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ska_vct.modeling.layers import ms_deform_attn as deform_module

ATTENTION = "scaled_dot_product_attention"
DEFORM = "deformable_attention"
# Per weight: softmax (maximum, difference, exponential, sum, quotient) and the scale.
_SOFTMAX_FLOPS = 6
# Four neighbours with a product and a sum each.
BILINEAR_FLOPS = 8


def attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *, masked: bool) -> int:
    """FLOPs of softmax(q k / sqrt(d) + mask) v, for shapes (..., Q, d), (..., K, d), (..., K, e)."""
    weights = query[:-1].numel() * key[-2]
    return weights * (2 * query[-1] + 2 * value[-1] + _SOFTMAX_FLOPS + masked)


def deform_flops(value: torch.Size, locations: torch.Size) -> int:
    """FLOPs of sampling (N, S, M, D) at (N, Q, M, L, P, 2) and the weighted sum, without index arithmetic."""
    return locations[:-1].numel() * value[-1] * (BILINEAR_FLOPS + 2)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        out = query.new_zeros(*query.shape[:-1], value.shape[-1])
        sums = query.new_zeros(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, out, sums)
        return out

    @staticmethod
    def backward(ctx, grad):
        query, key, value, mask, *_ = ctx.saved_tensors
        return tuple(t if t is None else torch.empty_like(t) for t in (query, key, value, mask))


class _DeformAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, locations, weights)
        return value.new_zeros(*locations.shape[:2], value.shape[2] * value.shape[3])

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors)


class _FusedAttention(TorchFunctionMode):
    def __init__(self, add: Callable[[str, int], None]):
        super().__init__()
        self._add = add

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is not F.scaled_dot_product_attention:
            return function(*args, **kwargs)
        query, key, value, *rest = args
        mask = rest[0] if rest else kwargs.get("attn_mask")
        if torch.is_autocast_enabled("cpu"):
            query, key, value = (t.to(torch.get_autocast_dtype("cpu")) for t in (query, key, value))
        self._add(ATTENTION, attention_flops(query.shape, key.shape, value.shape, masked=mask is not None))
        return _Attention.apply(query, key, value, mask)


@contextmanager
def fused_kernels(add: Callable[[str, int], None], *, attention: bool = True) -> Iterator[None]:
    """Within the block, make both kinds of attention return zeros and report their name and FLOPs to ``add``.

    Args:
        add: called with operation name and FLOPs.
        attention: False leaves scaled-dot-product attention to PyTorch.
    """

    def deform(value: Tensor, spatial_shapes, locations: Tensor, weights: Tensor, *_) -> Tensor:
        add(DEFORM, deform_flops(value.shape, locations.shape))
        return _DeformAttention.apply(value, locations, weights)

    with (
        mock.patch.object(deform_module, "deform_attn", deform),
        _FusedAttention(add) if attention else nullcontext(),
    ):
        yield
