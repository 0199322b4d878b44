"""What only the first process of a run does, such as touching its folder, or has and gives to the others."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from detectron2.utils import comm
from torch import nn

from ska_vct.utils.errors import SkaVctError

Result = TypeVar("Result")


def on_first_rank(task: Callable[[], Result]) -> Result:
    """Call ``task()`` in the first process, and give every process what it returned.

    Args:
        task: must return something that can be pickled.

    Raises:
        SkaVctError, OSError: raised by ``task``, in every process.
    """
    result, error = None, None
    if comm.is_main_process():
        try:
            result = task()
        except (SkaVctError, OSError) as raised:
            error = raised
    if comm.get_world_size() > 1:
        # Messages only: the attributes of an error need not survive pickling.
        shared = comm.all_gather((result, str(error) if error else None))[0]
        if error is None and shared[1] is not None:
            error = SkaVctError(shared[1])
        result = shared[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def share_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the first: BatchNorm's statistics differ between them, scores must not."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
