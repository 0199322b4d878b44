"""Camera compensation takes out what most of the image does, and nothing of what an object does of itself."""

import numpy as np
import pytest

from ska_vct.data.flow.camera import compensate_camera, remove_camera_motion
from ska_vct.data.flow.store import SHARE_OF_FRAME_MAXIMUM, FlowError


def affine_field(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Pan, zoom, rotation and shear of about 20 px/s, (2, h, w)."""
    y, x = np.meshgrid(*[(np.arange(n) + 0.5) / n * 2 - 1 for n in size], indexing="ij")
    motion = rng.normal(0, 15, (2, 3))
    return np.stack([a * x + b * y + c for a, b, c in motion])


@pytest.mark.parametrize("size", [(48, 48), (24, 24), (30, 50)])
def test_an_object_keeps_its_own_motion(size):
    """Objects of up to a quarter of the image, at the same time slower and faster than the camera."""
    rng = np.random.default_rng(0)
    camera = np.stack([affine_field(rng, size) for _ in range(40)])
    own = np.zeros_like(camera)
    for field in own:
        height, width = (int(n * rng.uniform(0.2, 0.5)) for n in size)
        top, left = rng.integers(0, size[0] - height), rng.integers(0, size[1] - width)
        field[:, top : top + height, left : left + width] = rng.normal(0, 20, (2, 1, 1))
    noise = rng.normal(0, 0.1, camera.shape)
    found = remove_camera_motion((camera + own + noise).reshape(8, 5, 2, *size))
    assert found.shape == (8, 5, 2, *size) and found.dtype == np.float32
    error = np.abs(found.reshape(own.shape) - own - noise)
    # Least squares without robustness is off by several px/s here.
    assert error.max() < 1.0 and error.mean() < 0.1


def test_a_still_camera_changes_nothing():
    flow = np.zeros((1, 2, 2, 24, 24), np.float32)
    assert not remove_camera_motion(flow).any()
    flow[0, 0, 0, 5:12, 6:11] = 30.0
    np.testing.assert_allclose(remove_camera_motion(flow), flow, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2)])
def test_fields_too_small_to_tell_are_all_camera(size):
    found = remove_camera_motion(np.full((1, 1, 2, *size), 4.0))
    np.testing.assert_allclose(found, 0, atol=1e-3)


def test_pure_camera_motion_vanishes():
    field = affine_field(np.random.default_rng(1), (32, 32))
    np.testing.assert_allclose(remove_camera_motion(field), 0, atol=1e-3)


def test_noise_of_a_still_camera_stays_if_softly_and_a_moving_camera_goes():
    """Fits to noise are left in, with what they would take from an object that hardly moves."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.2, (20, 2, 24, 24)).astype(np.float32)
    weak = noise.copy()
    weak[:, 0, 4:14, 4:14] += 1.0
    taken, left = (np.abs(remove_camera_motion(weak, soft=soft) - weak).mean() for soft in (False, True))
    assert left < taken / 3
    camera = np.stack([affine_field(rng, (24, 24)) for _ in range(20)]).astype(np.float32)
    np.testing.assert_allclose(remove_camera_motion(weak + camera, soft=True), weak, atol=0.5)
    assert not remove_camera_motion(np.zeros((1, 2, 8, 8)), soft=True).any()


def test_choices():
    flow = np.ones((1, 1, 2, 8, 8), np.float16)
    assert compensate_camera(flow, "none") is flow
    assert not np.abs(compensate_camera(flow, "affine")).max() > 1e-5
    assert not np.abs(compensate_camera(flow, "affine_soft")).max() > 1e-5
    with pytest.raises(FlowError, match="none, affine"):
        compensate_camera(flow, "pan")
    with pytest.raises(FlowError, match="keep no direction"):
        compensate_camera(flow, "affine", units=SHARE_OF_FRAME_MAXIMUM)
