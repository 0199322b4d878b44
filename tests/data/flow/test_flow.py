"""The flow store keeps what it is given, refuses what it cannot vouch for; DIS finds motions that we put there."""

import json

import cv2
import numpy as np
import pytest

from ska_vct.data.flow.methods.base import (
    DisFlow,
    dis_flow,
    field_pairs,
    flow_series,
    frame_pairs,
    pair_flow,
)
from ska_vct.data.flow.store import (
    SHARE_OF_FRAME_MAXIMUM,
    FlowError,
    FlowRecord,
    flow_path,
    middle_fields,
    normalize_flow,
    read_flow,
    regroup_series,
    write_flow,
)

META = {
    "method": "dis", "weights": "", "fps": 10.0, "time_step": 0.1, "height": 96, "width": 128,
    "clip_id": "test/dog/a.b", "source": "video",
}  # fmt: skip


def make_record(num_frames: int = 5, **meta) -> FlowRecord:
    flow = np.random.default_rng(0).normal(0, 20, (num_frames, 10, 2, 6, 8)).astype(np.float16)
    return FlowRecord(flow=flow, meta={**META, **meta})


def texture(height: int, width: int) -> np.ndarray:
    """An image with detail everywhere, uint8 (H, W)."""
    coarse = np.random.default_rng(1).integers(0, 255, (height // 4 + 1, width // 4 + 1), dtype=np.uint8)
    return cv2.resize(coarse, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)[:height, :width]


# ---------------------------------------------------------------------------------------------------- store


def test_round_trip_keeps_every_bit_and_key(tmp_path):
    record, path = make_record(), tmp_path / "deep" / "a.b.npz"
    write_flow(path, record)
    back = read_flow(path, clip_id="test/dog/a.b", num_frames=5)
    np.testing.assert_array_equal(back.flow, record.flow)
    assert back.flow.dtype == np.float16
    assert back.meta == {**META, "version": 1}
    assert [file.name for file in path.parent.iterdir()] == ["a.b.npz"]  # no temporary file left


def test_equal_records_give_equal_bytes(tmp_path):
    for name in ("one.npz", "two.npz"):
        write_flow(tmp_path / name, make_record())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_paths_follow_the_documented_tree():
    assert str(flow_path("r", "s4", "val", "x.y", "dog")) == "r/s4/val/dog/x.y.npz"
    assert str(flow_path("r", "ms3", "val", "x")) == "r/ms3/val/x.npz"
    assert str(flow_path("r", "avss", "val", "u", label="v2")) == "r/avss/v2/u.npz"
    with pytest.raises(ValueError, match="'u'"):
        flow_path("r", "avss", "val", "u")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [({"clip_id": "test/cat/other"}, "belongs to clip 'test/dog/a.b'"), ({"num_frames": 10}, "5 frames")],
)
def test_flow_of_another_clip_is_refused(tmp_path, wanted, message):
    path = tmp_path / "a.npz"
    write_flow(path, make_record())
    with pytest.raises(FlowError, match=message) as caught:
        read_flow(path, **wanted)
    assert "a.npz" in str(caught.value)


def test_missing_flow_names_both_places(tmp_path):
    with pytest.raises(FlowError, match=r"a\.npz.*flow_0000\.npy.*INPUT\.FLOW\.MISSING"):
        read_flow(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"flow": np.zeros((5, 2, 4, 4), np.float16)},
        {"flow": np.zeros((5, 1, 3, 4, 4), np.float16)},
        {"flow": np.zeros((5, 1, 2, 4, 4), np.float32)},
        {"flow": np.full((5, 1, 2, 4, 4), np.nan, np.float16)},
        {"meta": np.array("[]")},
        {"meta": np.array("{")},
        {"meta": np.array(json.dumps({**META, "version": 99}))},
        {"meta": np.array(json.dumps({"version": 1, "method": "dis"}))},
        {"meta": np.array(json.dumps({**META, "version": 1, "fps": 0}))},
        {"meta": np.array([{"a": 1}], dtype=object)},
    ],
)
def test_damaged_files_are_one_sentence(tmp_path, arrays):
    path = tmp_path / "bad.npz"
    good = {"flow": make_record().flow, "meta": np.array(json.dumps({**META, "version": 1}))}
    np.savez(path, **{**good, **arrays})
    with pytest.raises(FlowError, match=r"bad\.npz"):
        read_flow(path)


def test_truncated_file_is_one_sentence(tmp_path):
    path = tmp_path / "a.npz"
    write_flow(path, make_record())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FlowError, match=r"a\.npz cannot be read"):
        read_flow(path)


