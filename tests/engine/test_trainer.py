"""The training program on random clips: it trains, resumes where it stopped, validates and keeps the best."""

import json
from itertools import islice

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import ska_vct.engine.trainer as trainer_module
from ska_vct.checkpoint.checkpointer import CheckpointError, StrictCheckpointer
from ska_vct.engine.hooks import BestCheckpointer, waiting_share
from ska_vct.engine.train_data import PlacedClips, PlaceSampler
from ska_vct.engine.trainer import METRIC, Trainer

NAME = "random_clips"


@pytest.fixture
def cfg(tiny_cfg, make_clip, tmp_path, monkeypatch):
    """A run on five random clips, one of which has another number of frames."""

    class Mapper:
        def __init__(self, cfg, is_train, donors=()):
            self.eval_side = None if is_train else cfg.INPUT.EVAL_SIZE[0]

        def __call__(self, record, rng=None):
            return make_clip(seed=record["seed"], frames=1 + record["seed"] % 2, eval_side=self.eval_side)

    monkeypatch.setattr(trainer_module, "build_mapper", Mapper)
    DatasetCatalog.register(NAME, lambda: [{"seed": seed, "clip_id": f"test/clip{seed}"} for seed in range(5)])
    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.VAL = tiny_cfg.DATASETS.TEST = (NAME,)
    tiny_cfg.OUTPUT_DIR = str(tmp_path / "run")
    tiny_cfg.SOLVER.MAX_ITER = 4
    tiny_cfg.SOLVER.CHECKPOINT_PERIOD = 2
    tiny_cfg.TEST.EVAL_PERIOD = 2
    (tmp_path / "run").mkdir()
    yield tiny_cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def train(cfg, *, resume: bool = False) -> Trainer:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def test_a_run_leaves_logs_and_checkpoints_and_resumes_longer(cfg, tmp_path):
    first = train(cfg)
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"model_best.pth", "model_final.pth", "metrics.json", "last_checkpoint"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert any("total_loss" in line and "lr" in line for line in lines)
    assert any(METRIC in line for line in lines)
    assert any(0 <= line.get("data_share", -1) <= 1 for line in lines)
    best = first.best
    assert best is not None and best[1] in (1, 3)

    cfg.SOLVER.MAX_ITER = 6
    second = Trainer(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 4
    # The schedule is that of six iterations, at its fifth.
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(
        second.scheduler.base_lrs[0] * (1 - 4 / 6) ** 0.9
    )
    second.train()
    steps = {int(state["step"]) for state in second.optimizer.state_dict()["state"].values()}
    assert steps == {6}
    state = torch.load(folder / "model_best.pth", weights_only=False)
    assert state["iteration"] == second.best[1]
    assert second.best[0] >= state["trainer"]["hooks"]["BestCheckpointer"]["best"][0] - 1e-9


def read_events(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def test_tensorboard_shows_clips_the_curve_and_the_config_after_each_evaluation(cfg, tmp_path, caplog):
    cfg.TEST.IMAGES = 2
    caplog.set_level("INFO")
    best = train(cfg).best
    line = f"Best validation {METRIC}: {best[0]:.2f} % (convention 'combo') at iteration {best[1] + 1}"
    assert line in caplog.text, "a number has its unit and convention beside it"
    events = read_events(tmp_path / "run")
    names = [f"clips/{NAME}/test/clip0", f"clips/{NAME}/test/clip4", f"curves/{NAME}/precision_recall"]
    assert sorted(events.Tags()["images"]) == names
    for name in names:
        images = events.Images(name)
        assert [image.step for image in images] == [1, 3], "after two and after all four iterations"
        assert images[0].width > 300 and images[0].encoded_image_string[:4] == b"\x89PNG"
    (text,) = events.Tensors("config/text_summary")
    assert b"NUM_QUERIES: 6" in text.tensor_proto.string_val[0]
    scalars = set(events.Tags()["scalars"])
    assert {"sem_seg/mIoU", "combo_percent/M_J", "dataset_percent/M_F", "pooled_percent/M_J"} <= scalars
    assert [e.value for e in events.Scalars("combo_percent/M_J")] == [e.value for e in events.Scalars(METRIC)]


def test_tensorboard_shows_the_confusion_of_classes_and_nothing_where_none_is_wanted(cfg, make_clip, tmp_path):
    """Labels of the random clips are 0 and 1, so that they fit any number of classes."""
    cfg.MODEL.NUM_CLASSES = 5
    cfg.SOLVER.MAX_ITER = 1
    train(cfg)
    images = read_events(tmp_path / "run").Tags()["images"]
    assert f"curves/{NAME}/confusion" in images and len(images) == 5
    for path in (tmp_path / "run").glob("events*"):
        path.unlink()
    cfg.TEST.IMAGES = 0
    train(cfg)
    assert read_events(tmp_path / "run").Tags()["images"] == []


def test_every_parameter_that_trains_moves(cfg):
    cfg.DATASETS.VAL = ()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WEIGHT_DECAY = 0.1, 2, 0.0
    trainer = Trainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.resume_or_load(resume=False)
    trainer.train()
    # Without a gradient in two steps, AdamW without decay leaves a parameter bit by bit as it was.
    still = [name for name, value in trainer.model.named_parameters() if torch.equal(before[name], value)]
    assert still == []


def test_mixed_precision_trains_and_resumes_a_run_of_full_precision(cfg):
    cfg.DATASETS.VAL = ()
    cfg.SOLVER.MAX_ITER = 2
    train(cfg)
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE = True, "bf16"
    cfg.SOLVER.MAX_ITER = 4
    trainer = Trainer(cfg)
    seen = []
    trainer.model.decoder.layers[0].feed_forward.linear1.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 2
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in trainer.model.parameters()} == {torch.float32}
    assert not any(torch.equal(before[name], value) for name, value in trainer.model.named_parameters())
    # And back.
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.MAX_ITER = False, 5
    assert train(cfg, resume=True).start_iter == 4


def test_frozen_parameters_stay_and_unknown_names_are_refused(cfg):
    cfg.DATASETS.VAL = ()
    cfg.SOLVER.FROZEN = ["backbone."]
    trainer = Trainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.backbone.named_parameters()}
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert all(torch.equal(before[name], value) for name, value in trainer.model.backbone.named_parameters())
    cfg.SOLVER.FROZEN = ["backbon_"]
    with pytest.raises(ValueError, match="'backbon_'; the parts are .*backbone"):
        Trainer.build_model(cfg)


