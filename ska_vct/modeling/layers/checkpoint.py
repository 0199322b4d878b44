"""Activation checkpointing: what a block would keep is computed again in the backward pass.

A whole block, which then stores only its inputs, at the price of a second forward pass; or only what costs next to
nothing to compute again, such as norms and activations in front of a matrix product.

Paper: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(blocks: Iterable[nn.Module]) -> None:
    """Make each block store only its inputs while training; results, gradients and names do not change."""
    for block in blocks:
        block.__class__ = _checkpointed(type(block))


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """What a network repeats: the members of its innermost lists that hold no plain layers of PyTorch."""
    inner = [block for child in network.children() for block in repeated_blocks(child)]
    if inner or not isinstance(network, nn.Sequential | nn.ModuleList):
        return inner
    members = list(network)
    is_own = all(next(m.children(), None) and not type(m).__module__.startswith("torch.") for m in members)
    return members if is_own else []


def draws_noise(module: nn.Module) -> bool:
    """Whether dropout or stochastic depth is at work in ``module``."""
    return any(
        isinstance(part, _DropoutNd) and part.p > 0 or bool(getattr(part, "drop_prob", 0.0))
        for part in module.modules()
    )


def compute_again(
    block: nn.Module, function: Callable[..., Tensor], *inputs: Tensor | None, noise: bool = False
) -> Tensor:
    """``function(*inputs)`` that stores its inputs instead of its intermediate results.

    In the backward pass ``function`` runs again, but only until everything that was not kept is there: its last
    operation does not. Meant for cheap steps in front of a dear one, e.g. a norm in front of a linear layer.

    Args:
        block: whose parameters ``function`` reads; where it does not train, nothing is computed again.
        function: any.
        inputs: its arguments.
        noise: whether it draws random numbers.
    """
    is_whole = _whole.depth > 0  # all of the block is computed again anyway
    is_traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    if is_whole or is_traced or not _trains(block, inputs):
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=noise)


class _Whole(threading.local):
    """How many checkpointed blocks this thread is computing, one inside the other."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_) -> None:
        self.depth -= 1


_whole = _Whole()


def _trains(module: nn.Module, inputs: tuple) -> bool:
    if not (module.training and torch.is_grad_enabled()):
        return False
    tensors = (*module.parameters(), *(value for value in inputs if isinstance(value, Tensor)))
    return any(tensor.requires_grad for tensor in tensors)


@lru_cache
def _checkpointed(kind: type[nn.Module]) -> type[nn.Module]:
    class Checkpointed(kind):
        def forward(self, *inputs, **options):
            run = super().forward
            if not _trains(self, inputs):
                return run(*inputs, **options)
            whole = run
            # A compiler computes the block again from its own graph of it, which holds no Python.
            if not torch.compiler.is_compiling():
                options["context_fn"] = lambda: (nullcontext(), _SecondTime(self))

                def whole(*inputs, **options):
                    with _whole:
                        return run(*inputs, **options)

            return checkpoint(whole, *inputs, use_reentrant=False, preserve_rng_state=draws_noise(self), **options)

    Checkpointed.__name__ = Checkpointed.__qualname__ = kind.__name__
    return Checkpointed


class _SecondTime:
    """While a block is computed again: BatchNorm's averages have seen the batch, and sizes are unchanged.

    Detectron2's Swin blocks hold the size of their grid as attributes, which a later pass may have changed.
    """

    def __init__(self, block: nn.Module):
        self._block = block
        self._sizes = {name: value for name, value in vars(block).items() if type(value) is int}

    def __enter__(self) -> None:
        attributes = vars(self._block)
        self._now = {name: attributes[name] for name in self._sizes}
        attributes.update(self._sizes)
        norms = [part for part in self._block.modules() if isinstance(part, _BatchNorm)]
        self._norms = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_) -> None:
        vars(self._block).update(self._now)
        for norm, momentum, count in self._norms:
            norm.momentum, norm.num_batches_tracked = momentum, count
