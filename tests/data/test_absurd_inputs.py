"""Numbers that no sound and no motion has are refused by the file's name, also where a conversion makes them."""

import json
from pathlib import Path

import numpy as np
import pytest

from ska_vct.data.audio.log_mel_files import read_log_mel_npy
from ska_vct.data.flow.store import FlowError, read_flow
from ska_vct.utils.media.errors import AudioError
from tests.faults.readers import META


def flow_file(path: Path, *, version: int, **arrays: np.ndarray) -> Path:
    np.savez(path, meta=np.array(json.dumps({**META, "version": version})), **arrays)
    return path


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (65504.0, "speed of 65504"),
        (-65504.0, "speed of 65504"),
        (30000.0, "speed of 30000"),
        (np.inf, "not finite"),
    ],
)
def test_flow_at_the_end_of_its_type_is_refused(tmp_path, value, words):
    flow = np.zeros((1, 1, 2, 3, 4), np.float16)
    assert (read_flow(flow_file(tmp_path / "still.npz", version=1, flow=flow)).flow == 0).all()
    flow[0, 0, 1, 2, 3] = value
    path = flow_file(tmp_path / "x.npz", version=1, flow=flow)
    with pytest.raises(FlowError, match=words) as caught:
        read_flow(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("scale", "words"), [(600.0, "not finite"), (515.77, "speed of"), (np.inf, "not finite")])
def test_flow_that_leaves_its_type_in_the_conversion_is_refused(tmp_path, scale, words):
    """Whole numbers times a scale: 127 x 515.77 is 65503, 127 x 600 is infinite in float16."""
    steps = np.full((1, 1, 2, 3, 4), 127, np.int8)
    path = flow_file(tmp_path / "x.npz", version=2, flow=steps, scale=np.full((1, 1), scale, np.float32))
    with pytest.raises(FlowError, match=words) as caught:
        read_flow(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", [50.0, -60.0, 1e39, np.nan, -np.inf])
def test_log_mels_of_no_sound_are_refused(tmp_path, value):
    patches = np.full((2, 1, 96, 64), -4.0)
    path = tmp_path / "x.npy"
    np.save(path, patches)
    assert read_log_mel_npy(path).dtype == np.float32
    patches[1, 0, 5, 5] = value
    np.save(path, patches)
    with pytest.raises(AudioError) as caught:
        read_log_mel_npy(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
