"""Images about each sampled moment, from videos good and bad and from frames; what is said without any."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from ska_vct.data.flow.frame_pairs import SingleImageError, read_pairs, read_video_pairs
from ska_vct.data.flow.methods.base import DisFlow, field_times, flow_series, pair_flow
from ska_vct.data.flow.store import FlowError


def texture(height: int, width: int, seed: int = 1) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 4 + 1, width // 4 + 1), dtype=np.uint8)
    fine = cv2.resize(coarse, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)[:height, :width]
    return np.repeat(fine[:, :, None], 3, axis=2)


def sliding(count: int, speed: int = 1, side: int = 64) -> np.ndarray:
    """Images whose content moves ``speed`` pixels to the left from one to the next."""
    wide = texture(side, side + count * speed)
    return np.stack([wide[:, n * speed : n * speed + side] for n in range(count)])


def write_video(path, frames: np.ndarray, *, fps: int = 10, times=None) -> str:
    """Without loss; ``times`` in ticks of 1 / 1000 s for a rate that varies."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for n, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[n], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def make_record(tmp_path, frames: np.ndarray, video: str | None = None) -> dict:
    paths = []
    for n, image in enumerate(frames):
        paths.append(str(tmp_path / f"x_{n}.png"))
        Image.fromarray(image).save(paths[-1])
    return {"clip_id": "test/x", "image_paths": paths, "video_path": video}


@pytest.mark.parametrize(("fps", "series"), [(10, 10), (25, 10), (30, 4), (8, 1), (5, 10)])
def test_a_video_decoded_in_parts_gives_the_flow_of_the_whole(tmp_path, fps, series):
    """The oracle holds all images in memory and finds pairs by their numbers."""
    path = write_video(tmp_path / "x.mkv", sliding(3 * fps), fps=fps)
    with av.open(path) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(frames) == 3 * fps
    whole = flow_series(frames, fps=fps, num_seconds=3, series=series, size=(8, 8))
    pairs, remark = read_pairs({**make_record(tmp_path, frames[:3]), "video_path": path}, series=series)
    assert pairs.shape == (3, series) and pairs.size == (64, 64) and pairs.source == "video" and not remark
    np.testing.assert_allclose(pair_flow(pairs, DisFlow(), (8, 8)), whole, atol=1e-3)
    assert len(pairs.images) <= 2 * 3 * series  # not more than is needed is kept


def test_speed_is_per_second_also_where_the_rate_varies(tmp_path):
    # Content moves 1 px per image; images lie 50 ms apart in the first second, 100 ms in the second.
    times = [*range(0, 1000, 50), *range(1000, 2001, 100)]
    path = write_video(tmp_path / "x.mkv", sliding(len(times)), fps=20, times=times)
    pairs = read_video_pairs(path, field_times(2, 2))
    np.testing.assert_allclose(pairs.steps, [0.05, 0.05, 0.1, 0.1], atol=1e-3)
    flow = pair_flow(pairs, DisFlow(), (8, 8))[0, :, 0, 2:-2, 2:-2]
    for found, expected in zip(flow, [-20, -20, -10, -10], strict=True):
        np.testing.assert_allclose(found, expected, atol=1.5)


