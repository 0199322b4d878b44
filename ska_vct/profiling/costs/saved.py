"""Memory that a training step holds when its backward pass begins: what autograd keeps, by part."""

from collections import Counter

import torch
from torch import Tensor, nn

from .parts import PartTracker


class SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Within its block, notes the storages that autograd keeps; each counts once, for the part that kept it first.

    Parameters and buffers are left out: they are there anyway. A checkpointed block keeps its inputs alone.

    Attributes:
        bytes: by part.
    """

    def __init__(self, tracker: PartTracker, model: nn.Module):
        super().__init__(self._pack, lambda tensor: tensor)
        self.bytes: Counter[str] = Counter()
        self._tracker = tracker
        own = [*model.parameters(), *model.buffers()]
        # Storages are kept, or their addresses would be given to others.
        self._seen = {_address(tensor): tensor for tensor in own}

    def _pack(self, tensor: Tensor) -> Tensor:
        address = _address(tensor)
        if address not in self._seen:
            self._seen[address] = tensor
            self.bytes[self._tracker.current] += tensor.untyped_storage().nbytes()
        return tensor


def _address(tensor: Tensor) -> int:
    # Fake tensors have no data pointer.
    return tensor.untyped_storage()._cdata
