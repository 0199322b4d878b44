"""The parts of the model and a tracker of the part that is running.

PyTorch's ``ModuleTracker`` is not used because it also hooks autograd, which fails on fake tensors.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType

from torch import nn

REST = "rest"
# Children of the model in data-flow order, with their names in reports.
PARTS = {
    "backbone": "backbone",
    "pre_mask_encoder": "pre-mask encoder",
    "audio_encoder": "audio encoder",
    "pixel_decoder": "pixel decoder",
    "ska": "SKA",
    "mpqg": "MPQG",
    "decoder": "decoder",
    "brm": "BRM",
    "prototype_alignment": "prototypes",
    "criterion": "criterion",
    "losses": "further losses",
}


def part_of(name: str) -> str:
    """Part to which a parameter or buffer belongs, by its full name."""
    return PARTS.get(name.split(".", 1)[0], REST)


class PartTracker:
    """Tracks the part whose method is running.

    Attributes:
        current: name of the part; ``rest`` outside all parts.
    """

    def __init__(self):
        self.current = REST

    @contextmanager
    def follow(self, model: nn.Module) -> Iterator[None]:
        """Within the block, update ``current`` whenever a public method of one of the model's parts runs."""
        wrapped = []
        for child, part in PARTS.items():
            child = getattr(model, child, None)
            # For a container, follow its entries.
            modules = child.values() if isinstance(child, nn.ModuleDict) else [child]
            for module in modules:
                for name in _own_methods(type(module)):
                    setattr(module, name, self._wrap(part, getattr(module, name)))
                    wrapped.append((module, name))
        try:
            yield
        finally:
            for module, name in wrapped:
                delattr(module, name)

    def _wrap(self, part: str, method: Callable) -> Callable:
        @wraps(method)
        def run(*args, **kwargs):
            before, self.current = self.current, part
            try:
                return method(*args, **kwargs)
            finally:
                self.current = before

        return run


def _own_methods(kind: type) -> set[str]:
    return {
        name
        for base in kind.__mro__
        if issubclass(base, nn.Module) and base is not nn.Module
        for name, value in vars(base).items()
        if isinstance(value, FunctionType) and not name.startswith("_")
    }
