"""Data that trains without an error and teaches less than it seems: said with a count, before training too."""

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from ska_vct.config import get_cfg
from ska_vct.data.catalog import load_records
from ska_vct.data.flow.store import read_flow, write_flow
from ska_vct.data.own import own_facts
from ska_vct.data.registry import ReadOptions, get_facts, register_dataset
from ska_vct.data.validation.check import check_records, check_release
from ska_vct.data.validation.clips import Needs
from ska_vct.data.validation.report import describe
from ska_vct.engine.data_check import check_datasets, needs_of
from ska_vct.engine.datasets import register_datasets
from tests.data.miniature import make_original


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return make_original(tmp_path_factory.mktemp("degenerate"), "ms3")


def config(root: Path, **flow) -> object:
    cfg = get_cfg()
    cfg.DATASETS.ROOT, cfg.DATASETS.TRAIN = str(root), ("avsbench_ms3_train",)
    cfg.INPUT.SIZE = (32, 32)
    for key, value in flow.items():
        cfg.INPUT.FLOW[key] = value
    register_datasets(cfg)
    return cfg


def kinds(records: list[dict], needs: Needs) -> dict[str, str]:
    findings, _ = check_records(records, needs, seconds=60, progress=False)
    return {finding.kind: finding.text for finding in findings}


def test_copies_of_one_flow_field_are_said(release, caplog):
    # The miniature stores two fields per second.
    cfg = config(release, SERIES=10)
    with caplog.at_level(logging.WARNING):
        check_datasets(cfg, cfg.DATASETS.TRAIN)
    assert "too few flow fields: 2 in 2 of 2 clips" in caplog.text
    assert "has 2 per second, but INPUT.FLOW.SERIES is 10: the same field is read 5 times" in caplog.text
    caplog.clear()
    check_datasets(config(release, SERIES=2), cfg.DATASETS.TRAIN)
    assert "flow fields" not in caplog.text


def test_the_same_is_said_by_the_check_of_a_release(release):
    cfg = config(release, SERIES=10)
    base = release / "AVSBench_object" / "Multi-sources"
    options = ReadOptions(root=str(release))
    report = check_release(get_facts("ms3"), str(base), options, needs=needs_of(cfg), progress=False)
    assert "too few flow fields: 5 in 5 of 5 clips" in describe(report)


def test_fields_that_repeat_because_the_video_is_slow_are_said(release, tmp_path):
    record = load_records("ms3", "test", release)[0] | {"flow_path": str(tmp_path / "slow.npz")}
    stored = read_flow(load_records("ms3", "test", release)[0]["flow_path"])
    flow = np.repeat(stored.flow[:, :1], 10, axis=1)
    slow = replace(stored, flow=flow, meta=stored.meta | {"source": "video", "fps": 2.0, "time_step": 0.5})
    write_flow(record["flow_path"], slow)
    text = kinds([record], Needs(read_flow=True, series=10))["repeated flow fields"]
    assert "shows 2 different images per second" in text and "INPUT.FLOW.SERIES to 2" in text
    quick = replace(slow, meta=slow.meta | {"fps": 12.5, "time_step": 0.08})
    write_flow(record["flow_path"], quick)
    assert "repeated flow fields" not in kinds([record], Needs(read_flow=True, series=10))


def test_flow_missing_everywhere_is_more_than_a_count(release, tmp_path, caplog):
    cfg = config(release, MISSING="zero", ROOT=str(tmp_path / "none"))
    check_datasets(cfg, cfg.DATASETS.TRAIN)
    assert (
        "flow taken as zero: 2 in 2 of 2 clips (No clip has flow, so the motion map is zero everywhere"
        in caplog.text
    )
    cfg = config(release, MISSING="zero", ROOT=str(tmp_path / "none"), ONLINE=True)
    caplog.clear()
    check_datasets(cfg, cfg.DATASETS.TRAIN)
    assert "flow taken as zero" not in caplog.text


def test_frames_smaller_than_the_recipe_are_said(release):
    records = load_records("ms3", "train", release)
    assert "they will be enlarged" in kinds(records, Needs(input_side=384))["frames smaller than meant"]
    assert "frames smaller than meant" not in kinds(records, Needs(input_side=32))
    base = release / "AVSBench_object" / "Multi-sources"
    options, needs = ReadOptions(root=str(release)), Needs(input_side=384)
    text = describe(check_release(get_facts("ms3"), str(base), options, needs=needs, progress=False))
    assert "frames smaller than meant: 5 in 5 of 5 clips" in text
    assert text.count("they will be enlarged") == 1


@pytest.fixture
def own(tmp_path) -> list[dict]:
    """A clip of a slide show: half an image per second for ten seconds, of which five are used."""
    video = tmp_path / "videos" / "train" / "slides.mp4"
    video.parent.mkdir(parents=True)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(1, 2))
        stream.width = stream.height = 64
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(2, 1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    soundfile.write(tmp_path / "slides.wav", np.zeros(160_000), 16_000)
    for second in range(5):
        path = tmp_path / "masks" / "train" / "slides" / f"{second}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    node = get_cfg().DATASETS.OWN
    node.NAME, node.SECONDS, node.AUDIO = "slides", 5, str(tmp_path) + "/{clip}.wav"
    node.VIDEO, node.MASKS = "videos/{split}/{clip}.mp4", "masks/{split}/{clip}/{second}.png"
    register_dataset(own_facts(node))
    return load_records("slides", "train", tmp_path)


def test_a_slow_video_and_unused_seconds_are_said(own):
    found = kinds(own, Needs(input_side=96))
    assert "0.5 images per second" in found["repeated frames"]
    assert "lasts 10.00 s, of which only the 5 s" in found["seconds not used"]
    assert "are 64 x 64, and the network reads 96 x 96" in found["frames smaller than the network's input"]
