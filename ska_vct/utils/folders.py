"""Output folders: made, and tested for writing before hours of work depend on them."""

import os
import tempfile
from pathlib import Path

from ska_vct.utils.errors import FileSystemError


def make_folder(path: str | os.PathLike) -> Path:
    """Create folder ``path`` with its parents, if need be, and check that it can be written to.

    Raises:
        OSError: naming the folder and the reason.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise FileSystemError(
            f"Cannot write to folder '{path}' ({error.strerror or error}); choose another output folder."
        ) from None
    return path
