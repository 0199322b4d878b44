"""The weights that come with the package: they load, have their own threshold, and silence empties their masks."""

import numpy as np
import pytest

from ska_vct import Predictor
from ska_vct.checkpoint.fetch.packages import DEFAULT_WEIGHTS
from ska_vct.cli import predict


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_pretrained(device="cpu")


def test_hardly_a_pixel_of_noise_is_segmented_in_silence(predictor):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    flow = rng.standard_normal((2, 10, 2, 24, 24)).astype(np.float32)
    found = predictor(frames, audio=(np.zeros(32000), 16000), flow=flow)
    assert found.labels.shape == (2, 64, 64) and found.labels.mean() < 0.01
    assert not found.sem_seg.argmax(1).any()
    assert np.isfinite(found.sem_seg).all()


def test_the_command_uses_them():
    assert predict.build_parser("x").parse_args(["--out", "a", "b.mp4"]).weights == DEFAULT_WEIGHTS


def test_their_config_names_no_file_of_another_machine(predictor):
    text = predictor.cfg.dump()
    assert "/tmp" not in text and "/root" not in text and "/work" not in text


def test_their_masks_are_made_by_their_own_threshold(predictor):
    assert predictor.cfg.TEST.THRESHOLD == 0.4
