"""Which process of a run is behind the others, for the message when they have waited for it in vain."""

import logging
from datetime import timedelta

import torch.distributed as dist
from detectron2.utils import comm

_LOGGER = logging.getLogger(__name__)
_KEY = "ska_vct/iteration/"
_PATIENCE = timedelta(seconds=5)


def publish(iteration: int) -> None:
    """Tell the other processes which iteration this one has begun; takes no time of the GPU."""
    if comm.get_world_size() > 1:
        dist.distributed_c10d._get_default_store().set(f"{_KEY}{comm.get_rank()}", str(iteration))


def late_ranks() -> str:
    """A sentence with a leading blank that names the processes that are behind; empty where none is known."""
    if comm.get_world_size() < 2:
        return ""
    begun = {}
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set_timeout(_PATIENCE)
        for rank in range(comm.get_world_size()):
            begun[rank] = int(store.get(f"{_KEY}{rank}"))
    # Whatever the store raises: the process that holds it, or one that has never begun, is gone.
    except Exception as error:
        missing = len(begun)
        reason = (str(error).splitlines() or [""])[0]
        _LOGGER.info(f"Process {missing}, asked which iteration it has begun: {type(error).__name__}: {reason}")
        return f" Process {missing} does not answer; see log.txt.rank{missing}." if missing else ""
    last = max(begun.values())
    behind = [rank for rank, iteration in begun.items() if iteration < last]
    if not behind:
        return ""
    names = ", ".join(f"{rank} (its log: log.txt.rank{rank})" for rank in behind)
    return f" Behind the others, which have begun iteration {last + 1}, is process {names}."
