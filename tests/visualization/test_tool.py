"""tools/visualize.py and what it runs: from a checkpoint, or from saved predictions, to images and videos."""

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
import torch
from detectron2.modeling import build_model
from PIL import Image

import ska_vct.modeling  # noqa: F401
from ska_vct.engine.predictor import find_records
from ska_vct.engine.visualize import visualize
from ska_vct.evaluation import save_prediction
from tests.visualization.test_video import write_video

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("one", "two", "three", "four")


def make_release(root: Path) -> None:
    """Four MS3 test clips of five 32 px frames: a bright square that moves, a tone, a video for the first clip."""
    base = root / "AVSBench_object/Multi-sources"
    for name in NAMES:
        for folder in (f"visual_frames/{name}", f"gt_masks/test/{name}", "audio_wav/test", "raw_videos"):
            (base / "ms3_data" / folder).mkdir(parents=True, exist_ok=True)
        for k in range(5):
            mask = np.zeros((32, 32), np.uint8)
            mask[8:20, 2 + 4 * k : 14 + 4 * k] = 255
            image = np.full((32, 32, 3), 60, np.uint8)
            image[mask > 0] = (200, 180, 90)
            cv2.imwrite(str(base / f"ms3_data/visual_frames/{name}/{name}.mp4_{k + 1}.png"), image)
            cv2.imwrite(str(base / f"ms3_data/gt_masks/test/{name}/{name}_{k + 1}.png"), mask)
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(5 * 16000) / 16000)
        soundfile.write(base / f"ms3_data/audio_wav/test/{name}.wav", tone, 16000)
    (base / "ms3_meta_data.csv").write_text("name,split\n" + "".join(f"{name},test\n" for name in NAMES))


@pytest.fixture
def arguments(tmp_path, tiny_cfg) -> dict:
    """Arguments of ``visualize`` for a config, a release and a checkpoint that exist."""
    make_release(tmp_path / "data")
    tiny_cfg.DATASETS.ROOT = str(tmp_path / "data")
    tiny_cfg.INPUT.FLOW.MISSING = "zero"
    (tmp_path / "config.yaml").write_text(tiny_cfg.dump())
    torch.save({"model": build_model(tiny_cfg).state_dict()}, tmp_path / "model.pth")
    return {
        "config_file": tmp_path / "config.yaml",
        "weights": tmp_path / "model.pth",
        "dataset": "avsbench_ms3_test",
        "num": 2,
        "out": tmp_path / "out",
        "num_gpus": 0,
    }


def test_sheets_and_videos_from_a_checkpoint(arguments):
    files = visualize(**arguments, save=["sheet", "video"])
    names = ["index.png", "test__one.png", "test__one.mp4", "test__four.png", "test__four.mp4"]
    assert [file.name for file in files] == names, "two clips, spread over the split"
    assert sorted(file.name for file in arguments["out"].iterdir()) == sorted(names)
    with Image.open(files[1]) as sheet, Image.open(files[0]) as index:
        # frames, truth, prediction, flow, map, boundary of 160 px, and the log-mel
        assert sheet.width > 5 * 160 and sheet.height > 6 * 160
        assert index.width < 2 * sheet.width
    with av.open(str(files[2])) as video:
        assert {stream.type for stream in video.streams} == {"video", "audio"}
        assert float(video.streams.video[0].duration * video.streams.video[0].time_base) == pytest.approx(5)


def test_sheets_and_videos_take_the_proportions_of_the_clips_own_video(arguments, tmp_path):
    """The released frames are squares; the video of the first clip is 3:2."""
    arguments["clips"] = ["one"]
    square = np.asarray(Image.open(visualize(**arguments, save=["sheet"])[1])).shape
    path = tmp_path / "data/AVSBench_object/Multi-sources/ms3_data/raw_videos/one.mp4"
    write_video(path, [np.full((64, 96, 3), 90, np.uint8)] * 50)
    files = visualize(**arguments, save=["sheet", "video"])
    wide = np.asarray(Image.open(files[1])).shape
    assert wide[1] - square[1] > 5 * 70, "160 px wide frames have become 240 px wide"
    with av.open(str(files[2])) as video:
        stream = video.streams.video[0]
        # prediction, ground truth and motion map, 480 x 320 each
        assert stream.width == 3 * 480 + 2 * 6 and 320 < stream.height < 320 + 1.7 * 60