def test_a_repeated_image_is_passed_over_but_stillness_is_not(tmp_path):
    # Every fourth image repeats the one before, as where 24 images per second were made 30.
    moving = sliding(24)
    repeated = np.stack([moving[n - n // 4 - (n % 4 == 3)] for n in range(30)])
    assert (repeated[3] == repeated[2]).all()
    path = write_video(tmp_path / "x.mkv", repeated, fps=10)
    flow = pair_flow(read_video_pairs(path, field_times(3, 10)), DisFlow(), (8, 8))[0, :-1, 0, 3:-3, 3:-3]
    # 1 px per 0.1 s, or in 0.2 s across a repeat; nowhere nothing.
    assert flow.mean(axis=(1, 2)).max() < -4
    still = write_video(tmp_path / "y.mkv", np.repeat(moving[:1], 20, axis=0), fps=10)
    pairs = read_video_pairs(still, field_times(2, 10))
    assert not pair_flow(pairs, DisFlow(), (8, 8)).any() and (pairs.steps > 0).all()


def test_a_black_video_has_no_motion(tmp_path):
    path = write_video(tmp_path / "x.mkv", np.zeros((20, 64, 64, 3), np.uint8))
    flow = pair_flow(read_video_pairs(path, field_times(2, 5)), DisFlow(), (8, 8))
    assert np.isfinite(flow).all() and not flow.any()


def test_large_images_are_shrunk_and_their_flow_is_the_originals(tmp_path):
    large = sliding(20, speed=4, side=128)
    path = write_video(tmp_path / "x.mkv", large, fps=10)
    record = {**make_record(tmp_path, large[:2]), "video_path": path}
    for source, per_second in (("video", -40), ("frames", -4)):
        pairs, _ = read_pairs(record, source=source, series=5, long_side=64)
        assert pairs.images.shape[1:3] == (64, 64) and pairs.size == (128, 128)
        flow = pair_flow(pairs, DisFlow(), (8, 8))[:, :, 0, 2:-2, 2:-2]
        np.testing.assert_allclose(flow, per_second, atol=0.05 * abs(per_second))


def test_auto_takes_the_frames_where_the_video_is_no_good(tmp_path):
    frames = sliding(4)
    short = write_video(tmp_path / "short.mkv", sliding(12), fps=10)
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    record = make_record(tmp_path, frames)
    cases = (
        (None, "has no raw video", ""),
        (short, r"ends after 1\.10 s, its clip after 3\.95 s", "short.mkv"),
        (str(tmp_path / "broken.mp4"), r"broken\.mp4 cannot be decoded", "broken.mp4"),
        (str(tmp_path / "gone.mp4"), r"gone\.mp4 cannot be decoded", "gone.mp4"),
    )
    for video, message, remark in cases:
        record["video_path"] = video
        pairs, found = read_pairs(record, source="auto")
        assert pairs.source == "frames" and pairs.shape == (4, 1)
        assert remark in found and bool(found) == bool(remark)
        with pytest.raises(FlowError, match=message):
            read_pairs(record, source="video")
    # A few images too few are not a fault: the last pair stands for what follows.
    record["video_path"] = write_video(tmp_path / "almost.mkv", sliding(35), fps=10)
    assert read_pairs(record, source="video")[0].second.max() == len(read_pairs(record)[0].images) - 1


def test_first_frame_has_forward_flow_and_others_the_motion_since_the_last(tmp_path):
    wide = texture(64, 100)
    record = make_record(tmp_path, np.stack([wide[:, s : s + 64] for s in (10, 8, 9)]))
    pairs, _ = read_pairs(record, source="frames")
    assert pairs.first.tolist() == [0, 1, 2] and pairs.second.tolist() == [1, 0, 1]
    flow = pair_flow(pairs, DisFlow(), (8, 8))[:, 0, 0, 2:-2, 2:-2]
    for found, expected in zip(flow, (2, 2, -1), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.1)


def test_frames_of_unequal_size_are_one_sentence(tmp_path):
    record = make_record(tmp_path, sliding(3))
    Image.fromarray(texture(32, 40)).save(record["image_paths"][1])
    with pytest.raises(FlowError, match=r"x_1\.png is 32 x 40, but the clip's first is 64 x 64"):
        read_pairs(record)
    (tmp_path / "x_1.png").write_bytes(b"")
    with pytest.raises(FlowError, match=r"x_1\.png is empty"):
        read_pairs(record)


def test_one_image_shows_no_motion(tmp_path):
    record = make_record(tmp_path, sliding(1))
    with pytest.raises(SingleImageError, match="test/x"):
        read_pairs(record)
    path = write_video(tmp_path / "one.mkv", sliding(1))
    with pytest.raises(SingleImageError, match=r"one\.mkv holds a single image"):
        read_video_pairs(path, field_times(1, 1))
    with pytest.raises(FlowError, match="auto, video, frames"):
        read_pairs(record, source="film")
