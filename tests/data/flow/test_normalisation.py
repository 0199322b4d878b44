"""Flow is brought to its unit over the whole image, whatever part of it a crop shows."""

import dataclasses

import numpy as np
import pytest

from ska_vct.config import get_cfg
from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.clip_mapper import ClipMapper, prepare_flow
from ska_vct.data.flow.store import FlowRecord


def stored_flow() -> FlowRecord:
    """An object in the left half moves 8 px/s to the right; 0.01 px/s of noise everywhere."""
    flow = np.random.default_rng(0).normal(0, 0.01, (2, 4, 2, 48, 48))
    flow[:, :, 0, 10:30, 4:16] += 8
    meta = {"height": 96, "width": 96, "units": "pixels per second"}
    return FlowRecord(flow=flow.astype(np.float16), meta=meta)


@pytest.mark.parametrize("norm", ["frame", "clip", "diagonal"])
def test_a_crop_without_what_moves_stays_dark(norm):
    options = dataclasses.replace(ClipMapper.from_config(get_cfg())["flow"], norm=norm, series=4)
    right = ClipGeometry(resized=(96, 96), offset=(0, 48), size=(48, 48))
    flow = prepare_flow(stored_flow(), options, rows=np.arange(2), geometry=right)
    assert np.hypot(flow[:, :, 0], flow[:, :, 1]).max() < 0.01
    left = ClipGeometry(resized=(96, 96), offset=(0, 0), size=(48, 48), flip=True)
    flow = prepare_flow(stored_flow(), options, rows=np.array([1]), geometry=left)
    assert flow.shape == (1, 4, 2, 24, 24)
    if norm != "diagonal":
        # The fastest cell of the whole image is 1; flipped it moves to the left.
        assert flow[:, :, 0].min() == pytest.approx(-1, abs=0.01)


def test_a_stretch_changes_directions_before_the_maximum_is_taken():
    options = dataclasses.replace(ClipMapper.from_config(get_cfg())["flow"], norm="frame", series=4)
    wide = ClipGeometry.resize((96, 192))
    flow = prepare_flow(stored_flow(), options, rows=np.arange(2), geometry=wide)
    assert flow[:, :, 0].max() == pytest.approx(1, abs=0.01)
