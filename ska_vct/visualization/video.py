"""Videos of predictions with the audio they were made from: H.264 and AAC in MP4, through PyAV."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.media.video import open_media, upright_image, video_stream

from .audio import add_audio_stream, audio_frames, prepare_audio
from .colors import BINARY_PALETTE
from .panels import Panels

HELD_FPS = 8


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
    if video is not None:
        if not Path(video).is_file():
            raise MissingFileError(f"Video '{video}' does not exist; leave it out to hold the sampled frames.")
        rate = fps or _frame_rate(video)
        images = _video_frames(video, rate, duration)
    else:
        rate = fps or HELD_FPS
        images = _held_frames(frames, seconds, rate, duration)
    rate = Fraction(rate).limit_denominator(1001)
    panels = Panels(labels, truth, motion_map, palette=palette, class_names=class_names, captions=captions)

    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        image_stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        image_stream.pix_fmt = "yuv420p"
        audio_stream = None
        if loaded is not None:
            samples, sample_rate = loaded
            audio_stream = add_audio_stream(container, samples, sample_rate)
        started = False
        for index, (time, image) in enumerate(images):
            row = max(int(np.searchsorted(seconds, int(time), side="right")) - 1, 0)
            if not started:
                panels.fit(image.shape[:2] if video is not None else frame_size or image.shape[:2])
            shown = panels.draw(image, row, time)
            if not started:
                image_stream.height, image_stream.width = shown.shape[:2]
                started = True
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(image_stream.encode(frame))
        if not started:
            raise InputError(f"Video '{video}' has no frame that can be decoded; leave it out or replace it.")
        container.mux(image_stream.encode(None))
        if audio_stream is not None:
            for block in audio_frames(samples, sample_rate):
                container.mux(audio_stream.encode(block))
            container.mux(audio_stream.encode(None))


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
    for _, image in _decoded(video):
        return image.shape[:2]
    raise InputError(f"Video '{video}' has no frame that can be decoded; leave it out or replace it.")


def _frame_rate(video: str | Path) -> float:
    with open_media(video) as container:
        return float(video_stream(container, video).average_rate or 25)


def _video_frames(video: str | Path, fps: float, duration: int) -> Iterator[tuple[float, np.ndarray]]:
    """The video at a steady rate: at each tick the last frame that has begun; the first and last one are held."""
    ticks = iter(range(math.ceil(duration * fps - 1e-6)))
    tick = next(ticks, None)
    last = None
    for time, image in _decoded(video):
        last = image if last is None else last
        # half a tick of tolerance: time stamps are rounded
        while tick is not None and tick / fps < time - 0.5 / fps:
            yield tick / fps, last
            tick = next(ticks, None)
        if tick is None:
            return
        last = image
    while last is not None and tick is not None:
        yield tick / fps, last
        tick = next(ticks, None)


def _decoded(video: str | Path) -> Iterator[tuple[float, np.ndarray]]:
    """Seconds from the first frame, with which the clip's time line begins, and upright RGB images."""
    start = None
    with open_media(video) as container:
        for frame in container.decode(video_stream(container, video)):
            time = float(frame.time or 0)
            start = time if start is None else start
            yield time - start, upright_image(frame)
