"""Files that are either whole or absent."""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ska_vct.utils.errors import FileSystemError

_PART = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.part(\..*)?")


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary neighbour of ``path`` that takes its place when the block ends without an exception.

    Args:
        path: the file to write; missing folders are made. The neighbour keeps its ending, from which
            many writers tell the format.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(path.parent, os.W_OK | os.X_OK)
    except OSError as error:
        raise FileSystemError(
            f"Folder '{path.parent}' cannot be made ({error.strerror}); choose another, or change its permissions."
        ) from None
    if not is_writable:
        raise FileSystemError(
            f"Folder '{path.parent}' is read-only, so that '{path.name}' cannot be written; choose another, or "
            "change its permissions."
        )
    # Machines that share a disk may have processes of one number.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb", **kwargs: Any) -> Iterator[IO]:
    """Open a file that becomes ``path``, replacing what is there, when the block ends without an exception.

    Args:
        path: the file to write; missing folders are made.
        mode: ``wb`` or ``w``.
        kwargs: further arguments of ``open``.

    Raises:
        OSError: the folder cannot be written.
    """
    if "b" not in mode:
        kwargs.setdefault("encoding", "utf-8")
    with atomic_path(path) as temporary:
        with open(temporary, mode, **kwargs) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


def sync_folder(path: str | os.PathLike) -> None:
    """Wait until a folder's entries are on the disk, so that a file just renamed in it survives a power loss."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        # Some file systems do not open folders.
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def remove_parts(folder: str | os.PathLike) -> list[str]:
    """Delete what interrupted writers of :func:`atomic_path` have left in a folder, where no other writes.

    Returns:
        names of the deleted files.

    Raises:
        OSError: a file cannot be deleted.
    """
    parts = [path for path in Path(folder).iterdir() if _PART.fullmatch(path.name) and path.is_file()]
    for path in parts:
        path.unlink(missing_ok=True)
    return sorted(path.name for path in parts)


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write ``data`` to ``path`` as indented JSON, whole or not at all."""
    with atomic_write(path, "w") as file:
        json.dump(data, file, indent=2, sort_keys=True)
        file.write("\n")
