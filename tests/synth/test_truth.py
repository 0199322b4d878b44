"""What is known of every object, held against the released files and against the object's own speed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ska_vct.data.catalog import load_records
from ska_vct.synth import SynthSettings, generate
from ska_vct.synth.truth import TruthError, has_objects, read_objects, truth_path

SMALL = {"train": 0, "val": 0, "size": 48, "series": 5, "flow_size": 12}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("synth")
    scenes = {"twin": 1.0, "mover": 1.0, "plain": 1.0}
    generate(root, SynthSettings(subset="ms3", test=6, scenes=scenes, rest=1.0, **SMALL), jobs=1, progress=False)
    generate(root, SynthSettings(subset="s4", test=1, **SMALL), jobs=1, progress=False)
    generate(root, SynthSettings(subset="avss", test=3, seconds=5, **SMALL), jobs=1, progress=False)
    return root


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_what_sounds_is_the_released_ground_truth(release, subset):
    for record in load_records(subset, "test", release):
        assert has_objects(release, record)
        truth = read_objects(release, record)
        for frame, path in enumerate(record["mask_paths"]):
            sounding = [k + 1 for k in np.flatnonzero(truth.sounding[frame])]
            np.testing.assert_array_equal(
                np.isin(truth.labels[frame], sounding), np.array(Image.open(path)) > 0, err_msg=str(path)
            )


def test_labels_number_the_objects_and_the_rest_is_background(release):
    for record in load_records("ms3", "test", release):
        truth = read_objects(release, record)
        assert truth.labels.dtype == np.uint8
        assert truth.masks.sum(axis=1).max() == 1  # no pixel belongs to two
        for k in range(len(truth.roles)):
            np.testing.assert_array_equal(truth.labels == k + 1, truth.masks[:, k])


def test_what_is_called_moving_moves_and_the_rest_stands_still(release):
    resting = 0
    for record in load_records("ms3", "test", release):
        truth = read_objects(release, record)
        with np.load(truth_path(release, "ms3", "test", record["name"])) as arrays:
            fastest = arrays["speed"].max(axis=1)
        assert (fastest[truth.moving] > 0.5).all()
        for k, role in enumerate(truth.roles):
            if role in ("twin", "still"):
                assert not fastest[:, k].any() and not truth.moving[:, k].any()
            if role == "mover":
                assert not truth.sounding[:, k].any()
                # One or two seconds of rest, and no speed in them.
                assert 1 <= (~truth.moving[:, k]).sum() <= 2
                assert not fastest[~truth.moving[:, k], k].any()
            if role == "sounding":
                np.testing.assert_array_equal(truth.moving[:, k], truth.sounding[:, k])
                resting += int((~truth.sounding[:, k]).sum())
                assert not fastest[~truth.sounding[:, k], k].any()
    assert resting > 0  # else the case was not tested


def test_errors_name_the_file(release, tmp_path):
    record = load_records("ms3", "test", release)[0]
    assert not has_objects(tmp_path, record)
    with pytest.raises(TruthError, match=f"{record['name']}.npz"):
        read_objects(tmp_path, record)
    path = truth_path(tmp_path, "ms3", "test", record["name"])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK damaged")
    with pytest.raises(TruthError, match="cannot be read"):
        read_objects(tmp_path, record)
    shutil.copy(truth_path(release, "ms3", "test", load_records("ms3", "test", release)[1]["name"]), path)
    with pytest.raises(TruthError, match="objects of clip"):
        read_objects(tmp_path, record)
