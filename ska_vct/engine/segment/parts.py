"""A video's results on disk while it is being segmented, so that a stopped run goes on and memory stays flat."""

import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ska_vct.utils.files import atomic_path, write_json

_FOLDER, _SETTINGS = ".parts", "settings.json"
# Parts whose arrays are kept in memory.
_OPEN = 2


class PartStore:
    """Arrays and plain values of the clips of a video, one file per clip.

    Attributes:
        count: clips stored without a gap.
    """

    def __init__(self, folder: Path, settings: dict):
        """
        Args:
            folder: of the video's results; the files lie in a folder of their own inside.
            settings: plain values; files made with others are deleted.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder = folder / _FOLDER
        self.count = 0
        self._open: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        if read_settings(self.folder / _SETTINGS) != settings:
            self.clear()
            write_json(self.folder / _SETTINGS, settings)
        while self._path(self.count).is_file():
            self.count += 1

    def save(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Store the next clip."""
        with atomic_path(self._path(self.count)) as path:
            np.savez_compressed(path, **arrays, values=np.array(json.dumps(values)))
        self.count += 1

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """What was stored of a clip."""
        if index not in self._open:
            with np.load(self._path(index), allow_pickle=False) as file:
                self._open[index] = {name: file[name] for name in file.files}
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return self._open[index]

    def __iter__(self) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        """Arrays and values of all clips in their order."""
        for index in range(self.count):
            arrays = self.arrays(index)
            yield arrays, json.loads(str(arrays["values"]))

    def clear(self) -> None:
        """Delete all files."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.count = 0

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"


class Rows:
    """One array's rows over all clips, read when they are asked for.

    Args:
        store: of the clips.
        name: of the array.
        length: rows of a clip; the last may have fewer.
        count: rows.
    """

    def __init__(self, store: PartStore, name: str, *, length: int, count: int):
        self._store, self._name, self._length, self._count = store, name, length, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> np.ndarray:
        return self._store.arrays(row // self._length)[self._name][row % self._length]


def read_settings(path: Path) -> dict | None:
    """Settings that a run has stored; None where there are none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
