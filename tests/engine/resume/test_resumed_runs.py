"""Resumed trainings on random clips: the best stays the best, changed keys count, signals leave a checkpoint."""

import json
import logging
import os
import signal
import subprocess

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import JSONWriter, get_event_storage

import ska_vct.checkpoint.checkpointer as checkpointer_module
import ska_vct.engine.setup as engine_setup
import ska_vct.engine.trainer as trainer_module
from ska_vct.checkpoint import seal
from ska_vct.checkpoint.checkpointer import StrictCheckpointer, load_file
from ska_vct.engine.hooks import EvaluationHook
from ska_vct.engine.resume.changes import ResumeError
from ska_vct.engine.resume.start import run_in_folder
from ska_vct.engine.resume.stopping import REQUEUE, STOPPED
from ska_vct.engine.run import _train
from ska_vct.engine.trainer import METRIC, Trainer
from ska_vct.utils.errors import FileSystemError, InputError
from tests.faults import kills

NAME = "random_clips"


@pytest.fixture
def calls() -> list:
    """What to do before the clips that are loaded from now on; empty: nothing."""
    return []


@pytest.fixture
def scores(monkeypatch) -> list:
    """Scores of the next evaluations, instead of the model's own; empty: 1."""
    queue = []

    def test(cls, cfg, model, names=None, *, draw=False):
        # As a real evaluation does.
        torch.rand(1)
        return {"sem_seg": {"mIoU": queue.pop(0) if queue else 1.0}}

    monkeypatch.setattr(Trainer, "test", classmethod(test))
    return queue


@pytest.fixture
def cfg(tiny_cfg, make_clip, tmp_path, monkeypatch, calls):
    class Mapper:
        def __init__(self, cfg, is_train, donors=()):
            self.eval_side = None if is_train else cfg.INPUT.EVAL_SIZE[0]

        def __call__(self, record, rng=None):
            if calls and self.eval_side is None:
                calls.pop(0)()
            seed, frames = int(rng.integers(1000)) if rng else 0, 1 if self.eval_side is None else 2
            return make_clip(seed=seed, frames=frames, side=32, eval_side=self.eval_side)

    monkeypatch.setattr(trainer_module, "build_mapper", Mapper)
    # Detectron2's set-up takes loggers away from pytest.
    monkeypatch.setattr(engine_setup, "setup_logger", lambda *args, **options: logging.getLogger("ska_vct"))
    monkeypatch.setattr(logging.getLogger("ska_vct"), "propagate", True)
    DatasetCatalog.register(NAME, lambda: [{"seed": seed, "clip_id": f"test/clip{seed}"} for seed in range(5)])
    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.VAL = tiny_cfg.DATASETS.TEST = (NAME,)
    tiny_cfg.OUTPUT_DIR = str(tmp_path / "run")
    tiny_cfg.INPUT.SIZE = (32, 32)
    tiny_cfg.INPUT.EVAL_SIZE = (32, 32)
    tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.SOLVER.CHECKPOINT_PERIOD, tiny_cfg.TEST.EVAL_PERIOD = 6, 2, 2
    yield tiny_cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def train(cfg, *, resume: bool = True) -> None:
    with run_in_folder(cfg.clone(), resume=resume) as start:
        _train(start, (), check=False)


def best(folder) -> tuple[list, int]:
    state = load_file(folder / "model_best.pth")
    return state["trainer"]["hooks"]["BestCheckpointer"]["best"], state["iteration"]


class Killed(BaseException):
    pass


def die() -> None:
    raise Killed


def at(iteration: int, action) -> list:
    """Actions of clips such that ``action`` comes with the first clip of an iteration, from 1."""
    return [lambda: None] * (2 * (iteration - 1)) + [action]


def test_the_checkpoint_of_an_iteration_knows_its_evaluation(cfg, scores, tmp_path):
    scores += [5.0, 7.0, 6.0]
    train(cfg)
    folder = tmp_path / "run"
    known = {
        name: load_file(folder / f"{name}.pth")["trainer"]["hooks"]["BestCheckpointer"]["best"]
        for name in ("model_0000003", "model_0000005", "model_final")
    }
    assert known == dict.fromkeys(known, [7.0, 3]) and best(folder) == ([7.0, 3], 3)


