"""Files that are whole or absent."""

import os

import pytest

from ska_vct.utils.errors import FileSystemError
from ska_vct.utils.files import atomic_write


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "shared"
    folder.mkdir()
    # Permissions do not bind an administrator, who runs many containers.
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(folder))
    with pytest.raises(FileSystemError, match=r"Folder '.*shared' is read-only, so that 'a\.txt' cannot"):
        with atomic_write(folder / "a.txt"):
            pytest.fail("the block is not reached")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileSystemError, match=r"Folder '.*file/below' cannot be made \(Not a directory\)"):
        with atomic_write(tmp_path / "file" / "below" / "a.txt"):
            pytest.fail("the block is not reached")
    assert list(folder.iterdir()) == []
