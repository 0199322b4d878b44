"""Flow as training sees it: warped as the images are, computed on the fly, without the camera's motion."""

import math

import cv2
import numpy as np
import pytest
from PIL import Image

from ska_vct.config import get_cfg
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.flow.camera import remove_camera_motion
from ska_vct.data.flow.online import build_mapper
from ska_vct.data.flow.store import FlowRecord, read_flow, write_flow
from ska_vct.structures.clip import ClipError
from ska_vct.synth import SynthSettings, generate

HEIGHT, WIDTH = 96, 128


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.INPUT.SIZE = (64, 64)
    cfg.INPUT.EVAL_SIZE = (32, 32)
    cfg.INPUT.FLOW.SIZE = (16, 16)
    return cfg


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    settings = SynthSettings(
        subset="ms3", train=2, val=0, test=0, size=48, series=4, flow_size=8, scenes={"camera": 1.0}, seed=2
    )
    generate(root, settings, jobs=1, progress=False)
    return root


def picture(points: np.ndarray) -> np.ndarray:
    """A smooth image, uint8, defined at every point (..., 2) of the plane, so motion needs no resampling."""
    x, y = points[..., 0], points[..., 1]
    waves = [np.sin(0.21 * x + 0.1 * y), np.cos(0.16 * y - 0.17 * x), np.sin(0.2 * y + 0.05 * x + 1)]
    return np.clip(128 + 100 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


ZOOM, PAN = np.array([[0.05, 0.02], [-0.03, 0.04]]), np.array([2.5, -2.0])


def since_last(points: np.ndarray) -> np.ndarray:
    """How what is at a point now has moved since the last frame: zoom, shear and pan."""
    return points @ ZOOM.T + PAN


def next_place(points: np.ndarray) -> np.ndarray:
    """Where what is at a point will be in the next frame: q with q - since_last(q) = p."""
    return (points + PAN) @ np.linalg.inv(np.eye(2) - ZOOM).T


def centres(height: int, width: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)


def moving_clip(release) -> dict:
    """A clip on disk of five frames, each since the last as ``since_last`` says, with that flow in the store."""
    release.write_ms3(names=("a",), splits=("train",))
    (record,) = load_records("ms3", "train", release.root)
    points, frames = centres(HEIGHT, WIDTH), []
    for path in reversed(record["image_paths"]):
        frames.append(picture(points))
        Image.fromarray(frames[-1]).save(path)
        points = next_place(points)
    for path in record["mask_paths"]:
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path)
    field = since_last(centres(HEIGHT, WIDTH)).transpose(2, 0, 1).astype(np.float16)
    meta = {
        "method": "truth", "weights": "", "fps": 1.0, "time_step": 1.0, "height": HEIGHT, "width": WIDTH,
        "clip_id": record["clip_id"], "source": "frames",
    }  # fmt: skip
    write_flow(record["flow_path"], FlowRecord(flow=np.stack([field] * 5)[:, None], meta=meta))
    return record


