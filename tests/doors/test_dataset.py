"""A dataset from outside the package: a module with facts and a reader, or one YAML file and no code."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ska_vct.config import get_cfg
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.facts import DatasetFacts
from ska_vct.data.images.io import ImageError, probe_image, read_image
from ska_vct.data.images.video_frames import frame_of_video
from ska_vct.data.own import OwnDatasetError, own_facts
from ska_vct.data.registry import register_dataset
from ska_vct.synth.video import write_video

ROOT = Path(__file__).resolve().parents[2]
FPS, HEIGHT, WIDTH = 16, 48, 64
SPLITS = {"train": 3, "val": 1, "test": 2}
# Sizes at which two steps take a second.
TINY = """
INPUT: {SIZE: [64, 64], EVAL_SIZE: [48, 48]}
MODEL: {HIDDEN_DIM: 32, DECODER: {NUM_QUERIES: 6, NUM_LAYERS: 2}, AUDIO: {FREEZE: False}}
DATALOADER: {NUM_WORKERS: 0}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 2}
TEST: {EVAL_PERIOD: 2}
"""


def left_edge(frame: int) -> int:
    """Column at which the object of a video's frame begins."""
    return 4 + frame % 40


def mask_of(frame: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[12:32, left_edge(frame) : left_edge(frame) + 16] = 255
    return mask


def make_videos(root: Path, seconds: int = 3) -> Path:
    """mp4 files of a bright object that moves by a column per frame, and its mask at the end of every second."""
    time = np.arange(seconds * 16000) / 16000
    for split, count in SPLITS.items():
        for index in range(count):
            name = f"clip {index}"
            frames = np.full((seconds * FPS, HEIGHT, WIDTH, 3), 20, np.uint8)
            for number, frame in enumerate(frames):
                frame[mask_of(number) > 0] = (230, 200, 40 + 60 * index)
            audio = (9000 * np.sin(2 * np.pi * (300 + 100 * index) * time)).astype(np.int16)[:, None]
            path = root / "videos" / split / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, frames, fps=FPS, audio=audio, rate=16000)
            for second in range(seconds):
                path = root / "masks" / split / name / f"{second}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask_of(second * FPS + 15)).save(path)
    return root


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"))


def run(*words: object, check: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode == 0) == check, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_config(path: Path, text: str, *, dataset: str) -> Path:
    bases = [f"{ROOT}/configs/_base_/{name}.yaml" for name in ("ska_vct", "backbones/tiny")] + [dataset]
    path.write_text("_BASE_: [" + ", ".join(bases) + "]\n" + text + TINY)
    return path


def clips_scored(folder: Path) -> set[str]:
    with (folder / "per_clip.csv").open() as file:
        return {next(iter(row.values())) for row in csv.DictReader(file)}


def test_a_module_with_facts_and_a_reader_trains_two_steps(videos, tmp_path, example):
    dataset = tmp_path / "street.yaml"
    dataset.write_text(f"{example('Dataset', tmp_path)}  ROOT: '{videos}'\n")
    config = write_config(tmp_path / "config.yaml", f"OUTPUT_DIR: {tmp_path / 'out'}\n", dataset=str(dataset))
    keys = ("INPUT.FLOW.MISSING", "zero", "MODEL.NUM_CLASSES", 2, "MODEL.MPQG.NUM_PROTOTYPES", 0)
    run("tools/train_net.py", "--config-file", config, "--num-gpus", 0, *keys)
    lines = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    assert any(np.isfinite(json.loads(line).get("total_loss", np.nan)) for line in lines)
    assert len(clips_scored(tmp_path / "out/inference/street_val")) == SPLITS["val"]
    checked = tmp_path / "checked.yaml"
    checked.write_text(f"_BASE_: {config}\nINPUT: {{FLOW: {{MISSING: zero}}}}\n")
    assert "Street" in run("datasets/check.py", "--config-file", checked)


@pytest.mark.slow
def test_a_yaml_file_trains_evaluates_draws_is_checked_and_gets_flow(videos, tmp_path):
    text = f"DATASETS: {{ROOT: '{videos}'}}\nOUTPUT_DIR: {tmp_path / 'out'}\n"
    config = write_config(tmp_path / "config.yaml", text, dataset=f"{ROOT}/configs/_base_/datasets/own.yaml")
    report = run("datasets/check.py", "--config-file", config)
    assert "All clips are usable." in report and "log-mel from the video of 6 clips" in report
    assert "6 written (6 from video)" in run("datasets/compute_flow.py", "--config-file", config, "--jobs", 1)
    assert (videos / "flow/own/train/clip 0.npz").is_file()
    run("tools/train_net.py", "--config-file", config, "--num-gpus", 0)
    weights = tmp_path / "out/model_best.pth"
    run("tools/train_net.py", "--config-file", config, "--num-gpus", 0, "--eval-only", "MODEL.WEIGHTS", weights)
    assert clips_scored(tmp_path / "out/inference/own_test") == {"test/clip 0", "test/clip 1"}
    run("tools/visualize.py", "--config", config, "--weights", weights, "--dataset", "own_test", "--num", 1,
        "--out", tmp_path / "drawn", "--num-gpus", 0)  # fmt: skip
    assert {path.suffix for path in (tmp_path / "drawn").iterdir()} == {".png", ".mp4"}


def describe(**keys):
    """The facts of ``DATASETS.OWN`` with some keys changed."""
    own = get_cfg().DATASETS.OWN
    own.NAME, own.VIDEO, own.MASKS = "own", "videos/{split}/{clip}.mp4", "masks/{split}/{clip}/{second}.png"
    for key, value in keys.items():
        own[key] = value
    return own_facts(own)