def test_what_float16_cannot_hold_is_not_written(tmp_path):
    flow = np.full((1, 1, 2, 4, 4), 1e6, np.float32)
    with np.errstate(over="ignore"), pytest.raises(FlowError, match="not finite"):
        write_flow(tmp_path / "a.npz", FlowRecord(flow=flow.astype(np.float16), meta=META))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------- published layout


def write_published(folder, num_frames=3):
    folder.mkdir(parents=True)
    fields = np.random.default_rng(2).random((num_frames, 12, 16)).astype(np.float32)
    fields[0] = 0
    for index, field in enumerate(fields):
        np.save(folder / f"flow_{index:04d}.npy", field)
    return fields


def test_published_layout_is_magnitude_without_direction(tmp_path):
    fields = write_published(tmp_path / "x.mp4")
    record = read_flow(tmp_path / "x.mp4.npz", clip_id="test/x.mp4", num_frames=3)
    assert record.flow.shape == (3, 1, 2, 12, 16)
    np.testing.assert_array_equal(record.flow[:, 0, 0], fields.astype(np.float16))
    assert not record.flow[:, :, 1].any()
    assert record.meta["method"] == "published"
    assert record.meta["units"] == SHARE_OF_FRAME_MAXIMUM
    assert (record.meta["height"], record.meta["width"]) == (12, 16)


def test_our_file_wins_over_the_published_folder(tmp_path):
    write_published(tmp_path / "x")
    write_flow(tmp_path / "x.npz", make_record())
    assert read_flow(tmp_path / "x.npz").meta["method"] == "dis"


def test_published_faults_name_the_file(tmp_path):
    folder = tmp_path / "x"
    write_published(folder)
    with pytest.raises(FlowError, match="3 frames"):
        read_flow(tmp_path / "x.npz", num_frames=5)
    np.save(folder / "flow_0002.npy", np.zeros((3, 3), np.float32))
    with pytest.raises(FlowError, match=r"flow_0002\.npy"):
        read_flow(tmp_path / "x.npz")
    (folder / "flow_0001.npy").unlink()
    with pytest.raises(FlowError, match="without gaps"):
        read_flow(tmp_path / "x.npz")


# ------------------------------------------------------------------------------------------- normalisation


def hand_flow() -> np.ndarray:
    """Two frames of two fields: magnitudes 5 and 10 in frame 0; 2.5 and 0 in frame 1."""
    flow = np.zeros((2, 2, 2, 1, 2), np.float32)
    flow[0, 0, :, 0, 0] = (3, 4)
    flow[0, 1, :, 0, 1] = (-6, 8)
    flow[1, 0, :, 0, 0] = (1.5, -2)
    return flow


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("frame", [(0.3, 0.4), (-0.6, 0.8), (0.6, -0.8)]),  # / 10, / 10, / 2.5
        ("clip", [(0.3, 0.4), (-0.6, 0.8), (0.15, -0.2)]),  # / 10 everywhere
        ("diagonal", [(0.3, 0.4), (-0.6, 0.8), (0.15, -0.2)]),  # 0.2 * hypot(30, 40) = 10
    ],
)
def test_normalisation_by_hand(norm, expected):
    out = normalize_flow(hand_flow(), norm=norm, image_size=(30, 40), diagonal_share=0.2)
    assert out.dtype == np.float32
    found = [out[0, 0, :, 0, 0], out[0, 1, :, 0, 1], out[1, 0, :, 0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.count_nonzero(out) == 6


@pytest.mark.parametrize("norm", ["frame", "clip", "diagonal"])
def test_a_still_clip_stays_exactly_zero(norm):
    out = normalize_flow(np.zeros((2, 3, 2, 4, 4), np.float32), norm=norm, image_size=(9, 9), diagonal_share=0.25)
    assert not out.any() and np.isfinite(out).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "max"}, "frame, clip, diagonal"),
        ({"norm": "diagonal", "diagonal_share": 0.0}, "DIAGONAL_SHARE"),
        ({"norm": "diagonal", "units": SHARE_OF_FRAME_MAXIMUM}, "no physical scale"),
    ],
)
def test_impossible_normalisations_are_refused(changed, message):
    options = {"norm": "frame", "image_size": (9, 9), "diagonal_share": 0.25, **changed}
    with pytest.raises(FlowError, match=message):
        normalize_flow(hand_flow(), **options)


# -------------------------------------------------------------------------------------------------- series


