"""Settings of a process that computes on a CPU."""

import ctypes
import sys

import torch

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def compute_on_cpu() -> None:
    """Let this process compute fast on a CPU, at the price of keeping the memory it once had.

    Numbers too small for a CPU's fast path count as zero, as AdamW's squared gradients become. Memory that tensors
    free stays with the process: given back to the system it would return page by page, each cleared first, which
    takes a fifth of a training step (docs/performance.md). Where the C library is not glibc, memory is left alone.
    """
    torch.set_flush_denormal(True)
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
