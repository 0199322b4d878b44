"""Big data sets without a look at every file: one scan per folder, one report for all that is missing."""

import csv
import os
from collections.abc import Iterable, Sequence

from ska_vct.utils.errors import SkaVctError

SHOWN = 3


class DatasetError(SkaVctError, ValueError):
    """A data set is not there or not whole; the sentence names the files and what to do."""


class FolderIndex:
    """Names in folders, each folder read at most once; a folder that does not exist has none."""

    def __init__(self):
        self._names: dict[str, frozenset[str]] = {}
        self._strays: dict[str, list[str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """Entries of ``folder`` without what archives and desktops leave behind (.DS_Store, ._*, PaxHeader)."""
        if folder not in self._names:
            try:
                entries = os.listdir(folder)
            except (FileNotFoundError, NotADirectoryError):
                entries = []
            self._names[folder] = frozenset(name for name in entries if not name.startswith((".", "PaxHeader")))
            if len(self._names[folder]) < len(entries):
                self._strays[folder] = sorted(set(entries) - self._names[folder])
        return self._names[folder]

    def strays(self, folder: str) -> list[str]:
        """What ``names`` leaves out: entries that archives and desktops leave behind, sorted."""
        self.names(folder)
        return self._strays.get(folder, [])

    def first(self, folder: str, candidates: Iterable[str]) -> str | None:
        """Path of the first candidate name that ``folder`` has, or None."""
        names = self.names(folder)
        return next((f"{folder}/{name}" for name in candidates if name in names), None)


class MissingFiles:
    """Collects what a data set lacks, to say it in one sentence instead of file by file.

    Attributes:
        files: (clip id, path, what the file is for), in the order of the search.
    """

    def __init__(self):
        self.files: list[tuple[str, str, str]] = []

    def add(self, clip_id: str, path: str, what: str) -> None:
        self.files.append((clip_id, path, what))

    def check(self, what: str, num_clips: int, advice: str) -> None:
        """Raise if anything is missing.

        Raises:
            DatasetError: with the number of clips and files, and the first few files.
        """
        if self.files:
            clips = {clip_id for clip_id, _, _ in self.files}
            shown = ", ".join(path for _, path, _ in self.files[:SHOWN])
            shown += ", ..." if len(self.files) > SHOWN else ""
            raise DatasetError(
                f"{what}: {len(clips)} of {num_clips} clips lack files, {len(self.files)} in all ({shown}); "
                f"{advice}"
            )


def read_table(
    path: str, columns: Sequence[str], *, optional: Sequence[str] = (), positional: bool = False
) -> list[dict[str, str]]:
    """Rows of a csv file as dicts of the wanted columns, whatever their order and the columns beside them.

    Args:
        columns: names that must be in the first line (case and surrounding blanks do not matter).
        optional: those of ``columns`` that a header need not name.
        positional: a file whose first line names no ``split`` column has no header, and its columns are
            ``columns`` in that order.

    Raises:
        DatasetError: no file, no such columns, or a line that is too short; names file and line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [(number, line) for number, line in enumerate(csv.reader(file), 1) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"Table {path} cannot be read ({getattr(error, 'strerror', None) or error}); unpack the release "
            "there, or point DATASETS.ROOT to the folder that holds it (datasets/README.md has the tree)."
        ) from None
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if positional and lines and "split" not in header:
        header = list(columns)
    else:
        lines = lines[1:]
    columns = [column for column in columns if column in header or column not in optional]
    absent = [column for column in columns if column not in header]
    if absent:
        raise DatasetError(
            f"Table {path} lacks the column {', '.join(absent)}; its first line has "
            f"{', '.join(header) or 'nothing'}, expected {', '.join(columns)}."
        )
    places = {column: header.index(column) for column in columns}
    for number, line in lines:
        if len(line) <= max(places.values()):
            raise DatasetError(f"Table {path}, line {number} has {len(line)} cells, its header {len(header)}.")
    return [{column: line[place].strip() for column, place in places.items()} for _, line in lines]
