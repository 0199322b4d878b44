"""Peak memory of this process or of its GPU."""

import gc
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak memory relative to the memory in use when the meter was created.

    On a GPU this is the memory allocated by PyTorch, else the resident memory of this process without file pages
    (libraries). Use one process per measurement, since freed memory is only partly returned to the system.
    """

    def __init__(self, device: torch.device):
        self._device = device
        gc.collect()
        self._start = torch.cuda.memory_allocated(device) if self._on_gpu else anonymous_bytes()

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def restart(self) -> None:
        """Reset the peak, if the system supports it."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            try:
                _CLEAR.write_text("5")
            except OSError:
                pass

    def read(self) -> int:
        """Peak in bytes since the last restart."""
        peak = torch.cuda.max_memory_allocated(self._device) if self._on_gpu else peak_anonymous_bytes()
        return max(0, peak - self._start)


def anonymous_bytes() -> int:
    """Current resident memory of this process without file pages; without /proc, the peak of all memory."""
    fields = _status()
    return fields["RssAnon"] if fields else _peak_of_all()


def peak_anonymous_bytes() -> int:
    """Peak of ``anonymous_bytes``; exact if no file pages were added after the peak."""
    fields = _status()
    return fields["VmHWM"] - fields["RssFile"] - fields["RssShmem"] if fields else _peak_of_all()


def _status() -> dict[str, int]:
    if not _STATUS.exists():
        return {}
    pairs = (line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if value.endswith(" kB")}


def _peak_of_all() -> int:
    # Not used on Linux, where a process inherits its parent's peak.
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
