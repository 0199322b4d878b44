"""Files of the demo's visitors: in one private folder, those of a visit are deleted when it ends."""

import shutil
import tempfile
import threading
from pathlib import Path


class VisitorFiles:
    """A folder per visit, and the uploads that belong to it.

    Args:
        root: folder that holds all of it, also the copies that the web server makes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._folders: dict[str, Path] = {}
        self._uploads: dict[str, set[Path]] = {}

    def folder(self, visit: str) -> Path:
        """The folder of a visit, which is made if need be."""
        with self._lock:
            if visit not in self._folders:
                self._folders[visit] = Path(tempfile.mkdtemp(prefix="visit-", dir=self._root))
            return self._folders[visit]

    def add_upload(self, visit: str, path: Path) -> None:
        """Note that a file below the root belongs to a visit; other files are not touched."""
        path = path.resolve()
        if path.is_relative_to(self._root.resolve()):
            with self._lock:
                self._uploads.setdefault(visit, set()).add(path)

    def forget(self, visit: str) -> None:
        """Delete all files of a visit, and the server's copies of its results, which have their names."""
        with self._lock:
            folder = self._folders.pop(visit, None)
            uploads = self._uploads.pop(visit, set())
            # Two visits may have sent the same file, which the server keeps once.
            uploads -= set().union(*self._uploads.values())
        names = {folder.name} if folder else set()
        if folder:
            names |= {path.name for path in folder.rglob("*") if path.is_file()}
            shutil.rmtree(folder, ignore_errors=True)
        for path in uploads:
            path.unlink(missing_ok=True)
        for path in self._root.glob("*/*"):
            if path.name in names and not path.parent.name.startswith("visit-"):
                path.unlink(missing_ok=True)