def test_the_best_survives_a_kill_and_other_periods(cfg, scores, tmp_path, calls, caplog):
    """Scored 9 in iteration 3, killed in 4, continued from 2 without evaluating 3 again."""
    cfg.TEST.EVAL_PERIOD = 3
    scores += [9.0]
    calls += at(4, die)
    with pytest.raises(Killed):
        train(cfg)
    calls.clear()
    (tmp_path / "run" / "model_best.pth").rename(tmp_path / "best")
    train_until = torch.load(tmp_path / "best", weights_only=True)
    (tmp_path / "best").rename(tmp_path / "run" / "model_best.pth")
    # The best is newer than the periodic checkpoint, and is what the run continues from.
    cfg.TEST.EVAL_PERIOD = 2
    scores += [4.0, 5.0]
    caplog.set_level(logging.INFO)
    train(cfg)
    assert "Continuing at iteration 4 of 6" in caplog.text
    assert best(tmp_path / "run") == ([9.0, 2], 2)
    assert f"Best validation {METRIC}: 9.00 % (convention 'combo') at iteration 3" in caplog.text
    now = load_file(tmp_path / "run" / "model_best.pth")["model"]
    assert all(torch.equal(value, now[name]) for name, value in train_until["model"].items())
    assert "TEST.EVAL_PERIOD 3 -> 2 from iteration 4 on" in caplog.text


def test_a_best_model_of_another_run_or_kind_of_score_is_not_replaced(cfg, scores, tmp_path):
    train(cfg)
    folder = tmp_path / "run"
    theirs = (folder / "model_best.pth").read_bytes()
    cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER = str(tmp_path / "other"), 8
    other = tmp_path / "other"
    scores += [3.0]
    train(cfg)
    (other / "model_best.pth").write_bytes(theirs)
    cfg.SOLVER.MAX_ITER = 10
    with pytest.raises(ResumeError, match="model_best.pth' is of another run"):
        train(cfg)
    (other / "model_best.pth").unlink()
    cfg.TEST.CONVENTION = "tpavi"
    scores += [2.0]
    train(cfg)
    assert best(other) == ([2.0, 9], 9)
    cfg.TEST.CONVENTION, cfg.SOLVER.MAX_ITER = "combo", 12
    train(cfg)
    assert best(other) == ([1.0, 11], 11) and (other / "model_best_until_0000010.pth").is_file()


def test_fine_tuning_in_another_folder_begins_without_a_best(cfg, scores, tmp_path):
    scores += [9.0, 9.0, 9.0]
    train(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "run" / "model_best.pth")
    cfg.OUTPUT_DIR = str(tmp_path / "tuned")
    scores += [2.0, 3.0, 1.0]
    train(cfg, resume=False)
    assert best(tmp_path / "tuned") == ([3.0, 3], 3)


def test_changed_keys_take_effect_and_config_yaml_says_so(cfg, scores, tmp_path, caplog):
    train(cfg)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SEED = 0.001, 8, 3
    cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.SOLVER.FROZEN = 1.0, ["brm."]
    caplog.set_level(logging.INFO)
    train(cfg)
    for text in ("SOLVER.BASE_LR 0.0001 -> 0.001 from iteration 7 on", "SEED 8434882 -> 3, no effect"):
        assert text in caplog.text
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").read_text().splitlines()]
    assert lines[-1]["lr"] == pytest.approx(0.001 * (1 - 7 / 8) ** 0.9)
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert text.startswith("# ") and "# Resumed: SOLVER.BASE_LR 0.0001 -> 0.001 from iteration 7 on\n" in text
    assert "\nSEED: 8434882\n" in text and "BASE_LR: 0.001\n" in text
    # Moments of parameters that still train were kept, though they are in other groups.
    steps = load_file(tmp_path / "run" / "model_final.pth")["trainer"]["_trainer"]["optimizer"]["state"]
    assert {int(state["step"]) for state in steps.values()} == {8}
    cfg.MODEL.DECODER.NUM_QUERIES += 1
    with pytest.raises(ResumeError, match="NUM_QUERIES 6 -> 7"):
        train(cfg)
    assert (tmp_path / "run" / "config.yaml").read_text() == text