def test_warping_the_augmented_previous_frame_by_the_augmented_flow_gives_the_augmented_frame(release, cfg):
    """Through the whole mapper, with its own draws of size, crop and flip.

    Frame 4 has exact flow at its own pixels: the last frame is drawn first, each earlier one by moving points.
    """
    record = moving_clip(release)
    cfg.INPUT.COLOR_AUG_SSD = False
    cfg.INPUT.SCALES = [0.8, 1.0, 1.5, 2.0]
    cfg.INPUT.FLOW.SIZE = cfg.INPUT.SIZE
    cfg.INPUT.FLOW.NORM = "diagonal"
    mapper = ClipMapper(cfg, is_train=True)
    grid = (centres(64, 64) - 0.5).astype(np.float32)
    errors, without, mirrored, flips = [], [], [], 0
    for _ in range(24):
        clip = mapper(record)
        before, now = (clip["images"][k].numpy().transpose(1, 2, 0).astype(np.float32) for k in (3, 4))
        flow = clip["flow"][4, 0].numpy() * cfg.INPUT.FLOW.DIAGONAL_SHARE * math.hypot(64, 64)
        content = (clip["masks"][4] != 255).numpy()
        inside = cv2.erode(content.astype(np.uint8), np.ones((13, 13)), borderValue=0).astype(bool)
        for sign, found in ((1, errors), (-1, mirrored)):
            places = grid - np.stack([sign * flow[0], flow[1]], axis=-1)
            warped = cv2.remap(before, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            found.append(np.abs(warped - now)[inside].mean())
        without.append(np.abs(before - now)[inside].mean())
        flips += bool(flow[0][inside].mean() < 0)
    assert 3 < flips < 21
    # Two interpolations and float16; a wrong sign of u, or no flow, is many times as far off.
    assert max(errors) < 4 and np.mean(errors) < 2
    assert np.mean(without) > 10 * np.mean(errors) and np.mean(mirrored) > 10 * np.mean(errors)


def test_flow_on_the_fly_is_kept_for_the_next_epoch(root, tmp_path, cfg, monkeypatch):
    records = load_records("ms3", "train", root, flow_root=tmp_path)
    cfg.INPUT.FLOW.SERIES = 4
    with pytest.raises(ClipError, match="INPUT.FLOW.ONLINE"):
        build_mapper(cfg, is_train=False)(records[0])
    cfg.INPUT.FLOW.ONLINE = True
    mapper = build_mapper(cfg, is_train=False)
    first = [mapper(record)["flow"] for record in records]
    files = sorted(tmp_path.rglob("*"))
    assert len([path for path in files if path.is_file()]) == 2
    stored = read_flow(records[0]["flow_path"], clip_id=records[0]["clip_id"], num_frames=5)
    assert stored.flow.shape == (5, 4, 2, 48, 48) and stored.meta["source"] == "video"
    assert stored.meta["request"]["method"] == "dis"
    assert np.array_equal(build_mapper(cfg, is_train=False).load_flow(records[0]), first[0])
    # The second epoch computes nothing.
    monkeypatch.setattr("ska_vct.data.flow.online.compute_and_keep", None)
    for record, flow in zip(records, first, strict=True):
        assert np.array_equal(mapper(record)["flow"], flow) and flow.abs().max() > 0


def test_the_mapper_itself_only_reads(root, tmp_path, cfg):
    cfg.INPUT.FLOW.ONLINE = True
    record = load_records("ms3", "train", root, flow_root=tmp_path)[0]
    with pytest.raises(ClipError, match="There is no flow file"):
        ClipMapper(cfg, is_train=False)(record)
    assert list(tmp_path.iterdir()) == []
    cfg.MODEL.SKA.ENABLED = False
    assert "flow" not in build_mapper(cfg, is_train=False)(record) and list(tmp_path.iterdir()) == []


def test_flow_on_the_fly_says_what_stops_it(root, tmp_path, cfg):
    cfg.INPUT.FLOW.ONLINE = True
    (tmp_path / "file").write_text("in the way")
    record = load_records("ms3", "train", root, flow_root=tmp_path / "file")[0]
    with pytest.raises(ClipError, match=r"train/.*cannot be written.*INPUT\.FLOW\.ROOT"):
        build_mapper(cfg, is_train=False)(record)
    record = {**load_records("ms3", "train", root, flow_root=tmp_path / "out")[0], "video_path": None}
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "odd.png")
    wrong = {**record, "image_paths": [*record["image_paths"][:4], str(tmp_path / "odd.png")]}
    cfg.INPUT.ONLY_ANNOTATED = False
    with pytest.raises(ClipError, match=r"odd\.png is 20 x 20"):
        build_mapper(cfg, is_train=False)(wrong)
    assert not (tmp_path / "out").exists()


def test_camera_motion_is_taken_out_before_the_geometry(root, tmp_path, cfg):
    cfg.INPUT.FLOW.ONLINE, cfg.INPUT.FLOW.SERIES, cfg.INPUT.FLOW.NORM = True, 4, "diagonal"
    record = load_records("ms3", "train", root, flow_root=tmp_path)[0]
    whole = build_mapper(cfg, is_train=False)(record)["flow"].numpy()
    cfg.INPUT.FLOW.CAMERA = "affine"
    without = build_mapper(cfg, is_train=False)(record)["flow"].numpy()
    stored = read_flow(record["flow_path"])
    share = 64 / 48 / (cfg.INPUT.FLOW.DIAGONAL_SHARE * math.hypot(64, 64))
    expected = remove_camera_motion(stored.flow).reshape(5, 4, 2, 16, 3, 16, 3).mean(axis=(4, 6)) * share
    np.testing.assert_allclose(without, expected, atol=1e-4)
    assert np.median(np.abs(without)) < 0.5 * np.median(np.abs(whole))


@pytest.mark.parametrize(("key", "value"), [("CAMERA", "pan"), ("METHOD", "raft_large")])
def test_unknown_choices_name_the_key(cfg, key, value):
    cfg.INPUT.FLOW[key] = value
    with pytest.raises(ValueError, match=f"INPUT.FLOW.{key} is '{value}'"):
        build_mapper(cfg, is_train=True)
