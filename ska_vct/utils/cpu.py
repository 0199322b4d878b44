"""Process settings for computing on a CPU."""

import ctypes
import sys

import torch

# Constants of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def compute_on_cpu() -> None:
    """Speed up CPU computation in this process; memory that was freed stays with the process.

    Denormal numbers, which AdamW's squared gradients become, are flushed to zero. With glibc, freed memory is not
    returned to the system: getting it back page by page, each zeroed first, takes a fifth of a training step
    (docs/performance.md).
    """
    torch.set_flush_denormal(True)
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