def test_a_resumed_run_sees_the_clips_it_has_not_seen():
    whole = list(islice(iter(PlaceSampler(7, seed=3)), 40))
    rest = list(islice(iter(PlaceSampler(7, seed=3, start=12)), 28))
    assert rest == whole[12:]
    places, clips = zip(*(divmod(number, 7) for number in whole), strict=True)
    assert places == tuple(range(40)) and sorted(clips[:7]) == list(range(7))


def test_resuming_nothing_starts_anew_and_a_wrong_model_is_refused(cfg):
    cfg.DATASETS.VAL = ()
    cfg.SOLVER.MAX_ITER = 2
    assert train(cfg, resume=True).start_iter == 0
    cfg.MODEL.DECODER.NUM_QUERIES += 1
    with pytest.raises(CheckpointError, match="(?s)of a different shape.*query_feat"):
        Trainer(cfg).resume_or_load(resume=True)


def test_scores_do_not_change_the_model_and_do_not_depend_on_the_batch(cfg):
    model = Trainer.build_model(cfg)
    model.train()
    results = []
    for batch in (1, 3):
        cfg.TEST.BATCH_SIZE = batch
        results.append(Trainer.test(cfg, model)["sem_seg"]["mIoU"])
    assert model.training
    assert results[0] == pytest.approx(results[1], abs=1e-4)


class FakeTrainer:
    max_iter = 10

    def __init__(self):
        self.iter = 0
        self.storage = EventStorage(0)


def test_the_best_score_is_kept_over_a_resume(tmp_path):
    def evaluate(hook, scores):
        for score in scores:
            hook.trainer.storage.iter = hook.trainer.iter
            hook.trainer.storage.put_scalar(METRIC, score, smoothing_hint=False)
            hook.after_step()
            hook.trainer.iter += 1

    checkpointer = StrictCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))
    hook = BestCheckpointer(checkpointer=checkpointer, metric=METRIC)
    hook.trainer = FakeTrainer()
    evaluate(hook, [3.0, 5.0, 4.0, float("nan")])
    assert hook.best == (5.0, 1)
    resumed = BestCheckpointer(checkpointer=checkpointer, metric=METRIC)
    resumed.load_state_dict(hook.state_dict())
    resumed.trainer = FakeTrainer()
    resumed.trainer.iter = 4
    evaluate(resumed, [4.5])
    assert resumed.best == (5.0, 1)
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 1
    evaluate(resumed, [6.0])
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 5


def test_the_share_of_time_waiting_for_data():
    storage = EventStorage(0)
    assert waiting_share(storage) is None
    # The first two steps are not timed as a whole; of the others 1 + 3 of 10 + 10 seconds went to waiting.
    for iteration, (wait, step) in enumerate([(50, None), (50, None), (1, 10), (3, 10)]):
        storage.iter = iteration
        storage.put_scalar("data_time", wait)
        if step:
            storage.put_scalar("time", step)
    assert waiting_share(storage) == pytest.approx(0.2)
    assert waiting_share(storage, window=1) == pytest.approx(0.3)


def test_noise_of_a_clip_is_seeded_by_its_place():
    clips = PlacedClips([{"n": 0}, {"n": 1}], lambda record, rng: {**record, "draw": rng.random()}, seed=3)
    first, later = clips[1], clips[2 * 5 + 1]
    assert first == clips[1] and first["n"] == later["n"] == 1
    assert first["noise_seed"] != later["noise_seed"] and 0 <= first["noise_seed"] < 2**63
    assert (
        first["noise_seed"] != PlacedClips([{"n": 0}, {"n": 1}], lambda r, rng: dict(r), seed=4)[1]["noise_seed"]
    )
