"""The newest whole checkpoint of a folder is found, whatever is damaged, missing or tagged."""

import pytest
import torch

from ska_vct.checkpoint.checkpointer import StrictCheckpointer
from ska_vct.checkpoint.files import CheckpointError
from ska_vct.checkpoint.seal import save_sealed
from ska_vct.checkpoint.series import find_newest, has_checkpoint


def write(folder, name: str, iteration: int, **content) -> None:
    model = {"weight": torch.full((1, 1), float(iteration)), "bias": torch.zeros(1)}
    save_sealed(folder / f"{name}.pth", {"model": model, "trainer": {}, "iteration": iteration, **content})


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    for iteration in (9, 19):
        write(tmp_path, f"model_{iteration:07d}", iteration)
    write(tmp_path, "model_best", 12)
    (tmp_path / "last_checkpoint").write_text("model_0000019.pth")
    return tmp_path


def test_the_newest_is_taken_even_if_the_tag_names_an_older_one_or_nothing(folder):
    for tag in ("model_0000009.pth", "", "../x", "model_0000019.pth\0", None):
        if tag is None:
            (folder / "last_checkpoint").unlink()
        else:
            (folder / "last_checkpoint").write_text(tag)
        assert find_newest(folder, needs=("trainer",)).iteration == 19
    write(folder, "model_final", 24)
    assert find_newest(folder).path.endswith("model_final.pth")


def test_damaged_ones_are_passed_over_by_name_down_to_the_best(folder):
    damage(folder / "model_0000019.pth")
    newest = find_newest(folder, needs=("trainer",))
    # The best is newer than the periodic one before.
    assert newest.path.endswith("model_best.pth") and newest.iteration == 12
    ((path, reason),) = newest.unusable
    assert path.endswith("model_0000019.pth") and "damaged" in reason and path in reason
    (folder / "model_best.pth").write_bytes(b"")
    assert find_newest(folder).iteration == 9
    damage(folder / "model_0000009.pth")
    with pytest.raises(CheckpointError, match="(?s)3 checkpoints and none can be used.*damaged"):
        find_newest(folder)
    assert has_checkpoint(folder)


def test_a_missing_newest_is_said(folder):
    (folder / "model_0000019.pth").unlink()
    newest = find_newest(folder)
    assert newest.missing == "model_0000019.pth" and newest.iteration == 12


def test_files_of_weights_alone_do_not_continue_a_run(tmp_path):
    save_sealed(tmp_path / "model_best.pth", {"model": {"a": torch.ones(1)}})
    with pytest.raises(CheckpointError, match="holds weights only"):
        find_newest(tmp_path, needs=("trainer",))


def test_an_empty_or_absent_folder_has_none(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        assert find_newest(path) is None and not has_checkpoint(path)


def test_the_checkpointer_resumes_from_what_is_whole(folder):
    damage(folder / "model_0000019.pth")
    model = torch.nn.Linear(1, 1)
    extra = StrictCheckpointer(model, str(folder)).resume_or_load("", resume=True)
    assert extra["iteration"] == 12 and float(model.weight.detach()) == 12
