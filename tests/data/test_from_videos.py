"""A folder of videos becomes a dataset that is checked, read and trained on; the frame is that of 15/16 s."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.facts import SPLITS, sample_time
from ska_vct.data.flow.methods.base import field_times
from ska_vct.data.from_videos import make_dataset
from ska_vct.data.images.io import read_image
from ska_vct.data.images.video_frames import frame_of_video
from ska_vct.engine.data_check import check_datasets
from ska_vct.engine.datasets import register_datasets
from ska_vct.engine.setup import load_cfg
from ska_vct.synth.video import write_video

ROOT = Path(__file__).resolve().parents[2]
SECONDS, RATE, SIDE = 3, 16, 32


def make_video(path: Path) -> None:
    """Frame n of 16 per second has the grey level n, so that an image tells its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    frames = np.zeros((SECONDS * RATE, SIDE, SIDE, 3), np.uint8)
    frames += (5 * np.arange(SECONDS * RATE, dtype=np.uint8))[:, None, None, None]
    write_video(
        path, frames, fps=RATE, audio=rng.integers(-900, 900, (SECONDS * 16000, 1)).astype(np.int16), rate=16000
    )


@pytest.fixture
def clips(tmp_path) -> Path:
    for name in "abcd":
        make_video(tmp_path / "clips" / f"{name}.mp4")
    (tmp_path / "clips" / "notes.txt").write_text("no video")
    return tmp_path / "clips"


def make_masks(folder: Path, *names: str, seconds=range(SECONDS), side: int = SIDE) -> Path:
    for name in names:
        for second in seconds:
            path = folder / name / f"{name}_{second}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(side, dtype=np.uint8) * 255).save(path)
    return folder


def test_the_frame_of_a_second_is_that_of_fifteen_sixteenths(clips, tmp_path):
    """One moment, by one function: extracted frames, frames of videos, and single flow fields."""
    outcome = make_dataset(clips, tmp_path / "own", progress=False)
    assert sum(outcome.clips.values()) == 4 and outcome.seconds == 4 * SECONDS and outcome.failed == []
    for path in (tmp_path / "own" / "frames").rglob("*.png"):
        second = int(path.stem)
        # Image 16 k + 15 of a video of 16 images per second.
        assert abs(int(read_image(path)[16, 16, 0]) - 5 * (16 * second + 15)) <= 3
    assert frame_of_video("a.mp4", 2) == "a.mp4#t=2.9375" and sample_time(2) == 2.9375
    assert field_times(3, 1).tolist() == [0.9375, 1.9375, 2.9375]
    assert field_times(2, 2).tolist() == [0.25, 0.75, 1.25, 1.75]


@pytest.mark.parametrize("link", [False, True])
def test_the_dataset_is_checked_and_read_by_its_config(clips, tmp_path, link):
    masks = make_masks(tmp_path / "masks", "a", "b", "c", "d", seconds=(0, 2))
    outcome = make_dataset(clips, tmp_path / "own", masks=masks, link=link, progress=False)
    assert outcome.masks == 8 and all(outcome.clips.values())
    cfg = load_cfg(
        tmp_path / "own" / "own.yaml", ["INPUT.SIZE", "(32, 32)", "INPUT.FLOW.MISSING", "zero", "SEED", "1"]
    )
    register_datasets(cfg)
    check_datasets(cfg, [f"own_{split}" for split in SPLITS])
    (record,) = DatasetCatalog.get("own_test")
    assert [path is not None for path in record["mask_paths"]] == [True, False, True]
    assert Path(record["video_path"]).is_symlink() == link
    clip = ClipMapper(cfg, is_train=False)(record)
    assert clip["images"].shape[0] == SECONDS and clip["mask_valid"].tolist() == [True, False, True]
    assert clip["masks"][0].sum() == SIDE * (224 // SIDE) ** 2


def test_folders_of_splits_are_kept(tmp_path):
    for split in SPLITS:
        make_video(tmp_path / "clips" / split / f"{split}_clip.mp4")
    make_dataset(tmp_path / "clips", tmp_path / "own", progress=False)
    for split in SPLITS:
        assert (tmp_path / "own" / "videos" / split / f"{split}_clip.mp4").is_file()


def test_a_video_that_cannot_be_used_is_named_and_the_rest_is_made(clips, tmp_path):
    (clips / "a.mp4").write_bytes(b"no video at all")
    make_masks(tmp_path / "masks", "b", seconds=(7,))
    make_masks(tmp_path / "masks", "c", seconds=(0,))
    Image.new("L", (SIDE, 3 * SIDE)).save(tmp_path / "masks" / "c" / "c_0.png")
    outcome = make_dataset(clips, tmp_path / "own", masks=tmp_path / "masks", progress=False)
    assert sum(outcome.clips.values()) == 1 and len(outcome.failed) == 3
    assert "a.mp4" in outcome.failed[0] and "is of second 7, but" in outcome.failed[1]
    assert "the proportions must agree" in outcome.failed[2]


def masks_of_no_video(root: Path) -> None:
    (root / "clips" / "a.mp4").unlink()
    make_masks(root / "masks", "a")


def two_of_a_name(root: Path) -> None:
    (root / "clips" / "b.mp4").rename(root / "clips" / "a.mov")


def mask_without_a_second(root: Path) -> None:
    make_masks(root / "masks", "a")
    (root / "masks" / "a" / "first.png").write_bytes(b"")


def no_videos(root: Path) -> None:
    for path in (root / "clips").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (masks_of_no_video, "holds the masks of no video"),
        (two_of_a_name, "clips of the same name"),
        (mask_without_a_second, "does not name its second"),
        (no_videos, "holds no videos"),
    ],
)
def test_mistakes_end_with_one_sentence(clips, tmp_path, change, sentence):
    change(tmp_path)
    masks = tmp_path / "masks" if (tmp_path / "masks").is_dir() else ""
    with pytest.raises(DatasetError, match=sentence):
        make_dataset(clips, tmp_path / "own", masks=masks, progress=False)


def test_as_a_program(clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["from_videos.py", str(clips), "--out", str(tmp_path / "own")])
    assert runpy.run_path(str(ROOT / "datasets" / "from_videos.py"))["main"]() == 0
    text = capsys.readouterr().out
    assert "4 clips (train 2, val 1, test 1), 12 frames and 0 masks" in text and "There are no masks yet" in text
    assert f"python tools/train_net.py --config-file {tmp_path / 'own'}/own.yaml" in text
