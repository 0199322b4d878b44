"""Counts the floating-point operations of all PyTorch operations, by part.

PyTorch's ``FlopCounterMode`` counts only matrix products, convolutions and attention and does not report what it
skips; its formulas are used for those operations. Rules per ``aten`` operation:

- matrix products, convolutions: 2 per multiply-add (``torch.utils.flop_counter``'s formulas)
- attention and deformable attention: see ``kernels.py``
- bilinear interpolation and ``grid_sample``: 8 per value, four neighbours with a product and a sum each
- LayerNorm and GroupNorm: 5 per value, BatchNorm: 2 (its statistics are constants in inference)
- softmax: 5 per value; pooling: 1 per value in a window
- weighted sums of a table's rows (``embedding_bag``): 2 per value read
- sums, means, extremes, sorting: 1 per value read
- element-wise arithmetic, whatever the function: 1 per value written
- 0: views, copies, casts, indexing, comparisons, logic, random numbers

An operation without a rule is listed as uncounted.
"""

from collections import Counter

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .kernels import BILINEAR_FLOPS
from .parts import PartTracker

_PER_OUTPUT = {
    **dict.fromkeys(
        "abs add addcdiv addcmul ceil clamp clamp_min clamp_max cos div elu erf exp floor gelu hardtanh lerp log "
        "log1p log_sigmoid_forward maximum minimum mul neg pow reciprocal relu remainder round rsqrt rsub sigmoid "
        "sign silu sin softplus sqrt square sub tanh trunc xlogy floor_divide fmod atan2 erfinv expm1 log2 "
        "binary_cross_entropy_with_logits".split(),
        1,
    ),
    **dict.fromkeys("upsample_bilinear2d grid_sampler_2d _upsample_bilinear2d_aa".split(), BILINEAR_FLOPS),
    **dict.fromkeys("_softmax _log_softmax _safe_softmax".split(), 5),
    **dict.fromkeys("native_layer_norm native_group_norm".split(), 5),
    **dict.fromkeys(
        "native_batch_norm _native_batch_norm_legit cudnn_batch_norm batch_norm_update_stats "
        "_batch_norm_with_update _native_batch_norm_legit_no_training".split(),
        2,
    ),
}
_PER_INPUT = set(
    "sum mean amax amin max min argmax argmin prod var std var_mean norm linalg_vector_norm cumsum cumprod topk "
    "sort logsumexp _adaptive_avg_pool2d adaptive_max_pool2d any all bincount nll_loss_forward nll_loss2d_forward "
    "histc count_nonzero median kthvalue".split()
)
_POOLS = {"max_pool2d_with_indices", "avg_pool2d"}
_BAGS = {"_embedding_bag", "_embedding_bag_forward_only"}
_FREE = set(
    "view _unsafe_view reshape expand permute transpose t unsqueeze squeeze slice select split split_with_sizes "
    "unbind alias detach clone copy _to_copy to contiguous as_strided lift_fresh lift_fresh_copy cat stack "
    "constant_pad_nd pad reflection_pad2d roll flip repeat repeat_interleave tile unfold im2col pixel_shuffle "
    "index index_select index_put _unsafe_index _unsafe_index_put gather scatter scatter_add embedding take "
    "masked_select masked_fill masked_scatter where nonzero eq ne lt le gt ge isfinite isnan isinf isneginf "
    "logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor "
    "empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like new_zeros ones ones_like "
    "new_ones full full_like new_full fill zero arange linspace scalar_tensor eye tril triu meshgrid one_hot "
    "rand rand_like randn randn_like randint uniform normal exponential bernoulli native_dropout random "
    "_local_scalar_dense item is_same_size diagonal diag_embed movedim view_as_real bucketize searchsorted "
    "resize set_ _reshape_alias unsafe_split chunk narrow sym_size detach_ squeeze_ _assert_async "
    "_index_put_impl max_unpool2d triu_indices equal _has_compatible_shallow_copy_type polar tensor_split".split()
)


class FlopCounter(TorchDispatchMode):
    """Counts the operations executed within its block.

    Attributes:
        flops: by (part, operation).
        uncounted: calls of operations without a rule.
    """

    def __init__(self, tracker: PartTracker):
        super().__init__()
        self.flops: Counter[tuple[str, str]] = Counter()
        self.uncounted: Counter[str] = Counter()
        self._tracker = tracker

    def add(self, operation: str, flops: int) -> None:
        """Count ``flops`` for the part that is running."""
        self.flops[self._tracker.current, operation] += flops

    def by_part(self) -> dict[str, int]:
        """FLOPs by part."""
        total: Counter[str] = Counter()
        for (part, _), flops in self.flops.items():
            total[part] += flops
        return dict(total)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        operation = function.overloadpacket
        flops = operation_flops(operation, args, kwargs, out)
        if flops is None:
            self.uncounted[str(operation)] += 1
        elif flops:
            self.add(operation.__name__, flops)
        return out


def operation_flops(operation, args: tuple, kwargs: dict, out) -> int | None:
    """FLOPs of one call; None if there is no rule for the operation."""
    if operation in flop_registry:
        return int(flop_registry[operation](*args, **kwargs, out_val=out))
    # Count in-place variants like the originals.
    name = operation.__name__
    name = name if name in _FREE else name.rstrip("_") or name
    if name in _FREE or str(operation).startswith("prim"):
        return 0
    if name in _PER_OUTPUT:
        return _PER_OUTPUT[name] * _first(out).numel() if _is_float(args, out) else 0
    if name in _PER_INPUT:
        return _first(args).numel()
    if name in _BAGS:
        # Weighted sums of table rows.
        return 2 * args[1].numel() * args[0].shape[-1]
    if name in _POOLS:
        height, width = (args[1] * 2)[:2]
        return _first(out).numel() * height * width
    return None


def _first(values) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return next(value for value in values if isinstance(value, Tensor))


def _is_float(args: tuple, out) -> bool:
    # Integer arithmetic only computes indices.
    return _first(out).is_floating_point() if isinstance(out, Tensor | tuple | list) else True
