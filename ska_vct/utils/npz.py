"""Deterministic .npz files: the same arrays give the same bytes, and no half-written file has the final name."""

import os
import zipfile
from collections.abc import Mapping

import numpy as np

from ska_vct.utils.files import atomic_path

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
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", compresslevel=4) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as handle:
                np.lib.format.write_array(handle, np.asanyarray(array), allow_pickle=False)
