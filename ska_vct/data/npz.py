"""Deterministic, atomic .npz files: the same arrays give the same bytes, and no half-written file has the final name."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# The earliest moment a zip archive can name; a real clock would make two equal files differ.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_npz(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays`` as a compressed .npz that ``np.load(allow_pickle=False)`` reads.

    Args:
        path: the file to write; its folder is made when missing.
        arrays: name -> array; object arrays are refused.

    Raises:
        ValueError: an array would need pickle.
        OSError: the file cannot be written; nothing is left under ``path`` then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            for name, array in arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=True) as handle:
                    np.lib.format.write_array(handle, np.asanyarray(array), allow_pickle=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
