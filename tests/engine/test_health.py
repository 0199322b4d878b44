"""Sick trainings stop, or skip, and say which clips were in the batch; what is saved is healthy."""

import json
import math

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

import ska_vct.engine.trainer as trainer_module
from ska_vct.checkpoint.files import load_state_dict
from ska_vct.engine.health import SickRunError, describe_clip, sick_weights
from ska_vct.engine.trainer import Trainer

NAME = "sick_clips"


@pytest.fixture
def cfg(tiny_cfg, make_clip, tmp_path, monkeypatch):
    """A run on four random clips in their order; the third's flow is as ``sick`` says."""

    class Mapper:
        sick = math.nan

        def __init__(self, cfg, is_train, donors=()):
            pass

        def __call__(self, record, rng=None):
            clip = make_clip(seed=record["seed"], frames=1)
            if record["seed"] == 2:
                clip["flow"][0, 0, 0, 0, 0] = Mapper.sick
            return clip

    monkeypatch.setattr(trainer_module, "build_mapper", Mapper)
    DatasetCatalog.register(NAME, lambda: [{"seed": seed, "clip_id": f"test/clip{seed}"} for seed in range(4)])
    tiny_cfg.DATASETS.TRAIN, tiny_cfg.DATASETS.VAL = (NAME,), ()
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    tiny_cfg.SOLVER.MAX_ITER = 4
    tiny_cfg.SOLVER.IMS_PER_BATCH = 1
    tiny_cfg.SOLVER.CHECKPOINT_PERIOD = 100
    yield tiny_cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def train(cfg) -> Trainer:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def sick_iteration(cfg) -> int:
    """The iteration, from 1, whose clip is the sick one."""
    loader = iter(Trainer.build_train_loader(cfg))
    return next(number for number in range(1, 5) if next(loader)[0]["clip_id"] == "test/clip2")


def with_sick_iteration(cfg, wanted: range) -> int:
    """Choose the seed so that the sick clip comes in one of ``wanted``."""
    for cfg.SEED in range(20):
        if (found := sick_iteration(cfg)) in wanted:
            return found
    raise AssertionError


def test_a_sick_clip_stops_the_run_after_saving_what_was_healthy(cfg, tmp_path):
    number = with_sick_iteration(cfg, range(2, 5))
    with pytest.raises(SickRunError) as caught:
        train(cfg)
    message = str(caught.value)
    assert f"stopped in iteration {number}" in message and "'test/clip2'" in message and "\n" not in message
    assert "1 of 1152 values not finite" in message and "images 0 to 255" in message
    path = tmp_path / f"model_{number - 2:07d}.pth"
    assert str(path) in message and f"of iteration {number - 1}" in message
    state = torch.load(path, weights_only=False)
    assert state["iteration"] == number - 2
    assert load_state_dict(path), "refuses weights that are not finite"


def test_without_a_step_before_there_is_nothing_to_save(cfg, tmp_path):
    with_sick_iteration(cfg, range(1, 2))
    with pytest.raises(SickRunError, match="stopped in iteration 1: .*nothing to save"):
        train(cfg)
    assert not list(tmp_path.glob("*.pth"))


def test_steps_may_be_skipped_so_often_and_are_counted(cfg, tmp_path, caplog):
    with_sick_iteration(cfg, range(1, 5))
    cfg.SOLVER.SKIP_SICK_STEPS = 1
    trainer = train(cfg)
    assert sick_weights(trainer.model) == []
    assert caplog.text.count("is skipped (1 of at most 1, SOLVER.SKIP_SICK_STEPS)") == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["skipped_steps"] == 1
    steps = {int(state["step"]) for state in trainer.optimizer.state_dict()["state"].values()}
    assert steps == {3}, "four iterations, of which one was skipped"
    cfg.SOLVER.MAX_ITER, cfg.OUTPUT_DIR = 8, str(tmp_path / "second")
    (tmp_path / "second").mkdir()
    with pytest.raises(SickRunError):
        train(cfg)


def test_a_skipped_step_changes_nothing(cfg):
    """The model has BatchNorms, whose statistics a sick forward pass has spoilt."""
    with_sick_iteration(cfg, range(1, 2))
    cfg.SOLVER.SKIP_SICK_STEPS, cfg.SOLVER.MAX_ITER = 1, 1
    trainer = Trainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert any("running_mean" in name for name in before)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_sick_weights_are_never_saved(cfg, tmp_path):
    with_sick_iteration(cfg, range(4, 5))
    cfg.SOLVER.CHECKPOINT_PERIOD = 1
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    step = trainer.optimizer.step

    def spoil(*args, **kwargs):
        result = step(*args, **kwargs)
        if trainer.iter == 1:
            next(iter(trainer.model.parameters())).data.fill_(math.inf)
        return result

    trainer.optimizer.step = spoil
    with pytest.raises(SickRunError, match="after iteration 2: 1 weight is not finite.*no checkpoint of it"):
        trainer.train()
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_0000000.pth"]


def test_a_clip_is_described_by_what_is_odd_in_it(make_clip):
    clip = make_clip(frames=1)
    clip["log_mel"].fill_(-4.5)
    clip["flow"][:] = math.inf
    text = describe_clip(clip)
    assert text.startswith("'test/clip0' (images 0 to 255, log_mel all -4.5, flow 1152 of 1152 values not finite")
