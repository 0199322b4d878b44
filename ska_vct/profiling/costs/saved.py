"""Memory held by autograd at the start of the backward pass, by part."""

from collections import Counter

import torch
from torch import Tensor, nn

from .parts import PartTracker


class SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Records the storages that autograd saves within its block, each once, for the part that saves it first.

    Parameters and buffers are excluded, because they exist anyway. A checkpointed block saves only its inputs.

    Attributes:
        bytes: bytes by part.
    """

    def __init__(self, tracker: PartTracker, model: nn.Module):
        super().__init__(self._pack, lambda tensor: tensor)
        self.bytes: Counter[str] = Counter()
        self._tracker = tracker
        own = [*model.parameters(), *model.buffers()]
        # Keeping the storages alive prevents reuse of their addresses.
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
