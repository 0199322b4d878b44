"""Checkpoints fit or stop, are whole or absent, and never run code."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ska_vct.checkpoint.checkpointer import CheckpointError, StrictCheckpointer, load_file, load_state_dict


def model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def test_saved_weights_come_back_with_extra_data(tmp_path):
    saved = model()
    StrictCheckpointer(saved, str(tmp_path)).save("m", iteration=7, score=np.float64(0.5))
    loaded = model()
    extra = StrictCheckpointer(loaded, str(tmp_path)).resume_or_load("", resume=True)
    assert extra["iteration"] == 7 and extra["score"] == 0.5
    for one, other in zip(saved.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_that_does_not_fit_lists_its_keys_and_changes_nothing(tmp_path):
    path = str(tmp_path / "m.pth")
    state = model(4).state_dict()
    state["2.weight"] = torch.ones(1)
    del state["0.bias"]
    torch.save({"model": state}, path)
    target = model(3)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(CheckpointError) as info:
        StrictCheckpointer(target).load(path)
    message = str(info.value)
    assert path in message
    rows = [line.split("  ") for line in message.splitlines()]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert "1 missing, 1 unexpected, 5 of a different shape" in message
    assert ["0.weight", "(3, 2)", "(4, 2)"] in rows
    assert ["0.bias", "(3,)", "missing"] in rows and ["2.weight", "unexpected", "(1,)"] in rows
    assert info.value.details["missing"] == ["0.bias"] and info.value.details["unexpected"] == ["2.weight"]
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_an_interrupted_save_leaves_the_last_checkpoint_as_it_was(tmp_path, monkeypatch):
    checkpointer = StrictCheckpointer(model(), str(tmp_path))
    checkpointer.save("last")
    content = (tmp_path / "last.pth").read_bytes()

    def interrupted(data, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    for name in ("last", "next"):
        with pytest.raises(KeyboardInterrupt):
            checkpointer.save(name)
    assert (tmp_path / "last.pth").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pth", "last_checkpoint"]
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "last.pth")


def test_the_best_checkpoint_is_not_the_one_to_resume(tmp_path):
    checkpointer = StrictCheckpointer(model(), str(tmp_path))
    checkpointer.save("last")
    checkpointer.save("best", tag_last=False)
    assert Path(checkpointer.get_checkpoint_file()).name == "last.pth"


class Harmful:
    def __reduce__(self):
        return os.system, ("true",)


def test_code_in_a_checkpoint_is_refused(tmp_path):
    path = tmp_path / "m.pth"
    torch.save({"model": {"a": Harmful()}}, path)
    with pytest.raises(CheckpointError, match="system.*plain state dict"):
        load_file(path)


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_damaged_file_gives_one_sentence(tmp_path, cut):
    path = tmp_path / "m.pth"
    torch.save({"model": {"a": torch.ones(100)}}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError) as info:
        load_file(path)
    assert str(path) in str(info.value) and "\n" not in str(info.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        StrictCheckpointer(model()).load(str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_found_however_they_are_wrapped(tmp_path, wrap, prefix):
    path = tmp_path / "m.pth"
    state = model().state_dict()
    torch.save(wrap({prefix + key: value for key, value in state.items()}), path)
    loaded = load_state_dict(path)
    assert loaded.keys() == state.keys()
    target = model()
    StrictCheckpointer(target).load(str(path))
    assert torch.equal(target[0].weight, state["0.weight"])


def test_something_else_than_weights_is_refused(tmp_path):
    torch.save({"model": {"a": 3}}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="'a' is a int"):
        load_state_dict(tmp_path / "m.pth")
    torch.save([1, 2], tmp_path / "l.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_file(tmp_path / "l.pth")
