"""The command that predicts: folders, videos and datasets to masks, from a checkpoint alone."""

import numpy as np
import pytest
import soundfile
from detectron2.modeling import build_model
from PIL import Image

from ska_vct.cli.predict import main
from ska_vct.engine.clip_inputs import read_folder
from ska_vct.engine.predictor import Predictor
from ska_vct.synth import SynthSettings, generate
from ska_vct.utils.errors import InputError
from ska_vct.visualization import write_overlay_video

SIDE = 64


@pytest.fixture
def weights(tiny_cfg, tmp_path):
    return str(build_model(tiny_cfg).save_pretrained(tmp_path / "model"))


def make_frames(folder, count=3, first=8):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for second in range(count):
        # Numbers of one and two digits: 10 comes after 9.
        Image.fromarray(np.full((SIDE, SIDE, 3), 40 * second, np.uint8)).save(folder / f"f_{first + second}.png")
    soundfile.write(folder / "a.wav", 0.1 * rng.standard_normal(16000 * count), 16000)
    return folder


def test_folders_are_read_in_the_order_of_their_numbers(tmp_path):
    clip = read_folder(make_frames(tmp_path / "clip"))
    assert clip.frames[:, 0, 0, 0].tolist() == [0, 40, 80] and clip.name == "clip"
    assert len(clip.audio[0]) == 48000 and clip.audio[1] == 16000


def test_folders_that_are_not_clips(tmp_path):
    folder = make_frames(tmp_path / "clip")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "f_11.png")
    with pytest.raises(InputError, match="f_11.png' has another size"):
        read_folder(folder)
    (folder / "a.wav").unlink()
    with pytest.raises(InputError, match="has 4 images .* and 0 audio files"):
        read_folder(folder)


def test_masks_of_a_folder_and_a_video(weights, tmp_path, capsys):
    folder = make_frames(tmp_path / "clip")
    frames = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    frames[:, 10:30, 10:30] = 200
    labels, video = np.zeros((2, SIDE, SIDE), np.int64), tmp_path / "film.mp4"
    samples = 0.1 * np.random.default_rng(0).standard_normal(32000)
    write_overlay_video(video, frames, labels, audio=samples, sample_rate=16000)
    main(["--weights", weights, "--device", "cpu", "--out", str(tmp_path / "out"), str(folder), str(video)])
    assert "2 of 2 videos segmented" in capsys.readouterr().out
    predictor = Predictor.from_pretrained(weights, device="cpu")
    clip = read_folder(folder)
    wanted = predictor(clip.frames, clip.audio).labels
    for second in range(3):
        mask = np.asarray(Image.open(tmp_path / "out" / "clip" / f"clip_{second + 1}.png"))
        np.testing.assert_array_equal(mask, 255 * wanted[second])
    assert len(list((tmp_path / "out" / "film").glob("*.png"))) == 2


def test_masks_of_a_dataset(weights, tmp_path, capsys):
    generate(
        tmp_path / "data",
        SynthSettings(subset="ms3", train=0, val=0, test=2, size=SIDE, fps=4, series=2),
        jobs=1,
        progress=False,
    )
    words = ["--weights", weights, "--device", "cpu", "--dataset", "avsbench_ms3_test", "--num", "1"]
    main([*words, "--out", str(tmp_path / "out"), "--set", "DATASETS.ROOT", str(tmp_path / "data")])
    assert "Masks of 1 clips" in capsys.readouterr().out
    assert len(list((tmp_path / "out").rglob("*.png"))) == 5
    with pytest.raises(SystemExit, match="no dataset 'avsbench_ms3_tset'"):
        main([*words[:4], "--dataset", "avsbench_ms3_tset", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "out"), "clip"])


def test_a_checkpoint_without_a_config_ends_with_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="error: .*no file 'none.pth'"):
        main(["--weights", "none.pth", "--out", str(tmp_path), "clip"])
