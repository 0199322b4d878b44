"""Lists of clips to exclude, for releases that cannot be completed."""

import os

from ska_vct.data.avsbench.csv_table import read_table
from ska_vct.data.avsbench.folders import DatasetError

CLIP_COLUMN = "clip"


def read_leave_out(path: str | os.PathLike) -> frozenset[str]:
    """Read the clip ids in the column ``clip`` of a CSV file; empty cells are ignored.

    Raises:
        DatasetError: the file does not exist, cannot be read or has no such column.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise DatasetError(
            f"DATASETS.LEAVE_OUT names {path}, which is not a file; set it to a CSV file, or leave it empty."
        )
    return frozenset(row[CLIP_COLUMN] for row in read_table(path, (CLIP_COLUMN,)) if row[CLIP_COLUMN])
