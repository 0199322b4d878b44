"""Constant tensors that are computed once and reused."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

P = ParamSpec("P")
T = TypeVar("T")


def cached_constant(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """``lru_cache`` for functions that return tensors.

    While a graph is traced or a fake-tensor mode is active nothing is cached: those tensors hold no data, and a
    later real call would be handed them.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        # What inference mode makes cannot be used in a training later.
        cached = lru_cache(maxsize=maxsize)(torch.inference_mode(False)(function))

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if torch.compiler.is_compiling() or detect_fake_mode() is not None:
                return function(*args, **kwargs)
            return cached(*args, **kwargs)

        return call

    return decorate
