"""Deformable attention as an operator of PyTorch: with gradients, and a single node to ``torch.compile``."""

from collections.abc import Callable

import torch
from torch import Tensor

Forward = Callable[[Tensor, list[int], Tensor, Tensor], Tensor]
Backward = Callable[[Tensor, Tensor, list[int], Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def define_operator(name: str, forward: Forward, backward: Backward) -> Forward:
    """Register ``ska_vct::<name>`` and its gradient; only the inputs are kept for the latter.

    Args:
        name: of the operator.
        forward: (value (N, S, M, D), sides [h, w, h, w, ...], locations (N, Q, M, L, P, 2), weights
            (N, Q, M, L, P)) -> (N, Q, M * D) in the dtype of ``value``; annotated, since its schema is read off.
        backward: (gradient of the result, then the same) -> gradients of value, locations and weights.

    Returns:
        the operator.
    """
    operator = torch.library.custom_op(f"ska_vct::{name}", forward, mutates_args=())
    gradient = torch.library.custom_op(f"ska_vct::{name}_backward", backward, mutates_args=())

    @operator.register_fake
    def _(value, sides, locations, weights):
        return value.new_empty(*locations.shape[:2], value.shape[2] * value.shape[3])

    @gradient.register_fake
    def _(grad, value, sides, locations, weights):
        return tuple(
            torch.empty_like(x, memory_format=torch.contiguous_format) for x in (value, locations, weights)
        )

    def keep(ctx, inputs, output):
        value, ctx.sides, locations, weights = inputs
        ctx.save_for_backward(value, locations, weights)

    def differentiate(ctx, grad):
        value, locations, weights = ctx.saved_tensors
        of_value, of_locations, of_weights = gradient(grad, value, ctx.sides, locations, weights)
        return of_value, None, of_locations, of_weights

    operator.register_autograd(differentiate, setup_context=keep)
    return operator
