"""Predictions for arrays in memory are those that a dataset's files would give."""

import numpy as np
import pytest
import soundfile
from detectron2.modeling import build_model
from PIL import Image

from ska_vct import Predictor
from ska_vct.data.catalog import load_records
from ska_vct.data.flow.store import read_flow
from ska_vct.engine.predictor import ClipArrays
from ska_vct.synth import SynthSettings, generate
from ska_vct.utils.errors import InputError

SIDE = 64


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    settings = SynthSettings(subset="ms3", train=0, val=0, test=2, size=SIDE, fps=4, series=2)
    generate(root, settings, jobs=1, progress=False)
    return root


@pytest.fixture
def predictor(tiny_cfg, release):
    tiny_cfg.INPUT.EVAL_SIZE = (SIDE, SIDE)
    tiny_cfg.INPUT.SIZE = (96, 96)
    tiny_cfg.INPUT.AUDIO.SOURCE = "wav"
    tiny_cfg.DATASETS.ROOT = str(release)
    return Predictor(tiny_cfg, build_model(tiny_cfg))


@pytest.fixture
def records(release):
    return load_records("ms3", "test", release)


def arrays(record, **changes) -> ClipArrays:
    frames = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in record["image_paths"]])
    values = {
        "frames": frames,
        "audio": soundfile.read(record["wav_path"]),
        "flow": read_flow(record["flow_path"]).flow,
        "name": record["clip_id"],
    }
    return ClipArrays(**values | changes)


def test_arrays_give_what_the_files_give(predictor, records):
    wanted = [found.output for found in predictor.predict_records(records)]
    alone = [predictor.predict([arrays(record)])[0] for record in records]
    for want, found, record in zip(wanted, alone, records, strict=True):
        for name in ("sem_seg", "motion_map", "boundary"):
            np.testing.assert_array_equal(getattr(found, name), want[name].numpy(), err_msg=name)
        assert found.sem_seg.shape == (len(record["image_paths"]), 2, SIDE, SIDE)
        np.testing.assert_array_equal(found.labels, want["sem_seg"].numpy()[:, 1] > want["sem_seg"].numpy()[:, 0])
    # A batch of clips, and the shorter way of one.
    together = predictor.predict([arrays(record) for record in records])
    np.testing.assert_allclose(together[1].sem_seg, alone[1].sem_seg, atol=1e-4)
    clip = arrays(records[0])
    np.testing.assert_array_equal(predictor(clip.frames, clip.audio, flow=clip.flow).sem_seg, alone[0].sem_seg)


def test_labels_have_the_frames_size_and_clips_any_length(predictor, records):
    clip = arrays(records[0])
    wide = np.repeat(clip.frames[:3], 2, axis=2)
    found = predictor(wide, clip.audio)
    assert found.labels.shape == (3, SIDE, 2 * SIDE) and found.sem_seg.shape == (3, 2, SIDE, 2 * SIDE)
    single = predictor(clip.frames[:1], clip.audio)
    assert not single.motion_map.any(), "a single frame shows no motion"


def test_missing_flow_is_computed_between_the_frames(predictor, records):
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (SIDE, SIDE + 8, 3), dtype=np.uint8)
    texture = np.repeat(np.repeat(texture[::8, ::8], 8, axis=0), 8, axis=1)
    frames = np.stack([texture[:, 2 * k : 2 * k + SIDE] for k in range(3)])
    prepared = predictor.prepare(ClipArrays(frames=frames, audio=(rng.standard_normal(48000), 16000)))
    # Content moves 2 pixels to the left each second.
    u = prepared["flow"][:, :, 0].mean(), prepared["flow"][:, :, 1].abs().mean()
    assert u[0] < 0 and u[1] < 0.3 * abs(u[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"frames": np.zeros((2, 8, 8), np.uint8)},
            "frames is uint8 \\(2, 8, 8\\), expected uint8 \\(any, any, any, 3\\)",
        ),
        ({"frames": np.zeros((2, 8, 8, 3), np.float32)}, "frames is float32"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8)}, "frames is uint8 \\(0, 8, 8, 3\\)"),
        ({"audio": None}, "either audio=\\(samples, sample_rate\\) or log_mel"),
        ({"log_mel": np.zeros((5, 1, 96, 64), np.float32)}, "either audio"),
        ({"audio": None, "log_mel": np.zeros((5, 1, 64, 96), np.float32)}, "log_mel is float32"),
        ({"flow": np.zeros((4, 1, 2, 8, 8), np.float32)}, "expected float32 \\(5, any, 2, any, any\\)"),
        ({"flow": np.zeros((5, 1, 2, 8, 8), np.int64)}, "flow is int64; floats"),
        ({"flow": np.full((5, 1, 2, 8, 8), np.nan, np.float32)}, "not finite"),
    ],
)
def test_wrong_arrays_are_one_sentence(predictor, records, changes, words):
    with pytest.raises(InputError, match=words) as caught:
        predictor.predict([arrays(records[0], **changes)])
    assert f"Clip '{records[0]['clip_id']}'" in str(caught.value)


def test_log_mel_in_place_of_samples(predictor, records):
    clip = arrays(records[0])
    prepared = predictor.prepare(clip)
    found = predictor.predict([arrays(records[0], audio=None, log_mel=prepared["log_mel"].numpy())])[0]
    np.testing.assert_array_equal(found.sem_seg, predictor.predict([clip])[0].sem_seg)


def test_a_predictor_comes_from_a_folder(predictor, records, tmp_path):
    folder = predictor.model.save_pretrained(tmp_path / "m")
    again = Predictor.from_pretrained(folder, device="cpu")
    clip = arrays(records[0])
    np.testing.assert_array_equal(again.predict([clip])[0].sem_seg, predictor.predict([clip])[0].sem_seg)
