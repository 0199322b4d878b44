"""Folder listings and reports of missing files for large datasets, without checking every file separately."""

import os
import unicodedata
from collections.abc import Iterable

from ska_vct.utils.errors import SkaVctError

SHOWN = 3


class DatasetError(SkaVctError, ValueError):
    """A dataset is missing or incomplete; the message names the files and the remedy."""


class FolderIndex:
    """Cached folder listings; each folder is read at most once, and a missing folder is empty.

    Tolerates two artefacts of archives: a folder nested inside a folder of the same name (``ms3_data/ms3_data``),
    and names in another Unicode normalization form (a decomposed umlaut).
    """

    def __init__(self):
        self._names: dict[str, frozenset[str]] = {}
        self._strays: dict[str, list[str]] = {}
        self._found: dict[tuple[str, str], str] = {}

    def names(self, folder: str) -> frozenset[str]:
        """Entries of ``folder`` without leftovers of archives and desktops (.DS_Store, ._*, PaxHeader).

        Raises:
            DatasetError: the folder exists but cannot be read.
        """
        if folder not in self._names:
            try:
                entries = os.listdir(folder)
            except (FileNotFoundError, NotADirectoryError):
                entries = []
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise DatasetError(f"Folder {folder} cannot be read ({reason}); fix its permissions.") from None
            self._names[folder] = frozenset(name for name in entries if not name.startswith((".", "PaxHeader")))
            if len(self._names[folder]) < len(entries):
                self._strays[folder] = sorted(set(entries) - self._names[folder])
        return self._names[folder]

    def strays(self, folder: str) -> list[str]:
        """Entries omitted by ``names``, left behind by archives and desktops, sorted."""
        self.names(folder)
        return self._strays.get(folder, [])

    def folder(self, base: str, inside: str) -> str:
        """Path of the folder ``inside`` ``base`` as it exists on disk; the plain path if it does not exist."""
        plain = f"{base}/{inside}" if inside else base
        if self.names(plain):
            return plain
        key = (base, inside)
        if key not in self._found:
            self._found[key] = self._search(base, inside) or plain
        return self._found[key]

    def first(self, folder: str, candidates: Iterable[str]) -> str | None:
        """Path of the first candidate that exists in ``folder``, or None."""
        names = self.names(folder)
        for name in candidates:
            if (found := _same_name(name, names)) is not None:
                return f"{folder}/{found}"
        return None

    def _search(self, base: str, inside: str) -> str | None:
        """Search part by part; if the next part is missing, also search a subfolder of the same name."""
        parent, _, last = inside.rpartition("/")
        above = self.folder(base, parent) if parent else base
        found = _same_name(last, self.names(above))
        own_name = above.rpartition("/")[2]
        if found is None and own_name in self.names(above):
            above = f"{above}/{own_name}"
            found = _same_name(last, self.names(above))
        return None if found is None else f"{above}/{found}"


def _same_name(name: str, names: frozenset[str]) -> str | None:
    """The entry that equals ``name`` up to Unicode normalization, or None."""
    if name in names:
        return name
    if name.isascii():
        return None
    wanted = unicodedata.normalize("NFC", name)
    return next((entry for entry in names if unicodedata.normalize("NFC", entry) == wanted), None)


class MissingFiles:
    """Collects missing files of a dataset, to report them in one sentence.

    Attributes:
        files: (clip id, path, purpose of the file), in search order.
    """

    def __init__(self):
        self.files: list[tuple[str, str, str]] = []

    def add(self, clip_id: str, path: str, what: str) -> None:
        self.files.append((clip_id, path, what))

    def check(self, what: str, num_clips: int, advice: str) -> None:
        """Raise if any file is missing.

        Raises:
            DatasetError: the message gives the numbers of clips and files, and the first few files.
        """
        if self.files:
            clips = {clip_id for clip_id, _, _ in self.files}
            shown = ", ".join(path for _, path, _ in self.files[:SHOWN])
            shown += ", ..." if len(self.files) > SHOWN else ""
            raise DatasetError(
                f"{what}: {len(clips)} of {num_clips} clips lack files, {len(self.files)} in all ({shown}); "
                f"{advice}"
            )