def test_a_finished_run_is_not_trained_again(cfg, scores, tmp_path, caplog):
    train(cfg)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("m*")}
    with pytest.raises(ResumeError, match="holds a finished run; add --resume"):
        train(cfg, resume=False)
    caplog.set_level(logging.INFO)
    train(cfg)
    assert "The run is finished" in caplog.text
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").glob("m*")}
    # Killed between the last periodic checkpoint and model_final.pth.
    (tmp_path / "run" / "model_final.pth").unlink()
    train(cfg)
    final = load_file(tmp_path / "run" / "model_final.pth")
    assert final["iteration"] == 5 and final["trainer"]["run"]["clips"] == 12


def test_a_damaged_newest_is_named_and_only_the_last_checkpoints_are_kept(cfg, scores, tmp_path, caplog, calls):
    cfg.SOLVER.MAX_ITER = 12
    calls += at(8, die)
    with pytest.raises(Killed):
        train(cfg)
    calls.clear()
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.glob("model_0*")) == ["model_0000003.pth", "model_0000005.pth"]
    (folder / "model_0000005.pth").write_bytes((folder / "model_0000005.pth").read_bytes()[:-1])
    (folder / ".model_0000007.77-01234567.part.pth").write_bytes(b"half")
    train(cfg)
    assert "model_0000005.pth' is damaged" in caplog.text or "model_0000005.pth' cannot be read" in caplog.text
    assert "Continuing from 'model_0000003.pth'" in caplog.text
    names = sorted(path.name for path in folder.glob("model_0*"))
    assert names == ["model_0000005.pth.unusable", "model_0000009.pth", "model_0000011.pth"]
    assert not list(folder.glob(".*part*"))


def stopped(name: str, times: int = 1):
    def send() -> None:
        for _ in range(times):
            os.kill(os.getpid(), getattr(signal, name))

    return send


@pytest.mark.parametrize(
    ("name", "times", "status"),
    [("SIGTERM", 1, REQUEUE), ("SIGUSR1", 1, REQUEUE), ("SIGHUP", 1, REQUEUE), ("SIGINT", 2, STOPPED)],
)
def test_a_signal_leaves_a_checkpoint_and_the_same_run(cfg, scores, tmp_path, calls, caplog, name, times, status):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    calls += at(3, stopped(name, times))
    with pytest.raises(SystemExit) as info:
        train(cfg)
    assert info.value.code == status
    assert before == {number: signal.getsignal(number) for number in before}
    path = tmp_path / "run" / "model_0000002.pth"
    assert path.is_file() and (tmp_path / "run" / "last_checkpoint").read_text() == path.name
    assert f"Stopped by {name} after iteration 3 of 6" in caplog.text and f"exit status {status}" in caplog.text
    train(cfg)
    cfg.OUTPUT_DIR = str(tmp_path / "whole")
    train(cfg)
    one, two = (load_file(tmp_path / folder / "model_final.pth") for folder in ("run", "whole"))
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    assert not list((tmp_path / "run").glob("model_0000002.pth")), "it counts among the last that are kept"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_the_process_group_does_not_end_the_workers_first(cfg, scores, tmp_path, calls, name):
    """As Slurm, timeout and a terminal send it, from another process; in a process of its own."""
    cfg.DATALOADER.NUM_WORKERS = 1
    calls += at(3, lambda: subprocess.run(["kill", f"-{name[3:]}", "--", f"-{os.getpgid(0)}"]))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgrp()
            train(cfg)
        except SystemExit as ended:
            code = ended.code
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == (STOPPED if name == "SIGINT" else REQUEUE)
    assert list((tmp_path / "run").glob("model_0*.pth"))


def test_a_third_interrupt_does_not_wait(cfg, scores, tmp_path, calls):
    calls += at(3, stopped("SIGINT", 3))
    with pytest.raises(KeyboardInterrupt):
        train(cfg)
    assert not (tmp_path / "run" / "model_0000002.pth").exists()


