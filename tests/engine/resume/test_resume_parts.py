"""Parts of an exact resume: random numbers, the log's memory, changed keys, the folder and its lock."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage, JSONWriter

from ska_vct.config_files import portable_config
from ska_vct.engine.resume import folder as folder_module
from ska_vct.engine.resume.changes import ResumeError, check_changes, effective_config, find_changes
from ska_vct.engine.resume.folder import FolderLock, check_folder, check_room, clean_folder
from ska_vct.engine.resume.log_state import cut_metrics, get_log_state, set_log_state
from ska_vct.engine.resume.random_state import get_random_state, set_random_state, unchanged_random_state

ROOT = Path(__file__).resolve().parents[3]


def draws() -> list[float]:
    # An odd number of normal variates leaves one in numpy's and Python's generators.
    return [random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand(), float(torch.randn(1))]


def test_random_numbers_go_on_where_they_were(tmp_path):
    draws()
    torch.save(get_random_state(), tmp_path / "state.pth")
    expected = [draws() for _ in range(3)]
    set_random_state(torch.load(tmp_path / "state.pth", weights_only=True))
    assert [draws() for _ in range(3)] == expected
    set_random_state(torch.load(tmp_path / "state.pth", weights_only=True))
    with unchanged_random_state():
        draws()
    assert [draws() for _ in range(3)] == expected


def log(iterations: range, path: Path, *, at: int, state: dict | None = None) -> dict | None:
    """Scalars of some iterations, written every fourth; returns the state after iteration ``at``."""
    writer = JSONWriter(str(path))
    with EventStorage(iterations.start) as storage:
        if state is not None:
            set_log_state(state, storage, writer)
        kept = None
        for iteration in iterations:
            storage.iter = iteration
            storage.put_scalar("loss", (iteration * 7) % 11)
            # As Detectron2's timer, which skips the first iterations of a process.
            if iteration > iterations.start + 2:
                storage.put_scalar("time", 1.0)
            if iteration % 3 == 0:
                storage.put_scalar("score", iteration, smoothing_hint=False)
            if iteration % 4 == 3:
                writer.write()
            if iteration == at:
                kept = get_log_state(storage, writer)
    writer.close()
    return kept


@pytest.mark.parametrize("at", [2, 3, 4, 22, 27])
def test_a_log_that_is_cut_and_continued_is_the_whole_log(tmp_path, at):
    log(range(40), tmp_path / "whole", at=at)
    # Interrupted later than its checkpoint, in the middle of a line.
    state = log(range(30), tmp_path / "metrics.json", at=at)
    with open(tmp_path / "metrics.json", "a") as file:
        file.write('{"iteration": 2')
    cut_metrics(tmp_path / "metrics.json", state["written"])
    log(range(at + 1, 40), tmp_path / "metrics.json", at=-1, state=state)
    assert _without_times(tmp_path / "metrics.json") == _without_times(tmp_path / "whole")


def _without_times(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("time", None)
    return lines


def test_cutting_says_how_many_lines_go_and_needs_no_file(tmp_path):
    path = tmp_path / "metrics.json"
    assert cut_metrics(path, 3) == 0
    path.write_text("".join(json.dumps({"iteration": n}) + "\n" for n in (1, 2, 4, 5)))
    assert cut_metrics(path, 3) == 2 and len(path.read_text().splitlines()) == 2
    assert cut_metrics(path, -1) == 2 and path.read_text() == ""


def test_changed_keys_are_named_with_their_effect(tiny_cfg, tmp_path):
    stored = portable_config(tiny_cfg)
    (tmp_path / "config.yaml").write_text(tiny_cfg.dump())
    assert find_changes(tiny_cfg, stored, tmp_path / "config.yaml") == []
    cfg = tiny_cfg.clone()
    cfg.SOLVER.BASE_LR, cfg.SEED, cfg.MODEL.WEIGHTS, cfg.MODEL.CRITERION.DICE_WEIGHT = 0.5, 7, "x.pth", 1.0
    cfg.OUTPUT_DIR = "elsewhere"
    changes = find_changes(cfg, stored, tmp_path / "config.yaml")
    assert [change.key for change in changes] == [
        "MODEL.CRITERION.DICE_WEIGHT",
        "MODEL.WEIGHTS",
        "SEED",
        "SOLVER.BASE_LR",
    ]
    assert str(changes[3]) == "SOLVER.BASE_LR 0.0001 -> 0.5"
    assert "no effect" in str(changes[1]) and "no effect" in str(changes[2])
    check_changes(changes, "x.pth")
    done = effective_config(cfg, changes)
    assert (done.SEED, done.MODEL.WEIGHTS, done.SOLVER.BASE_LR) == (tiny_cfg.SEED, tiny_cfg.MODEL.WEIGHTS, 0.5)
    assert find_changes(cfg, "", None) == []


def test_another_model_or_subset_is_refused(tiny_cfg):
    stored = portable_config(tiny_cfg)
    tiny_cfg.MODEL.DECODER.NUM_QUERIES += 1
    tiny_cfg.DATASETS.SUBSET = "s4"
    with pytest.raises(
        ResumeError, match="DATASETS.SUBSET 'ms3' -> 's4'; MODEL.DECODER.NUM_QUERIES 6 -> 7"
    ) as info:
        check_changes(find_changes(tiny_cfg, stored), "run/model_final.pth")
    assert "\n" not in str(info.value)


def test_a_folder_with_a_run_is_trained_in_only_to_continue(tmp_path):
    check_folder(tmp_path, resume=False)
    (tmp_path / "metrics.json").write_text("")
    check_folder(tmp_path, resume=False)
    (tmp_path / "metrics.json").write_text("{}\n")
    for name, what in (
        ("metrics.json", "log of a run without a checkpoint"),
        ("model_0000009.pth", "a checkpoint of iteration 10;"),
        ("model_final.pth", "a finished run"),
    ):
        (tmp_path / name).write_text("{}\n")
        with pytest.raises(ResumeError, match=f"{what}.*--resume.*OUTPUT_DIR"):
            check_folder(tmp_path, resume=False)
        check_folder(tmp_path, resume=True)


def test_a_folder_belongs_to_one_training_and_a_killed_one_leaves_nothing(tmp_path):
    held = FolderLock(tmp_path)
    with pytest.raises(ResumeError, match=rf"process {os.getpid()} on "):
        FolderLock(tmp_path)
    # A fork, as a data loader's worker is, must not keep the lock.
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        held.release()
        FolderLock(tmp_path).release()
        code = (
            "import sys, ska_vct.engine.resume.folder as f; lock = f.FolderLock(sys.argv[1]); print(1, flush=True)"
        )
        code += "; input()"
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout.readline() == "1\n"
            with pytest.raises(ResumeError, match=f"process {other.pid} on "):
                FolderLock(tmp_path)
            other.kill()
        FolderLock(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_leftovers_go_and_damaged_checkpoints_are_renamed(tmp_path):
    for name in (".model_0000009.123-0123abcd.part.pth", ".last_checkpoint.1-0123abcd.part", "model_0000009.pth"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".hidden.part.pth").write_text("a user's own")
    notes = clean_folder(tmp_path, [str(tmp_path / "model_0000009.pth")])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".hidden.part.pth", "model_0000009.pth.unusable"]
    assert len(notes) == 2 and ".model_0000009.123-0123abcd.part.pth" in notes[0]


def test_room_for_checkpoints_is_said_or_asked_for(tiny_cfg, tmp_path, monkeypatch):
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    tiny_cfg.DATASETS.VAL = ("any",)
    tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.SOLVER.CHECKPOINT_PERIOD, tiny_cfg.SOLVER.CHECKPOINTS_TO_KEEP = 100, 10, 2
    model = torch.nn.Linear(2**18, 1, bias=False)  # 3 MiB with its two moments
    # Two periodic ones, the last, the best, and one being written.
    assert "0.01 GiB (5 files of 0.00 GiB)" in check_room(tiny_cfg, model, 0)
    (tmp_path / "model_0000009.pth").touch()
    (tmp_path / "model_best.pth").touch()
    assert "(3 files" in check_room(tiny_cfg, model, 10)
    usage = type("usage", (), {"free": 8 * 2**20})
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResumeError, match=r"has 0.01 GiB free.*need 0.01 GiB \(3 files.*CHECKPOINTS_TO_KEEP"):
        check_room(tiny_cfg, model, 10)
    tiny_cfg.SOLVER.CHECKPOINTS_TO_KEEP = 0
    usage.free = 2**40
    assert "(11 files" in check_room(tiny_cfg, model, 10)
