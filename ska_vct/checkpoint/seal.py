"""Files of ``torch.save`` that carry a hash of themselves, so that no damaged checkpoint is taken for a sound one.

The hash is the comment at the end of the zip archive that ``torch.save`` writes: the file stays one that every
program can read, and file and hash cannot be parted. It covers every byte before itself.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from ska_vct.utils.errors import FileSystemError
from ska_vct.utils.files import atomic_write, sync_folder

# Entry of the content that says that the file has a hash, so that a lost hash is noticed.
SEALED = "__sealed__"
_MARK = b"ska_vct sha256 "
_LENGTH = len(_MARK) + 2 * hashlib.sha256().digest_size
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save_sealed(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write what ``torch.save`` writes, with its hash; whole and on the disk, or not at all.

    Args:
        path: the file; replaced if it exists.
        content: tensors and plain data by name.

    Raises:
        FileSystemError: it cannot be written; says how large it would be and how much room there is.
    """
    path = Path(path)
    writer = None
    try:
        with atomic_write(path) as file:
            writer = _SealingWriter(file)
            torch.save({**content, SEALED: "sha256"}, writer)
            writer.finish()
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in _FULL:
            raise FileSystemError(
                f"Checkpoint '{path}' cannot be written ({error.strerror or error}); earlier checkpoints are as "
                "they were."
            ) from None
        size = writer.size if writer else 0
        raise FileSystemError(
            f"Checkpoint '{path}' of {size / 2**20:.1f} MiB cannot be written ({error.strerror}; "
            f"{shutil.disk_usage(path.parent).free / 2**20:.1f} MiB are free); earlier checkpoints are as they "
            "were. Make room, then continue with --resume."
        ) from None


def is_sound(path: str | os.PathLike) -> bool | None:
    """Whether a file's bytes are those that its hash was computed from.

    Args:
        path: a file.

    Returns:
        None for a file without a hash, e.g. of another program.

    Raises:
        OSError: it cannot be read.
    """
    rest = os.path.getsize(path) - _LENGTH
    if rest <= 0:
        return None
    with open(path, "rb") as file:
        file.seek(rest)
        seal = file.read(_LENGTH)
        if not seal.startswith(_MARK):
            return None
        file.seek(0)
        digest = hashlib.sha256()
        while rest > 0:
            block = file.read(min(_BLOCK, rest))
            if not block:
                return False
            digest.update(block)
            rest -= len(block)
    return seal == _MARK + digest.hexdigest().encode()


class _SealingWriter:
    """A file that computes the hash of what is written; the last two bytes wait for the comment's length."""

    def __init__(self, file: IO[bytes]) -> None:
        self.size = 0
        self._file = file
        self._digest = hashlib.sha256()
        self._waiting = b""
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        self.size += len(view)
        if len(view) < 2:
            everything = self._waiting + bytes(view)
            self._put(everything[:-2])
            self._waiting = everything[-2:]
        else:
            self._put(self._waiting)
            self._put(view[:-2])
            self._waiting = bytes(view[-2:])
        return len(view)

    def flush(self) -> None:
        """Nothing: the file is flushed and synced when it is whole."""

    def finish(self) -> None:
        """Write the comment.

        Raises:
            OSError: a byte could not be written.
        """
        # An archive without a comment ends in the comment's length, zero.
        self._put(_LENGTH.to_bytes(2, "little"))
        self.size += _LENGTH
        if self._error is None:
            self._file.write(_MARK + self._digest.hexdigest().encode())
        else:
            raise self._error

    def _put(self, data: bytes | memoryview) -> None:
        # PyTorch's writer is C++ code, through which an exception cannot pass: it is kept for the end.
        self._digest.update(data)
        if self._error is None and len(data):
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