def test_an_abandoned_evaluation_is_made_up_for(cfg, tmp_path, monkeypatch, caplog):
    """A signal arrives while the model is evaluated after iteration 2."""
    evaluate = Trainer.test.__func__
    evaluations = []

    def test(cls, cfg, model, names=None, *, draw=False):
        evaluations.append(len(evaluations))
        if len(evaluations) == 1:
            stopped("SIGTERM")()
        return evaluate(cls, cfg, model, names, draw=False)

    monkeypatch.setattr(Trainer, "test", classmethod(test))
    with pytest.raises(SystemExit):
        train(cfg)
    folder = tmp_path / "run"
    assert not (folder / "model_best.pth").exists() and (folder / "model_0000001.pth").is_file()
    train(cfg)
    cfg.OUTPUT_DIR = str(tmp_path / "whole")
    train(cfg)
    for name in ("model_final", "model_best"):
        one, two = (load_file(tmp_path / where / f"{name}.pth") for where in ("run", "whole"))
        assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
        hooks = [state["trainer"]["hooks"]["BestCheckpointer"]["best"] for state in (one, two)]
        assert hooks[0] == hooks[1]
    texts = [(tmp_path / where / "metrics.json").read_text().splitlines() for where in ("run", "whole")]
    scores = [[json.loads(line).get(METRIC) for line in lines] for lines in texts]
    assert scores[0] == scores[1]


def test_a_checkpoint_of_an_older_version_continues_and_says_what_it_lacks(cfg, scores, tmp_path, caplog):
    train(cfg)
    path = tmp_path / "run" / "model_final.pth"
    content = load_file(path)
    for key in ("run", "random", "log"):
        del content["trainer"][key]
    for group in content["trainer"]["_trainer"]["optimizer"]["param_groups"]:
        del group["names"]
    del content["trainer"]["hooks"]["BestCheckpointer"]["scored_by"]
    for other in (tmp_path / "run").glob("model_*.pth"):
        torch.save(content, other)
    cfg.SOLVER.MAX_ITER = 8
    train(cfg)
    assert "The checkpoint is of an older version" in caplog.text
    assert load_file(path)["trainer"]["run"]["clips"] == 16
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.BACKBONE_MULTIPLIER = 10, 1.0
    for other in (tmp_path / "run").glob("model_*.pth"):
        torch.save(content, other)
    with pytest.raises(InputError, match="of an older version, and other parameters train"):
        train(cfg)


def test_an_extended_run_that_is_killed_before_its_last_file_writes_it(cfg, scores, tmp_path):
    train(cfg)
    short = (tmp_path / "run" / "model_final.pth").read_bytes()
    cfg.SOLVER.MAX_ITER = 8
    train(cfg)
    (tmp_path / "run" / "model_final.pth").write_bytes(short)
    train(cfg)
    assert load_file(tmp_path / "run" / "model_final.pth")["iteration"] == 7


def test_a_full_disk_ends_the_training_with_the_sentence(cfg, scores, monkeypatch):
    def full(path, content):
        raise FileSystemError(f"Checkpoint '{path}' cannot be written (No space left on device)")

    monkeypatch.setattr(checkpointer_module, "save_sealed", full)
    with pytest.raises(FileSystemError, match="model_best.pth' cannot be written"):
        train(cfg)


def kill_in_call(monkeypatch, owner: type, name: str, number: int) -> None:
    """Kills this process when a method is called for that time, counted from 1."""
    original, calls = getattr(owner, name), []

    def call(*args, **options):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("moment", ["training", "writing", "renamed", "validating", "reporting"])
def test_a_killed_process_is_continued_as_if_nothing_had_happened(cfg, tmp_path, calls, monkeypatch, moment):
    """SIGKILL in a process of its own; the short form of tests/faults/kills.py."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # By iteration; evaluations follow the second, the fourth and the last.
    scores = {1: 3.0, 3: 5.0, 5: 4.0}
    test = classmethod(lambda *_, **__: {"sem_seg": {"mIoU": scores[get_event_storage().iter]}})
    monkeypatch.setattr(Trainer, "test", test)
    child = os.fork()
    if child == 0:
        try:
            if moment == "training":
                calls += at(4, stopped("SIGKILL"))
            elif moment == "writing":
                # The best of iteration 2, its checkpoint, the best of iteration 4.
                kill_in_call(monkeypatch, seal._SealingWriter, "finish", 3)
            elif moment == "renamed":
                kill_in_call(monkeypatch, StrictCheckpointer, "tag_last_checkpoint", 2)
            elif moment == "validating":
                kill_in_call(monkeypatch, EvaluationHook, "_do_eval", 2)
            else:
                kill_in_call(monkeypatch, JSONWriter, "write", 1)
            train(cfg)
        finally:
            os._exit(1)
    try:
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        train(cfg)
        cfg.OUTPUT_DIR = str(tmp_path / "whole")
        train(cfg)
    finally:
        torch.set_num_threads(threads)
    assert kills.compare(tmp_path / "whole", tmp_path / "run") == []
