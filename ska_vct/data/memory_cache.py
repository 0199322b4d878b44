"""Keeps what was read from files in memory, so that later epochs of a small dataset read nothing."""

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

_GIB = 1 << 30


class MemoryCache:
    """A bounded store of arrays that were read from files; it takes for granted that the files do not change.

    Once it is full it keeps what it has: with shuffled epochs over more than fits, replacing would only lose hits.
    Kept arrays are made read-only, because every epoch shares them. Each process has a store of its own, which
    starts empty.

    Args:
        max_gb: most that is kept, GiB; 0 keeps nothing.
    """

    def __init__(self, max_gb: float):
        self._max_gb = max_gb
        self._free = int(max_gb * _GIB)
        self._kept: dict[Hashable, Any] = {}

    def get(self, key: Hashable, read: Callable[[], Any]) -> Any:
        """What is kept under ``key``, else the result of ``read``: an array, or a tuple or record of arrays."""
        if key in self._kept:
            return self._kept[key]
        value = read()
        arrays = list(_arrays(value))
        size = sum(array.nbytes for array in arrays)
        if 0 < size <= self._free:
            self._free -= size
            for array in arrays:
                array.setflags(write=False)
            self._kept[key] = value
        return value

    def __reduce__(self) -> tuple:
        return MemoryCache, (self._max_gb,)


def _arrays(value: Any) -> Iterator[np.ndarray]:
    parts = value if isinstance(value, tuple) else vars(value).values() if hasattr(value, "__dict__") else (value,)
    return (part for part in parts if isinstance(part, np.ndarray))
