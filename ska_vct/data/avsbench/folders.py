"""Large datasets without a look at every file: one scan per folder, one report for all that is missing."""

import os
import unicodedata
from collections.abc import Iterable

from ska_vct.utils.errors import SkaVctError

SHOWN = 3


class DatasetError(SkaVctError, ValueError):
    """A dataset is missing or incomplete; the sentence names the files and what to do."""


class FolderIndex:
    """Names in folders, each folder read at most once; a folder that does not exist has none.

    Folders are found where archives leave them: inside another folder of their own name (``ms3_data/ms3_data``),
    and with names in another Unicode form than asked for (a decomposed umlaut).
    """

    def __init__(self):
        self._names: dict[str, frozenset[str]] = {}
        self._strays: dict[str, list[str]] = {}
        self._found: dict[tuple[str, str], str] = {}

    def names(self, folder: str) -> frozenset[str]:
        """Entries of ``folder`` without what archives and desktops leave behind (.DS_Store, ._*, PaxHeader).

        Raises:
            DatasetError: the folder is there and cannot be read.
        """
        if folder not in self._names:
            try:
                entries = os.listdir(folder)
            except (FileNotFoundError, NotADirectoryError):
                entries = []
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise DatasetError(f"Folder {folder} cannot be read ({reason}); mend its permissions.") from None
            self._names[folder] = frozenset(name for name in entries if not name.startswith((".", "PaxHeader")))
            if len(self._names[folder]) < len(entries):
                self._strays[folder] = sorted(set(entries) - self._names[folder])
        return self._names[folder]

    def strays(self, folder: str) -> list[str]:
        """What ``names`` leaves out: entries that archives and desktops leave behind, sorted."""
        self.names(folder)
        return self._strays.get(folder, [])

    def folder(self, base: str, inside: str) -> str:
        """Path of the folder ``inside`` ``base`` as it is on disk; the plain path where there is none."""
        plain = f"{base}/{inside}" if inside else base
        if self.names(plain):
            return plain
        key = (base, inside)
        if key not in self._found:
            self._found[key] = self._search(base, inside) or plain
        return self._found[key]

    def first(self, folder: str, candidates: Iterable[str]) -> str | None:
        """Path of the first candidate name that ``folder`` has, or None."""
        names = self.names(folder)
        for name in candidates:
            if (found := _same_name(name, names)) is not None:
                return f"{folder}/{found}"
        return None

    def _search(self, base: str, inside: str) -> str | None:
        """Part by part; a folder that lacks the next part and holds one of its own name is left for that one."""
        parent, _, last = inside.rpartition("/")
        above = self.folder(base, parent) if parent else base
        found = _same_name(last, self.names(above))
        own_name = above.rpartition("/")[2]
        if found is None and own_name in self.names(above):
            above = f"{above}/{own_name}"
            found = _same_name(last, self.names(above))
        return None if found is None else f"{above}/{found}"


def _same_name(name: str, names: frozenset[str]) -> str | None:
    """The entry that is ``name``, if need be in another Unicode form."""
    if name in names:
        return name
    if name.isascii():
        return None
    wanted = unicodedata.normalize("NFC", name)
    return next((entry for entry in names if unicodedata.normalize("NFC", entry) == wanted), None)


class MissingFiles:
    """Collects what a dataset lacks, to say it in one sentence instead of file by file.

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
