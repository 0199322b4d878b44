"""Peak memory of this process, or of the GPU it uses."""

import gc
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak memory above what was held when the meter was made.

    On a GPU what PyTorch has allocated there, else the resident memory of this process without pages of files
    (libraries). One process should measure one thing: freed memory goes back to the system only in part.
    """

    def __init__(self, device: torch.device):
        self._device = device
        gc.collect()
        self._start = torch.cuda.memory_allocated(device) if self._on_gpu else anonymous_bytes()

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def restart(self) -> None:
        """Forget the peak so far, where the system can."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            try:
                _CLEAR.write_text("5")
            except OSError:
                pass

    def read(self) -> int:
        """Bytes."""
        peak = torch.cuda.max_memory_allocated(self._device) if self._on_gpu else peak_anonymous_bytes()
        return max(0, peak - self._start)


def anonymous_bytes() -> int:
    """Resident memory of this process that belongs to no file, now; without /proc, the peak of all."""
    fields = _status()
    return fields["RssAnon"] if fields else _peak_of_all()


def peak_anonymous_bytes() -> int:
    """The same at its peak: exact where no page of a file came later."""
    fields = _status()
    return fields["VmHWM"] - fields["RssFile"] - fields["RssShmem"] if fields else _peak_of_all()


def _status() -> dict[str, int]:
    if not _STATUS.exists():
        return {}
    pairs = (line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if value.endswith(" kB")}


def _peak_of_all() -> int:
    # Not on Linux, where a program inherits the peak of the one that started it.
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
