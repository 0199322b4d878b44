"""Decoded images on disk, no larger than training needs them: an epoch after the first decodes nothing.

Opt-in (``INPUT.CACHE``) and bounded. Only training reads it: an image that was made smaller once and is resized
again differs a little from one that is resized once, and scores must not depend on a cache.
"""

import fcntl
import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ska_vct.data.images.io import read_image
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_path
from ska_vct.utils.folders import make_folder

_SIZE_FILE = "bytes"
_GIB = 2**30


class ImageCache:
    """Reads images as ``read_image`` does, from files that are mapped instead of decoded where it can.

    Any number of processes may use one folder. An image that has changed on disk is another entry; a damaged
    entry is made anew. When the bound is reached, nothing more is kept; to make room, remove the folder.
    """

    def __init__(self, *, root: str | os.PathLike, short_side: int, max_gb: float):
        """
        Args:
            root: folder of the cache; made when missing.
            short_side: images are kept with at most so many pixels on their short side; they are never enlarged.
            max_gb: most that the folder may hold, GiB.

        Raises:
            ValueError: an impossible side or bound.
            OSError: the folder cannot be made.
        """
        if short_side < 1 or max_gb <= 0:
            raise InputError(
                f"A cache of images with a short side of {short_side} and at most {max_gb} GiB can keep "
                "nothing; set INPUT.CACHE.SHORT_SIDE and INPUT.CACHE.MAX_GB above 0."
            )
        self.root = make_folder(root)
        self.short_side = short_side
        self.max_bytes = int(max_gb * _GIB)
        self._is_full = False

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """An image, uint8 (h, w, 3), RGB, not to be written to.

        Raises:
            ImageError: it is not there and its file is missing or cannot be decoded.
        """
        entry = self._entry(path)
        if entry is None:
            return read_image(path)  # which says that the file is missing
        try:
            return np.load(entry, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError):
            self._forget(entry)
        image = _reduced(read_image(path), self.short_side)
        self._keep(entry, image)
        return image

    def _entry(self, path: str | os.PathLike) -> Path | None:
        """Where an image is kept; its name says which file, in which state, at which size."""
        try:
            stat = os.stat(path)
        except OSError:
            return None
        state = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0{self.short_side}"
        name = hashlib.sha1(state.encode(), usedforsecurity=False).hexdigest()
        return self.root / name[:2] / f"{name[2:]}.npy"

    def _keep(self, entry: Path, image: np.ndarray) -> None:
        if self._is_full or not self._reserve(image.nbytes):
            self._is_full = True
            return
        with atomic_path(entry) as temporary:
            np.save(temporary, image)

    def _forget(self, entry: Path) -> None:
        try:
            size = entry.stat().st_size
            entry.unlink()
        except FileNotFoundError:
            return  # another process was first
        self._reserve(-size)

    def _reserve(self, num_bytes: int) -> bool:
        """Add to what the folder holds, unless that would exceed the bound."""
        with open(self.root / _SIZE_FILE, "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            held = int(file.read() or 0) + num_bytes
            if num_bytes > 0 and held > self.max_bytes:
                return False
            file.truncate(0)
            file.write(str(max(0, held)))
        return True


def _reduced(image: np.ndarray, short_side: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
