"""Files of which each stands for a kind of fault; every one is read as it should be, or refused in one sentence.

A reader that ends its process or hangs must not end the tests, so each file is read in a child process.
"""

import os
import shutil
from pathlib import Path

import pytest

from ska_vct.data.audio.files import load_audio
from ska_vct.data.images.io import check_image, probe_image, read_binary_mask, read_image
from ska_vct.evaluation.coco_files import load_coco
from ska_vct.utils.errors import SkaVctError
from tests.faults import fuzz
from tests.faults.readers import READERS, Reader, audio_record

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not on this machine")

# Beginning of a file's name -> reader of the harness.
PREFIXES = {
    "checkpoint_load_state_dict": "checkpoint", "coco_binary": "coco_binary", "coco_semantic": "coco_semantic",
    "flow_published": "flow_published", "flow_read_flow": "flow", "flow_read_meta": "flow_meta",
    "frame_read_picture": "frame", "labels_read_label_map": "labels", "mask_read_binary_mask": "mask",
    "npy_load_log_mel": "npy", "pickle_load_log_mel": "pickle", "prediction_png": "prediction",
    "probe_picture": "probe", "synth_truth": "truth", "table_avss": "table_avss", "table_ms3": "table_ms3",
    "table_s4": "table_s4", "video_pictures": "video_frames", "video_sound": "video_audio",
    "wav_load_log_mel": "wav", "yaml_load_cfg": "yaml",
}  # fmt: skip
# What is read: a flipped bit of weights without a checksum cannot be told, and text that is not UTF-8 in a video's
# tags does no harm. All others are refused.
READ = {"checkpoint_load_state_dict_df0984", "video_sound_d6aec7"}


def in_child(name: str, reader: Reader, folder: Path, size: int) -> tuple[str, str]:
    """What ``fuzz.examine`` says, or CRASH."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fuzz._quiet()
            kind, detail = fuzz.examine(name, reader, folder, size)
            os.write(send, f"{kind}\t{detail}".encode()[:4000])
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        data = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    kind, _, detail = data.partition("\t")
    return (kind, detail) if status == 0 and kind else ("CRASH", f"status {status}")


def fuzz_cases() -> list[Path]:
    folder = CASES / "fuzz"
    return sorted(path for path in folder.iterdir() if path.name != "README.md") if folder.is_dir() else []


@pytest.mark.parametrize("case", fuzz_cases(), ids=lambda path: path.name)
def test_what_fuzzing_found_is_refused_in_one_sentence(case, tmp_path):
    name = next(reader for prefix, reader in PREFIXES.items() if case.name.startswith(prefix))
    reader = READERS[name]
    if case.is_dir():
        shutil.copytree(case, tmp_path / ("x" if name == "flow_published" else "."), dirs_exist_ok=True)
        size = sum(path.stat().st_size for path in case.rglob("*") if path.is_file())
    else:
        (tmp_path / reader.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(case, tmp_path / reader.file)
        size = case.stat().st_size
    kind, detail = in_child(name, reader, tmp_path, size)
    assert kind == ("ok" if case.stem in READ else "refused"), (kind, detail)


def media(name: str) -> Path:
    return CASES / "media" / name


def test_frames_and_masks_with_orientation_are_turned_alike():
    frame = read_image(media("frame_exif6.png"))
    photo = read_image(media("frame_exif6.jpg")).astype(int)
    assert frame.shape == photo.shape == (64, 64, 3) and abs(frame - photo).mean() < 10
    mask = read_binary_mask(media("frame_exif6.png"))
    assert (mask == (frame[..., 0] > 0)).all() and probe_image(media("frame_exif6.png")) == (64, 64)


def test_half_a_jpeg_is_damaged():
    for read in (check_image, read_image):
        with pytest.raises(SkaVctError, match=r"frame_half\.jpg is damaged: it holds less image data"):
            read(media("frame_half.jpg"))


def test_a_prediction_of_one_bit_is_one_of_eight(tmp_path):
    mask = read_binary_mask(media("prediction_1bit.png"), kind="Prediction")
    assert mask.shape == (48, 64) and set(mask.ravel().tolist()) == {0, 1}


@pytest.mark.parametrize("form", ["uncompressed", "polygon"])
def test_other_forms_of_coco_regions(form):
    labels = load_coco(media(f"coco_{form}.json"), binary=True).load("test/abc", [0])
    assert labels.shape == (1, 224, 224) and 3000 < labels.sum() < 30000


def test_clicks_lie_where_they_are_heard_although_the_track_begins_late():
    rows = {}
    for name in ("sound_from_0", "sound_from_0.9s"):
        audio = load_audio(audio_record("video", media(f"{name}.mp4")), 4)
        rows[name] = {k: int(audio.seconds[k, 0].mean(axis=1)[:50].argmax()) for k in (1, 2, 3)}
    assert rows["sound_from_0"] == rows["sound_from_0.9s"]
    assert all(hop <= 12 for hop in rows["sound_from_0"].values())


@pytest.mark.parametrize("name", ["logmel_bfloat16", "logmel_torch_save_1.4"])
def test_log_mels_as_their_savers_left_them(name):
    audio = load_audio(audio_record("pickle", media(f"{name}.pkl")), 5)
    assert audio.log_mel.shape == (5, 1, 96, 64) and audio.log_mel.std() == pytest.approx(1, abs=0.02)