def test_two_checkpoints_on_pages_and_in_the_gallery(arguments, tiny_cfg, tmp_path):
    torch.manual_seed(1)
    torch.save({"model": build_model(tiny_cfg).state_dict()}, tmp_path / "second.pth")
    files = visualize(**arguments | {"compare": tmp_path / "second.pth", "save": ["page"], "num": None})
    assert [file.name for file in files] == ["index.html", *(f"test__{name}.html" for name in NAMES)]
    assert {file.suffix for file in (arguments["out"] / "gallery").iterdir()} == {".webp", ".m4a"}
    page = files[1].read_text()
    assert page.count("<section>") == 2 and "second.pth" in page
    for title in ("Frames", "Ground truth", "Log-mel", "Flow"):
        assert page.count(f"{title}<br>") == 1, title
    for title in (
        "Prediction",
        "Errors",
        "Motion map",
        "Boundary",
        "SKA head 4",
        "All queries<br>before the prompt",
    ):
        assert page.count(f"{title}<br>") == 2, title
    gallery = files[0].read_text()
    assert gallery.count("<article") == 4 and "M_J gained" in gallery
    for name in NAMES:
        assert f'href="test__{name}.html"' in gallery and f'src="gallery/test__{name}.m4a"' in gallery


def test_sheets_of_saved_predictions(arguments, tmp_path):
    folder = tmp_path / "predictions"
    mask = np.zeros((5, 48, 48), np.int64)
    mask[:, 12:30, 6:24] = 1
    save_prediction(folder, "test/two", mask, range(5), binary=True)
    arguments |= {"weights": None, "predictions": folder, "clips": ["two"], "save": ["sheet"]}
    assert [file.name for file in visualize(**arguments)] == ["index.png", "test__two.png"]
    arguments["clips"] = ["test/three"]
    with pytest.raises(FileNotFoundError, match=r"clip 'test/three'.*three_1\.png"):
        visualize(**arguments)
    save_prediction(folder, "test/three", mask[:, :24], range(5), binary=True)
    with pytest.raises(ValueError, match="24 x 48 pixels but 48 x 48"):
        visualize(**arguments)
    arguments["dataset"] = "avsbench_ms3_tset"
    with pytest.raises(ValueError, match="no dataset 'avsbench_ms3_tset'; choose one of.*avsbench_ms3_test"):
        visualize(**arguments)
    arguments["dataset"] = "avsbench_ms3_test"
    arguments["predictions"] = tmp_path / "elsewhere"
    with pytest.raises(FileNotFoundError, match="elsewhere' does not exist"):
        visualize(**arguments)


def test_bad_input_is_one_sentence(arguments, tmp_path):
    def error_of(**changes) -> str:
        with pytest.raises((ValueError, OSError)) as caught:
            visualize(**(arguments | changes))
        message = str(caught.value)
        assert "\n" not in message
        return message

    assert "No clip of 'avsbench_ms3_test' is called 'five'" in error_of(clips=["five"])
    assert "at least 1" in error_of(num=0)
    assert "none.pth" in error_of(weights=str(tmp_path / "none.pth"))
    assert "MODEL.WEIGHTS" in error_of(weights=None)
    assert "avsbench_ms3_tset" in error_of(dataset="avsbench_ms3_tset")
    (tmp_path / "file").write_text("")
    assert f"Cannot write to folder '{tmp_path / 'file' / 'out'}'" in error_of(out=str(tmp_path / "file" / "out"))
    for wav in (tmp_path / "data").rglob("one.wav"):
        wav.unlink()
    assert "one.wav" in error_of(clips=["one"])
    assert not list(arguments["out"].glob("*one*"))
    assert "choose of sheet, video, page" in error_of(save=["film"])
    assert "on pages only" in error_of(save=["sheet"], compare="second.pth")
    assert "has 71 classes but MODEL.NUM_CLASSES is 2" in error_of(dataset="avsbench_avss_test")


def test_clips_are_found_by_id_or_name(arguments):
    visualize(**(arguments | {"clips": ["one"], "save": ["sheet"]}))
    ids = [record["clip_id"] for record in find_records(arguments["dataset"], clip_ids=["three", "test/one"])]
    assert ids == ["test/three", "test/one"]
    assert len(find_records(arguments["dataset"], num=99)) == 4


def test_help_has_an_example():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/visualize.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert "python tools/visualize.py --config" in done.stdout and "--predictions DIR" in done.stdout
