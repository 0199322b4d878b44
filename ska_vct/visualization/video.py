"""Videos of predictions with the audio they were made from: H.264 and AAC in MP4, through PyAV."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.media.video import Damage, decode_tolerantly, open_media, upright_at, video_stream
from ska_vct.utils.media.video import frame_size as frame_size_of

from .audio import prepare_audio
from .colors import BINARY_PALETTE
from .mp4 import write_mp4
from .panels import Panels

HELD_FPS = 8
# Rates of overlays of a video's own frames; more than the largest is not seen and takes as long to draw.
MIN_FPS, MAX_FPS = 1, 30


def write_overlay_video(
    path: str | Path,
    frames: np.ndarray,
    labels: np.ndarray,
    *,
    audio: np.ndarray | str | Path | None,
    sample_rate: int | None = None,
    video: str | Path | None = None,
    fps: float | None = None,
    palette: np.ndarray = BINARY_PALETTE,
    seconds: Sequence[int] | None = None,
    truth: np.ndarray | None = None,
    motion_map: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    frame_size: tuple[int, int] | None = None,
    captions: bool = True,
    progress: Callable[[float], object] = lambda seconds: None,
) -> None:
    """Write the overlay of a clip's prediction as an MP4, whole or not at all.

    The prediction, the ground truth and the motion map stand side by side, as far as they are given, with
    captions, the time and a legend. Each prediction is held for the second it belongs to. Where the clip's own
    video is given it plays below them; else each sampled frame is held for its second.

    Args:
        path: file to write.
        frames: uint8 (T, H, W, 3), one per second.
        labels: int (T, h, w), class per pixel of any size.
        audio: float or int16 samples, (n,) or (n, channels), an audio file, or None for a silent video.
        sample_rate: of ``audio`` samples, Hz.
        video: the clip's own video file; its audio is not used.
        fps: frames per second to write; the video's own, or 8 for held frames, when None.
        palette: uint8 (K, 3), colours of the labels.
        seconds: T indices of the seconds that the rows stand for, ascending; 0 .. T - 1 when None.
        truth: int (T, h, w), ground truth, 255 where there is none.
        motion_map: float (T, h, w) in [0, 1].
        class_names: K names for the legend.
        frame_size: height and width of the clip's own frames, whose proportions held frames take; those of
            ``frames`` when None.
        captions: write captions, time and legend around the images.
        progress: called with the seconds drawn; may raise to end the work.

    Raises:
        ValueError: ``frames``, ``labels``, ``truth`` and ``motion_map`` do not fit, or a file cannot be decoded.
        FileNotFoundError: the audio or the video does not exist.
    """
    for name, rows in (("predictions", labels), ("ground truth", truth), ("motion maps", motion_map)):
        if len(frames) == 0 or (rows is not None and len(rows) != len(frames)):
            raise InputError(
                f"A video needs one row per frame; there are {len(frames)} frames and {len(rows)} {name}."
            )
    seconds = np.arange(len(frames)) if seconds is None else np.asarray(seconds)
    duration = int(seconds[-1]) + 1
    loaded = None if audio is None else prepare_audio(audio, sample_rate, duration)
    panels = Panels(labels, truth, motion_map, palette=palette, class_names=class_names, captions=captions)
    if video is not None:
        if not Path(video).is_file():
            raise MissingFileError(f"Video '{video}' does not exist; leave it out to hold the sampled frames.")
        rate = fps or _frame_rate(video)
        images = _video_frames(video, rate, duration, panels)
        frame_size = None
    else:
        rate = fps or HELD_FPS
        images = _held_frames(frames, seconds, rate, duration)
        frame_size = frame_size or frames.shape[1:3]

    def row_at(time: float) -> int:
        return max(int(np.searchsorted(seconds, int(time), side="right")) - 1, 0)

    drawn = _drawn(_reported(images, progress), panels, row_at, frame_size)
    blocks = None if loaded is None else _blocks(*loaded)
    write_mp4(path, drawn, rate=_fraction(rate), audio=blocks, sample_rate=loaded[1] if loaded else 0)


def write_stream_video(
    path: str | Path,
    panels: Panels,
    *,
    fps: float,
    count: int,
    video: str | Path | None = None,
    frames: np.ndarray | None = None,
    audio: Iterable[np.ndarray] | None = None,
    sample_rate: int = 0,
    progress: Callable[[float], object] = lambda seconds: None,
) -> None:
    """Write the overlay of a video of any length as an MP4, whole or not at all, in memory of a few frames.

    Args:
        path: file to write.
        panels: row k of them stands for seconds k / fps to (k + 1) / fps.
        fps: rows per second.
        count: rows.
        video: the video's file, at its own rate, at most ``MAX_FPS``; or else
        frames: uint8 (count, H, W, 3), each held for its row.
        audio: blocks of samples, see :func:`ska_vct.visualization.mp4.write_mp4`.
        sample_rate: of the audio, Hz.
        progress: called with the seconds drawn; may raise to end the work.

    Raises:
        InputError: there is no frame.
        VideoError: the video cannot be decoded.
        OSError: the file cannot be written.
    """
    duration = count / fps

    def row_at(time: float) -> int:
        return min(int(time * fps + 1e-6), count - 1)

    if video is not None:
        rate = float(_fraction(min(max(_frame_rate(video), MIN_FPS), MAX_FPS)))
        images = _video_frames(video, rate, duration, panels)
        size = None
    else:
        rate, size = max(HELD_FPS, fps), frames.shape[1:3]  # type: ignore[union-attr]
        images = ((index / rate, frames[row_at(index / rate)]) for index in range(math.ceil(duration * rate)))  # type: ignore[index]

    drawn = _drawn(_reported(images, progress), panels, row_at, size)
    write_mp4(path, drawn, rate=_fraction(rate), audio=audio, sample_rate=sample_rate)


def _reported(
    images: Iterable[tuple[float, np.ndarray]], progress: Callable[[float], object]
) -> Iterator[tuple[float, np.ndarray]]:
    for time, image in images:
        yield time, image
        progress(time)


def _fraction(rate: float) -> Fraction:
    return Fraction(rate).limit_denominator(1001)


def _blocks(samples: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    for start in range(0, samples.shape[1], sample_rate):
        yield samples[:, start : start + sample_rate]


def _drawn(
    images: Iterable[tuple[float, np.ndarray]],
    panels: Panels,
    row_at: Callable[[float], int],
    frame_size: tuple[int, int] | None,
) -> Iterator[np.ndarray]:
    """Draw images; with ``frame_size`` the panels take its proportions, else they have been fitted."""
    if frame_size is not None:
        panels.fit(frame_size)
    for time, image in images:
        yield panels.draw(image, row_at(time), time)


def _held_frames(
    frames: np.ndarray, seconds: np.ndarray, fps: float, duration: int
) -> Iterator[tuple[float, np.ndarray]]:
    for index in range(round(duration * fps)):
        time = index / fps
        yield time, frames[max(int(np.searchsorted(seconds, int(time), side="right")) - 1, 0)]


def video_frame_size(video: str | Path) -> tuple[int, int]:
    """Height and width of a video's first frame, as it is shown.

    Raises:
        ValueError: the video has none that can be decoded.
    """
    for _, frame in _decoded(video):
        return frame_size_of(frame)
    raise InputError(f"Video '{video}' has no frame that can be decoded; leave it out or replace it.")


def _frame_rate(video: str | Path) -> float:
    with open_media(video) as container:
        return float(video_stream(container, video).average_rate or 25)


def _video_frames(
    video: str | Path, fps: float, duration: float, panels: Panels
) -> Iterator[tuple[float, np.ndarray]]:
    """The video at a steady rate: at each tick the last frame that has begun; the first and last one are held.

    Frames are converted at the size of the panels, and only those that are shown.
    """
    ticks = iter(range(math.ceil(duration * fps - 1e-6)))
    tick = next(ticks, None)
    last: av.VideoFrame | None = None
    image = None
    for time, frame in _decoded(video):
        if last is None:
            panels.fit(frame_size_of(frame))
            last = frame
        # half a tick of tolerance: time stamps are rounded
        while tick is not None and tick / fps < time - 0.5 / fps:
            image = upright_at(last, panels.size) if image is None else image
            yield tick / fps, image
            tick = next(ticks, None)
        if tick is None:
            return
        last, image = frame, None
    while last is not None and tick is not None:
        image = upright_at(last, panels.size) if image is None else image
        yield tick / fps, image
        tick = next(ticks, None)
    if last is None:
        raise InputError(f"Video '{video}' has no frame that can be decoded; leave it out or replace it.")


def _decoded(video: str | Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """Seconds from the first frame, with which the clip's time line begins, and frames."""
    start = None
    with open_media(video) as container:
        stream = video_stream(container, video)
        fps = float(stream.average_rate or stream.base_rate or 25)
        for number, frame in enumerate(decode_tolerantly(container, stream, video, Damage())):
            time = number / fps if frame.time is None else float(frame.time)
            start = time if start is None else start
            yield time - start, frame
