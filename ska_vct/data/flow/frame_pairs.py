"""The images that a clip's flow is computed from: its raw video at its own rate, or the released frames.

Shape legend
    T     sampled frames of the clip, one per second
    S     flow fields over a frame's second
    M     images that some field needs
    H, W  image, pixels
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import av
import cv2
import numpy as np

from ska_vct.data.flow.methods.base import ImagePairs, field_times, frame_pairs
from ska_vct.data.flow.names import SOURCES
from ska_vct.data.flow.store import FlowError
from ska_vct.data.images.io import ImageError, read_image
from ska_vct.utils.media.errors import VideoError
from ska_vct.utils.media.video import frame_size, open_media, upright_image, video_stream

# Seconds a video may end before the clip's last field: cuts are not exact, but whole seconds missing are a fault.
MAX_MISSING = 1.0
# Moments closer than this are the same: times are sums of fractions.
_SAME = 1e-6
_TICK = 1.01e-3


class SingleImageError(FlowError):
    """A clip or video has a single image, so there is no motion."""


@dataclass(frozen=True)
class _Shown:
    """A decoded image and the moment it is shown at."""

    number: int
    time: float
    frame: av.VideoFrame


def read_pairs(
    record: Mapping, *, source: str = "auto", series: int = 10, long_side: int = 0
) -> tuple[ImagePairs, str]:
    """Read what a clip's flow is computed from.

    Args:
        record: of ``load_records``.
        source: ``video``, ``frames`` (one field per second), or ``auto``: the video where it is there and whole.
        series: S, fields per second of a video.
        long_side: larger images are shrunk to this, pixels; 0: never.

    Returns:
        the pairs, and why ``auto`` did not use the video (empty where it did, or there is none).

    Raises:
        SingleImageError: the clip has a single image.
        FlowError: the clip has no usable images; one sentence that names the file.
    """
    if source not in SOURCES:
        raise FlowError(f"There is no flow source '{source}'; choose one of {', '.join(SOURCES)}.")
    note = ""
    if source != "frames":
        try:
            return _read_video(record, series, long_side), note
        except FlowError as error:
            if source == "video":
                raise
            note = str(error) if record["video_path"] else ""
    return _read_frames(record, long_side), note


def _read_video(record: Mapping, series: int, long_side: int) -> ImagePairs:
    path = record["video_path"]
    if not path:
        raise FlowError(
            f"Clip '{record['clip_id']}' has no raw video; unpack the raw_videos, or use --source auto or frames."
        )
    wanted = field_times(len(record["image_paths"]), series)
    pairs = read_video_pairs(path, wanted, long_side=long_side)
    return replace(pairs, clip_id=record["clip_id"], shape=(len(record["image_paths"]), series))


def read_video_pairs(path: str | os.PathLike, wanted: np.ndarray, *, long_side: int = 0) -> ImagePairs:
    """Decode only the neighbouring images about each wanted moment.

    The pair whose middle is nearest is taken, the earlier of two. An image that repeats the one before (videos
    whose rate was raised have them) is passed over, but never two in a row: a video may be still.

    Args:
        wanted: float64 (F,), seconds, increasing.
        long_side: larger images are shrunk to this, pixels; 0: never.

    Returns:
        pairs of shape (1, F).

    Raises:
        SingleImageError: the video holds one image.
        FlowError: it is unreadable, or ends more than ``MAX_MISSING`` before the last wanted moment.
    """
    chosen, kept, before, last = [], {}, None, None
    try:
        with open_media(path) as container:
            stream = video_stream(container, path)
            fps = float(stream.average_rate or stream.base_rate or 0)
            for shown in _shown_frames(container.decode(stream), fps):
                while last and len(chosen) < len(wanted) and wanted[len(chosen)] <= _middle(last, shown) + _SAME:
                    moment = wanted[len(chosen)]
                    is_earlier = before and moment - _middle(before, last) <= _middle(last, shown) - moment + _SAME
                    chosen.append(_keep(kept, *((before, last) if is_earlier else (last, shown))))
                if len(chosen) == len(wanted):
                    break
                before, last = last, shown
    except VideoError as error:
        raise FlowError(str(error)) from None
    if last is None:
        raise FlowError(f"Video {path} holds no frame; unpack it again.")
    if len(chosen) < len(wanted):
        if before is None:
            raise SingleImageError(f"Video {path} holds a single image.")
        if wanted[-1] - last.time > MAX_MISSING:
            raise FlowError(
                f"Video {path} ends after {last.time:.2f} s, its clip after {wanted[-1]:.2f} s or later."
            )
        chosen += [_keep(kept, before, last)] * (len(wanted) - len(chosen))
    numbers = sorted(kept)
    first, second = np.searchsorted(numbers, np.array(chosen)).T
    try:
        sizes = {frame_size(kept[number].frame) for number in numbers}
        if len(sizes) > 1:
            raise FlowError(f"Video {path} changes its size midway ({sizes}); convert it to one size.")
        (size,) = sizes
        small = _limited(size, long_side)
        images = np.stack([_convert(kept[number].frame, small, size) for number in numbers])
    except VideoError as error:
        raise FlowError(f"Video {path} cannot be used: {error}") from None
    return ImagePairs(
        images=images, times=_exact(np.array([kept[number].time for number in numbers]), fps),
        first=first, second=second, shape=(1, len(wanted)), size=size, fps=fps or 1 / last.time, source="video",
    )  # fmt: skip


def _shown_frames(frames: Iterator[av.VideoFrame], fps: float) -> Iterator[_Shown]:
    """Images with times from 0 that increase, without single repeats."""
    start = last = content = None
    skipped = False
    for number, frame in enumerate(frames):
        moment = number / fps if frame.time is None and fps else frame.time
        if moment is None:
            raise VideoError("The video gives its frames neither times nor a rate; convert it again.")
        start = moment if start is None else start
        if last is not None and moment <= last:
            continue
        before, content, last = content, bytes(frame.planes[0]), moment
        skipped = content == before and not skipped
        if not skipped:
            yield _Shown(number, moment - start, frame)


def _exact(times: np.ndarray, fps: float) -> np.ndarray:
    """Undo what containers that count milliseconds do to a constant rate: up to 2 % of a step of 1 / 30 s."""
    if not fps:
        return times
    grid = np.rint(times * fps) / fps
    return np.where(np.abs(times - grid) < _TICK, grid, times)


def _middle(one: _Shown, other: _Shown) -> float:
    return (one.time + other.time) / 2


def _keep(kept: dict[int, _Shown], one: _Shown, other: _Shown) -> tuple[int, int]:
    kept.update({one.number: one, other.number: other})
    return one.number, other.number


def _limited(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """``size`` with its longer side at most ``long_side``, unless that is 0."""
    scale = min(1.0, long_side / max(size)) if long_side else 1.0
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _convert(frame: av.VideoFrame, size: tuple[int, int], full: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3), RGB, upright, of size ``size`` where a whole frame has ``full``."""
    if size == full:
        return upright_image(frame)
    height, width = size if (frame.height, frame.width) == full else size[::-1]
    return upright_image(frame, width=width, height=height, interpolation="AREA")


def _read_frames(record: Mapping, long_side: int) -> ImagePairs:
    try:
        frames = [read_image(path) for path in record["image_paths"]]
    except ImageError as error:
        raise FlowError(str(error)) from None
    size = frames[0].shape[:2]
    for path, frame in zip(record["image_paths"], frames, strict=True):
        if frame.shape[:2] != size:
            raise FlowError(
                f"Image {path} is {frame.shape[0]} x {frame.shape[1]}, but the clip's first is {size[0]} x "
                f"{size[1]}; the frames of a clip must have one size."
            )
    if len(frames) < 2:
        raise SingleImageError(f"Clip '{record['clip_id']}' has a single image, {record['image_paths'][0]}.")
    small = _limited(size, long_side)
    if small != size:
        frames = [cv2.resize(frame, small[::-1], interpolation=cv2.INTER_AREA) for frame in frames]
    return replace(frame_pairs(np.stack(frames), clip_id=record["clip_id"]), size=size)
