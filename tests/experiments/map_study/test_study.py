"""The map-only study: its loss and measures by hand, what it reads, and that a study resumes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.engine.setup import load_cfg
from ska_vct.experiments.ablation.plan import AblationError, read_ablation
from ska_vct.experiments.map_study.clips import StudyClips, load_clips
from ska_vct.experiments.map_study.study import (
    MapNetwork,
    StudySettings,
    mass_loss,
    measure,
    predict_maps,
    run_study,
    train_map,
    with_variants,
)
from ska_vct.modeling.motion.ska import build_ska
from ska_vct.synth import SynthSettings, generate

CONFIG = "configs/synth/quickstart.yaml"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Six training and three testing clips of 48 x 48 pixels with silent movers."""
    root = tmp_path_factory.mktemp("benchmark")
    small = {"subset": "ms3", "val": 0, "size": 48, "flow_size": 12, "scenes": {"mover": 1.0}, "rest": 0.5}
    for folder, counts in (("train", {"train": 6, "test": 0}), ("silent-mover", {"train": 0, "test": 3})):
        generate(root / folder, SynthSettings(**small, **counts), jobs=1, progress=False)
    return root


def small_cfg(*overrides):
    return load_cfg(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.HIDDEN_DIM", 32, *overrides])


def test_loss_by_hand():
    motion_map = torch.tensor([[[[1.0, 0.5], [0.5, 0.0]]]]).repeat(3, 1, 1, 1)
    motion_map[2] = 0
    target = torch.zeros(3, 2, 2)
    target[0, 0, 0] = target[2, 0, 0] = 1.0
    # Half of the first map's sum lies on the sounding object; the second frame is silent, the third map is zero.
    assert mass_loss(motion_map, target).item() == pytest.approx(math.log(2), abs=1e-5)
    assert mass_loss(motion_map[1:], target[1:]) == 0


def test_measures_by_hand():
    shares = torch.zeros(4, 2, 2, 2)
    shares[:, 0, 0] = 1.0  # an object in the upper row
    shares[:, 1, 1, 0] = 1.0  # an object in the lower left cell; the lower right is background
    sounding = torch.tensor([[True, False], [True, False], [True, False], [False, False]])
    silent = torch.tensor([[False, True], [False, True], [False, False], [True, True]])
    maps = torch.tensor(
        [[[0.4, 0.8], [0.2, 0.1]], [[0.4, 0.4], [0.6, 0.3]], [[1.0, 0.0], [0.9, 0.5]], [[1.0, 1.0], [1.0, 1.0]]]
    )
    clips = StudyClips(
        log_mel=torch.zeros(4, 1, 96, 64),
        audio_second=torch.zeros(4, 1, 100, 64),
        shares=shares,
        sounding=sounding,
        silent=silent,
        stored=[],
    )
    found = measure(maps, clips)
    # First: 0.6 > 0.2, but 0.4 < 0.6. Sounding (0.6 + 0.4 + 0.5) / 3, silent (0.2 + 0.6) / 2.
    wanted = {"first": 50, "sounding": 50, "silent": 40, "background": 30, "frames": 3, "contested": 2}
    assert found == pytest.approx(wanted)
    nothing = measure(maps[3:], StudyClips(**{**vars(clips), "shares": shares[3:], "sounding": sounding[3:],
                                              "silent": silent[3:]}))  # fmt: skip
    assert nothing["first"] is None and nothing["frames"] == 0


def test_clips_equal_what_the_mapper_reads(benchmark):
    clips = load_clips(benchmark / "train", "train", subset="ms3", grid=(12, 12), progress=False)
    records = load_records("ms3", "train", benchmark / "train")
    for norm, grouping in (("frame", "mean"), ("clip", "middle")):
        cfg = small_cfg("INPUT.FLOW.NORM", norm, "INPUT.FLOW.GROUPING", grouping, "INPUT.FLOW.SERIES", 5)
        mapper = ClipMapper(cfg, is_train=False)
        read = [mapper(record) for record in records]
        assert torch.equal(clips.log_mel, torch.cat([clip["log_mel"] for clip in read]))
        second = torch.cat([clip["audio_second"] for clip in read])
        torch.testing.assert_close(clips.audio_second, second, rtol=0, atol=0, equal_nan=True)
        flow = clips.flow(mapper.flow, tuple(cfg.INPUT.SIZE))
        assert torch.equal(flow, torch.cat([clip["flow"] for clip in read]))
    truth = torch.cat([clip["masks"] for clip in read])  # 224 x 224
    on_grid = torch.nn.functional.adaptive_avg_pool2d((truth == 1).float(), (12, 12))
    sounding = (clips.shares * clips.sounding[:, :, None, None]).sum(1)
    # Masks of 48 pixels, resized to 224 by nearest neighbor, differ at borders.
    assert (sounding - on_grid).abs().mean() < 0.01
    assert not (clips.sounding & clips.silent).any() and clips.silent.any()


def test_training_lowers_the_loss_and_is_determined_by_the_seed(benchmark):
    clips = load_clips(benchmark / "train", "train", subset="ms3", grid=(24, 24), progress=False)
    settings = StudySettings(steps=20, batch=8, lr=0.01)
    cfg = small_cfg()
    maps, losses = {}, {}
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        network, losses[run] = train_map(cfg, clips, settings, seed=seed, progress=False)
        maps[run] = predict_maps(cfg, network, clips)
    assert np.mean(losses["a"][-5:]) < np.mean(losses["a"][:5]) - 0.1
    assert torch.equal(maps["a"], maps["b"]) and not torch.equal(maps["a"], maps["c"])


@pytest.mark.parametrize(("name", "reads_grid"), [("SKA", True), ("TemporalSKA", False), ("FlowMagnitude", False)])
def test_only_the_inputs_of_a_module_are_built_and_trained(name, reads_grid):
    network = MapNetwork(small_cfg("MODEL.SKA.NAME", name))
    assert (network.audio_encoder is not None) == reads_grid
    flow = torch.rand(2, 10, 2, 24, 24)
    motion_map = network(torch.randn(2, 1, 96, 64), torch.randn(2, 1, 100, 64), flow)
    assert motion_map.shape == (2, 1, 24, 24)
    # A complete model passes an audio grid; a module that declares not to read it must ignore it.
    grid = torch.randn(2, 16, 6, 4)
    second = torch.randn(2, 1, 100, 64)
    found = network(torch.zeros(2, 1, 96, 64), second, flow)
    assert reads_grid or torch.equal(network.ska(grid, second, flow).motion_map, found)


def study(path, out, *, steps=2, **options):
    settings = StudySettings(steps=steps, batch=4, lr=1e-3, train_clips=4)
    run_study(path, out, settings=settings, progress=False, **options)


@pytest.fixture
def listed(benchmark, tmp_path):
    path = tmp_path / "list.yaml"
    small = ["MODEL.HIDDEN_DIM", 32]
    rows = [
        {"name": "temporal", "label": "in time", "config": CONFIG, "overrides": small},
        {"name": "magnitude", "label": "naive", "config": CONFIG,
         "overrides": [*small, "MODEL.SKA.NAME", "FlowMagnitude"]},
    ]  # fmt: skip
    content = {"benchmark": str(benchmark), "seeds": [1, 2], "baseline": "temporal", "splits": ["silent-mover"]}
    path.write_text(yaml.safe_dump(content | {"rows": rows}))
    return path


def test_a_study_resumes_and_refuses_other_settings(listed, tmp_path):
    out, lines = tmp_path / "out", []
    study(listed, out, rows=["temporal"], seeds=[1], say=lines.append)
    first = (out / "temporal" / "seed1" / "study.json").read_bytes()
    study(listed, out, say=lines.append)
    assert "1 of 4 runs are there." in lines and (out / "temporal" / "seed1" / "study.json").read_bytes() == first
    table = json.loads((out / "table.json").read_text())
    assert {row["name"]: len(row["runs"]) for row in table["rows"]} == {"temporal": 2, "magnitude": 2}
    naive = table["rows"][1]["spread"]["silent-mover"]["first"]
    assert naive["n"] == 2 and naive["sd"] == 0  # it has no parameters
    text = (out / "table.md").read_text()
    assert "| naive " in text and "silent-mover, difference" in text
    with pytest.raises(AblationError, match="other values of steps"):
        study(listed, out, steps=3, say=lines.append)
    study(listed, out, steps=3, table_only=True, say=lines.append)


def test_command_line_variants_extend_the_list(listed):
    study = with_variants(read_ablation(listed), [["wide", "MODEL.SKA.SERIES_DIM", "16"]])
    assert study.rows[-1].name == "wide" and study.rows[-1].overrides == ("MODEL.SKA.SERIES_DIM", "16")
    with pytest.raises(AblationError, match="'MODEL.SKA.STEPS' has no partner"):
        with_variants(study, [["odd", "MODEL.SKA.STEPS"]])
    with pytest.raises(AblationError, match="a row of that name exists"):
        with_variants(study, [["wide"]])


def test_a_config_without_a_trainable_map_is_refused():
    with pytest.raises(AblationError, match="MODEL.SKA.ENABLED"):
        MapNetwork(small_cfg("MODEL.SKA.ENABLED", False))
    with pytest.raises(AblationError, match="MODEL.AUDIO.FREEZE False"):
        MapNetwork(small_cfg("MODEL.SKA.NAME", "SKA", "MODEL.AUDIO.FREEZE", True))


def test_the_committed_study_is_complete():
    path = Path("configs/studies/ska.yaml")
    text = path.read_text()
    assert f"--list {path}" in text and "# Cost:" in text and "# Result:" in text
    configs = {row.name: load_cfg(row.config, [*row.overrides]) for row in read_ablation(path).rows}
    assert all(build_ska(cfg) is not None for cfg in configs.values())
    assert len({cfg.dump() for cfg in configs.values()}) == len(configs)  # all variants differ