def test_series_are_averaged_in_groups_or_repeated():
    flow = make_record().flow.astype(np.float32)
    groups = flow.reshape(5, 5, 2, 2, 6, 8).mean(axis=2)
    np.testing.assert_allclose(regroup_series(flow, 5), groups, rtol=1e-5, atol=1e-5)  # float32 sums of two
    np.testing.assert_allclose(regroup_series(flow, 1)[:, 0], flow.mean(axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(regroup_series(flow, 20), np.repeat(flow, 2, axis=1))
    assert regroup_series(flow, 10) is flow


def test_series_that_do_not_divide_share_by_overlap():
    flow = np.array([3.0, 6.0], np.float32).reshape(1, 2, 1, 1, 1) * np.ones((1, 1, 2, 1, 1), np.float32)
    # Thirds of the second: all of field 0; half of each; all of field 1.
    np.testing.assert_allclose(regroup_series(flow, 3)[0, :, 0, 0, 0], [3.0, 4.5, 6.0], rtol=1e-6)
    with pytest.raises(FlowError, match=r"INPUT\.FLOW\.SERIES"):
        regroup_series(flow, 0)


# ----------------------------------------------------------------------------------------------------- DIS


def test_dis_recovers_a_known_translation():
    picture = texture(80, 100)
    before, after = picture[8:72, 8:88].copy(), picture[7:71, 6:86].copy()  # the content moves 2 right, 1 down
    flow = dis_flow(before, after)
    assert flow.shape == (2, 64, 80) and flow.dtype == np.float32
    # Away from the border, where content comes in that the first image lacks.
    np.testing.assert_allclose(flow[0, 8:-8, 8:-8], 2.0, atol=0.1)
    np.testing.assert_allclose(flow[1, 8:-8, 8:-8], 1.0, atol=0.1)


def test_series_has_direction_and_physical_units():
    picture = texture(64, 160)
    # 20 images per second; the window moves right 1 px per image in second 0 and back in second 1.
    starts = [*range(0, 20), *range(20, 0, -1)]
    frames = np.stack([np.repeat(picture[:, 40 + s : 104 + s, None], 3, axis=2) for s in starts])
    flow = flow_series(frames, fps=20, num_seconds=2, series=4, size=(8, 8))
    assert flow.shape == (2, 4, 2, 8, 8)
    inner = flow[:, :, :, 2:-2, 2:-2]
    # The content goes against the window: -20 px/s, then +20 px/s.
    np.testing.assert_allclose(inner[0, :, 0], -20, atol=1)
    np.testing.assert_allclose(inner[1, :, 0], 20, atol=1)
    np.testing.assert_allclose(inner[:, :, 1], 0, atol=1)


def test_fields_lie_about_their_times():
    # 10 per second at 10 images per second: each image with the next; the clip's last has none.
    assert field_pairs(50, fps=10, num_seconds=5, series=10).tolist() == [*range(49), 48]
    # 2 per second, middles at 0.25 and 0.75 s: between images 2 and 3 (0.2, 0.3 s), 7 and 8.
    assert field_pairs(20, fps=10, num_seconds=2, series=2).tolist() == [2, 7, 12, 17]
    # One per second lies at the sampled frame, 15/16 s, between images 23 and 24 of 25 (0.92, 0.96 s).
    assert field_pairs(50, fps=25, num_seconds=2, series=1).tolist() == [23, 48]


def test_pictures_use_the_motion_since_the_one_before():
    picture = texture(64, 100)
    frames = np.stack([np.repeat(picture[:, s : s + 64, None], 3, axis=2) for s in (10, 8, 9)])
    flow = pair_flow(frame_pairs(frames), DisFlow(), size=(8, 8))
    assert flow.shape == (3, 1, 2, 8, 8)
    # Moves 2 right, then 1 left; the first frame has its forward flow.
    for index, expected in enumerate((2, 2, -1)):
        np.testing.assert_allclose(flow[index, 0, 0, 2:-2, 2:-2], expected, atol=0.1)


def test_unusable_pictures_are_refused(tmp_path):
    with pytest.raises(FlowError, match="at least two images"):
        flow_series(np.zeros((1, 64, 64, 3), np.uint8), fps=10, num_seconds=1, series=1, size=(4, 4))
    with pytest.raises(FlowError, match=r"\(8, 8\)"):
        dis_flow(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8))


def test_middle_fields_are_the_stored_ones_at_the_middle_of_each_share():
    flow = np.arange(10, dtype=np.float32).reshape(1, 10, 1, 1, 1)
    for series, wanted in ((1, [5]), (2, [2, 7]), (5, [1, 3, 5, 7, 9]), (10, list(range(10)))):
        assert middle_fields(flow, series)[0, :, 0, 0, 0].tolist() == wanted
    assert middle_fields(flow[:, :1], 3).flatten().tolist() == [0, 0, 0]
    with pytest.raises(FlowError, match="INPUT.FLOW.SERIES is 0"):
        middle_fields(flow, 0)