def test_frames_masks_and_audio_of_a_video_belong_to_the_same_second(videos):
    register_dataset(describe())
    records = load_records("own", "train", videos)
    assert [record["clip_id"] for record in records] == ["train/clip 0", "train/clip 1", "train/clip 2"]
    cfg = get_cfg()
    cfg.MODEL.SKA.ENABLED = False
    cfg.INPUT.SIZE = cfg.INPUT.EVAL_SIZE = (HEIGHT, WIDTH)
    for record in records:
        clip = ClipMapper(cfg, is_train=False)(record)
        assert clip["images"].shape == (3, 3, HEIGHT, WIDTH) and clip["log_mel"].shape == (3, 1, 96, 64)
        for second in range(3):
            bright = clip["images"][second, 0].numpy() > 125
            mask = clip["masks"][second].numpy() > 0
            # A frame earlier or later shifts the object by a column: 40 of 640 pixels.
            assert (bright != mask).sum() < 20, second


def test_frames_are_those_shown_15_sixteenths_into_each_second(videos):
    path = str(videos / "videos/train/clip 0.mp4")
    for second in range(3):
        image = read_image(frame_of_video(path, second))
        columns = np.flatnonzero((image[12:32, :, 0] > 125).mean(0) > 0.5)
        assert columns[0] == left_edge(second * FPS + 15)
    assert probe_image(frame_of_video(path, 1)) == (HEIGHT, WIDTH)
    with pytest.raises(ImageError, match="no frame at 7.94 s"):
        read_image(frame_of_video(path, 7))
    with pytest.raises(ImageError, match="nowhere.mp4"):
        read_image("nowhere.mp4#t=0.9375")


def test_images_at_their_own_rate_in_a_table_with_columns(tmp_path):
    for name in "abc":
        folder = tmp_path / "frames" / "dogs" / name
        folder.mkdir(parents=True)
        for number in range(1, 51):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number:04d}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.new("L", (32, 32)).save(tmp_path / "masks" / f"{name}_0002.png")
        (tmp_path / f"{name}.wav").touch()
    (tmp_path / "clips.csv").write_text("clip;split;category\na;train;dogs\nb;val;dogs\nc;test;dogs\n")
    register_dataset(
        describe(
            VIDEO="", AUDIO="{clip}.wav", TABLE="clips.csv", IMAGES="frames/{category}/{clip}/{frame}.png",
            MASKS="masks/{clip}_{second}.png", FRAME_RATE=25.0, FIRST_NUMBER=1, DIGITS=4, ANNOTATED="existing",
        )
    )  # fmt: skip
    (record,) = load_records("own", "train", tmp_path)
    assert record["clip_id"] == "train/dogs/a" and record["flow_path"].endswith("flow/own/train/dogs/a.npz")
    # Images 23 and 48 of 25 per second, counted from 0, are shown 15/16 s into seconds 0 and 1.
    assert [Path(path).name for path in record["image_paths"]] == ["0024.png", "0049.png"]
    assert [path and Path(path).name for path in record["mask_paths"]] == [None, "a_0002.png"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"VIDEO": "../{clip}.mp4"}, r"VIDEO is '../\{clip\}.mp4', which leads outside DATASETS.ROOT"),
        ({"MASKS": "masks/{clip.__class__}/{second}.png"}, "MASKS .* a placeholder is a lower-case word"),
        ({"MASKS": "masks/{clip!r}/{second}.png"}, "a placeholder is a lower-case word"),
        ({"MASKS": "masks/{clip}.png"}, "the same file for every second"),
        ({"MASKS": "masks/all/{second}.png"}, r"must contain \{clip\}"),
        ({"VIDEO": ""}, "neither IMAGES nor VIDEO"),
        ({"VIDEO": "", "IMAGES": "{clip}/{second}.png"}, "neither AUDIO nor VIDEO"),
        ({"MASKS": ""}, "MASKS is empty"),
        ({"ANNOTATED": "some"}, "choose one of all, first, existing"),
        ({"TABLE": "../clips.csv"}, "TABLE is '../clips.csv', which leads out"),
        ({"FRAME_RATE": 0.0}, "FRAME_RATE must be at least 1"),
    ],
)
def test_contradictions_in_a_description_are_named(keys, message):
    with pytest.raises(OwnDatasetError, match=message):
        describe(**keys)


def test_names_in_a_table_of_ones_own_lead_nowhere_else(tmp_path):
    register_dataset(describe(TABLE="clips.csv", VIDEO="{clip}.mp4", MASKS="{place}/{clip}/{second}.png"))
    (tmp_path / "clips.csv").write_text("clip,split,place\na,train,../../etc\n")
    with pytest.raises(DatasetError, match="line 2 names a place '../../etc', which leads to another folder"):
        load_records("own", "train", tmp_path)


def test_readers_of_ones_own_are_checked_and_completed():
    facts = DatasetFacts(name="mine", title="Mine", num_frames=1)
    good = {"clip_id": "train/a", "image_paths": ["a.png"], "mask_paths": [None]}
    for record, message in (
        ({"clip_id": "a"}, "without image_paths, mask_paths"),
        (good | {"clip_id": "../a"}, "leads to another folder"),
        (good | {"mask_paths": []}, "1 frames and 0 masks"),
    ):
        register_dataset(facts, lambda split, options, record=record: [record])
        with pytest.raises(DatasetError, match=message):
            load_records("mine", "train", "somewhere")
    register_dataset(facts, lambda split, options: [good])
    (record,) = load_records("mine", "train", "somewhere")
    assert record["flow_path"] == "somewhere/flow/mine/train/a.npz" and record["subset"] == "mine"
    with pytest.raises(ValueError, match="is a subset of AVSBench"):
        register_dataset(DatasetFacts(name="s4", title="x"))
