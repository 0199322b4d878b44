"""Checkpoints with a hash: any program reads them, no damage is accepted, and a full disk leaves the old ones."""

import errno
import os
import random
import zipfile

import pytest
import torch

from ska_vct.checkpoint import seal
from ska_vct.checkpoint.files import CheckpointError, load_file
from ska_vct.checkpoint.seal import is_sound, save_sealed
from ska_vct.utils.errors import FileSystemError
from tests.faults.bits import flip_bits


@pytest.fixture
def content() -> dict:
    return {"model": {"a": torch.randn(300, 7), "b": torch.arange(5)}, "iteration": 3, "names": ["x", "y"]}


def test_other_programs_read_the_file(content, tmp_path):
    path = tmp_path / "m.pth"
    save_sealed(path, content)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"ska_vct sha256 ")
    for mapped in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mapped)
        assert torch.equal(loaded["model"]["a"], content["model"]["a"])
    assert is_sound(path)
    assert load_file(path).keys() == load_file(path, lazily=True).keys() == content.keys()


def test_no_flipped_bit_is_accepted(content, tmp_path):
    path = tmp_path / "m.pth"
    save_sealed(path, content)
    assert flip_bits(path, tmp_path, flips=200, seed=0) == []
    # The last byte is part of the hash, the first of the archive.
    for place in (0, -1):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        (tmp_path / "n.pth").write_bytes(data)
        with pytest.raises(CheckpointError, match="n.pth' is damaged"):
            load_file(tmp_path / "n.pth")


def test_a_file_that_has_lost_its_hash_is_refused_and_one_that_never_had_one_is_read(content, tmp_path):
    save_sealed(tmp_path / "m.pth", content)
    data = (tmp_path / "m.pth").read_bytes()
    (tmp_path / "m.pth").write_bytes(data.replace(b"ska_vct sha256 ", b"ska_vct sha255 "))
    assert is_sound(tmp_path / "m.pth") is None
    with pytest.raises(CheckpointError, match="damaged"):
        load_file(tmp_path / "m.pth")
    torch.save(content, tmp_path / "other.pth")
    assert is_sound(tmp_path / "other.pth") is None and load_file(tmp_path / "other.pth")["iteration"] == 3


def test_the_hash_covers_what_is_written_in_any_pieces(tmp_path):
    data = random.Random(0).randbytes(5000) + b"\0\0"
    for sizes in ([1], [2], [1, 3, 1, 1, 700], [5002]):
        with open(tmp_path / "file", "wb") as file:
            writer = seal._SealingWriter(file)
            place, index = 0, 0
            while place < len(data):
                place += writer.write(data[place : place + sizes[index % len(sizes)]])
                index += 1
            writer.finish()
        assert is_sound(tmp_path / "file")
        assert (tmp_path / "file").read_bytes()[:5000] == data[:5000]


@pytest.mark.parametrize("after", [0, 1000, 7000])
def test_a_full_disk_gives_one_sentence_and_leaves_what_was_there(content, tmp_path, monkeypatch, after):
    path = tmp_path / "m.pth"
    save_sealed(path, content)
    before = path.read_bytes()

    class Full(seal._SealingWriter):
        def _put(self, data):
            if self.size > after and self._error is None:
                self._error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super()._put(data)

    monkeypatch.setattr(seal, "_SealingWriter", Full)
    with pytest.raises(FileSystemError) as info:
        save_sealed(path, content)
    message = str(info.value)
    assert str(path) in message and "No space left on device" in message and "MiB are free" in message
    assert "\n" not in message and "--resume" in message
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["m.pth"]
