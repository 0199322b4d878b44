"""The images that a clip's flow is computed from: its raw video at its own rate, or the released frames.

Shape legend
    T     sampled frames of the clip, one per second
    S     flow fields over a frame's second
    M     images that some field needs
    H, W  image, pixels
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import av
import cv2
import numpy as np

from ska_vct.data.flow.methods.base import ImagePairs, field_times, frame_pairs
from ska_vct.data.flow.names import SOURCES
from ska_vct.data.flow.pair_search import Kept, PairSearch, Shown
from ska_vct.data.flow.store import FlowError
from ska_vct.data.images.io import ImageError, read_image
from ska_vct.utils.media.errors import VideoError
from ska_vct.utils.media.video import frame_size, open_media, upright_at, video_stream

# Seconds a video may end before the clip's last field: cuts are not exact, but whole seconds missing are a fault.
MAX_MISSING = 1.0
_TICK = 1.01e-3


class SingleImageError(FlowError):
    """A clip or video has a single image, so there is no motion."""


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
    """Decode only the neighbouring images about each wanted moment, see :class:`PairSearch`.

    Args:
        wanted: float64 (F,), seconds, increasing.
        long_side: larger images are shrunk to this, pixels; 0: never.

    Returns:
        pairs of shape (1, F).

    Raises:
        SingleImageError: the video holds one image.
        FlowError: it is unreadable, or ends more than ``MAX_MISSING`` before the last wanted moment.
    """
    search = PairSearch(lambda size: limited_size(size, long_side))
    for index, moment in enumerate(wanted):
        search.want(moment, index)
    size = None
    try:
        with open_media(path) as container:
            stream = video_stream(container, path)
            fps = float(stream.average_rate or stream.base_rate or 0)
            for shown in shown_frames(container.decode(stream), fps, path):
                size = size or shown.size
                search.add(shown)
                if not search.num_wanted:
                    break
    except VideoError as error:
        raise FlowError(str(error)) from None
    if size is None:
        raise FlowError(f"Video {path} holds no frame; unpack it again.")
    if search.num_wanted:
        if search.num_images < 2:
            raise SingleImageError(f"Video {path} holds a single image.")
        if wanted[-1] - search.end > MAX_MISSING:
            raise FlowError(
                f"Video {path} ends after {search.end:.2f} s, its clip after {wanted[-1]:.2f} s or later."
            )
    search.finish()
    pairs = [search.found[index] for index in range(len(wanted))]
    return pairs_of_video(pairs, shape=(1, len(wanted)), size=size, fps=fps or 1 / search.end)


def pairs_of_video(
    pairs: Sequence[tuple[Kept, Kept]], *, shape: tuple[int, int], size: tuple[int, int], fps: float
) -> ImagePairs:
    """The pairs of a :class:`PairSearch`, T * S of them, with each image once.

    Args:
        shape: (T, S).
        size: height and width of the video's images.
        fps: the video's rate.
    """
    kept = {image.number: image for pair in pairs for image in pair}
    numbers = sorted(kept)
    first, second = np.searchsorted(numbers, [[image.number for image in pair] for pair in pairs]).T
    return ImagePairs(
        images=np.stack([kept[number].image for number in numbers]),
        times=_exact(np.array([kept[number].time for number in numbers]), fps),
        first=first, second=second, shape=shape, size=size, fps=fps, source="video",
    )  # fmt: skip


def shown_frames(frames: Iterable[av.VideoFrame], fps: float, path: str | os.PathLike) -> Iterator[Shown]:
    """Images of a video with times from 0 that increase; those whose time does not increase are left out.

    Args:
        frames: decoded, all of one size.
        fps: the video's rate, for files that give their frames no times.
        path: for messages.

    Raises:
        FlowError: the frames change their size midway or cannot be converted.
        VideoError: there are neither times nor a rate.
    """
    start = last = size = None
    for number, frame in enumerate(frames):
        moment = number / fps if frame.time is None and fps else frame.time
        if moment is None:
            raise VideoError(f"Video {path} gives its frames neither times nor a rate; convert it again.")
        start = moment if start is None else start
        if last is not None and moment <= last:
            continue
        last = moment
        try:
            size = size or frame_size(frame)
            if frame_size(frame) != size:
                raise FlowError(
                    f"Video {path} changes its size midway, from {size} to {frame_size(frame)}; convert it to one "
                    "size."
                )
        except VideoError as error:
            raise FlowError(f"Video {path} cannot be used: {error}") from None
        yield Shown(number, moment - start, size, partial(_convert, frame, path), partial(_luminance, frame))


def _luminance(frame: av.VideoFrame) -> bytes:
    return bytes(frame.planes[0])


def _exact(times: np.ndarray, fps: float) -> np.ndarray:
    """Undo what containers that count milliseconds do to a constant rate: up to 2 % of a step of 1 / 30 s."""
    if not fps:
        return times
    grid = np.rint(times * fps) / fps
    return np.where(np.abs(times - grid) < _TICK, grid, times)


def limited_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """``size`` with its longer side at most ``long_side``, unless that is 0."""
    scale = min(1.0, long_side / max(size)) if long_side else 1.0
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _convert(frame: av.VideoFrame, path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w, 3), RGB, upright, of height and width ``size``."""
    try:
        return upright_at(frame, size)
    except VideoError as error:
        raise FlowError(f"Video {path} cannot be used: {error}") from None


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
    small = limited_size(size, long_side)
    if small != size:
        frames = [cv2.resize(frame, small[::-1], interpolation=cv2.INTER_AREA) for frame in frames]
    return replace(frame_pairs(np.stack(frames), clip_id=record["clip_id"]), size=size)
