"""Films of predictions with the sound they were made from: H.264 and AAC in MP4, through PyAV."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.files import atomic_write

from .pictures import BINARY_PALETTE, overlay_labels, resize_picture

HELD_FPS = 8
MIN_SIDE = 320
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


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
) -> None:
    """Write the overlay of a clip's prediction as an MP4, whole or not at all.

    Each prediction is held for the second it belongs to. Where the clip's own video is given it plays below the
    predictions; else each sampled frame is held for its second.

    Args:
        path: file to write.
        frames: uint8 (T, H, W, 3), one per second.
        labels: int (T, h, w), class per pixel of any size.
        audio: float or int16 samples, (n,) or (n, channels), a sound file, or None for a silent film.
        sample_rate: of ``audio`` samples, Hz.
        video: the clip's own video file; its sound is not used.
        fps: frames per second of the film; the video's own, or 8 for held frames, when None.
        palette: uint8 (K, 3), colours of the labels.
        seconds: T indices of the seconds that the rows stand for, ascending; 0 .. T - 1 when None.

    Raises:
        ValueError: ``frames`` and ``labels`` do not fit, or a file cannot be decoded.
        FileNotFoundError: the sound or the video does not exist.
    """
    if len(frames) != len(labels) or len(frames) == 0:
        raise InputError(f"A film needs one prediction per frame; there are {len(frames)} and {len(labels)}.")
    seconds = np.arange(len(frames)) if seconds is None else np.asarray(seconds)
    duration = int(seconds[-1]) + 1
    sound = None if audio is None else _load_sound(audio, sample_rate, duration)
    if video is not None:
        if not Path(video).is_file():
            raise MissingFileError(f"Video '{video}' does not exist; leave it out to hold the sampled frames.")
        rate = fps or _frame_rate(video)
        pictures = _video_frames(video, rate, duration)
    else:
        rate = fps or HELD_FPS
        pictures = _held_frames(frames, seconds, rate, duration)
    rate = Fraction(rate).limit_denominator(1001)

    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        picture_stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        picture_stream.pix_fmt = "yuv420p"
        sound_stream = None
        if sound is not None:
            samples, sample_rate = sound
            sound_stream = container.add_stream("aac", rate=_aac_rate(sample_rate), layout=_layout(samples))
        size = None
        for index, (time, picture) in enumerate(pictures):
            row = max(int(np.searchsorted(seconds, int(time), side="right")) - 1, 0)
            if size is None:
                size = _film_size(*picture.shape[:2])
                picture_stream.height, picture_stream.width = size
            shown = overlay_labels(resize_picture(picture, size), labels[row], palette, contour=3)
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(picture_stream.encode(frame))
        if size is None:
            raise InputError(f"Video '{video}' has no frame that can be decoded; leave it out or replace it.")
        container.mux(picture_stream.encode(None))
        if sound_stream is not None:
            for frame in _sound_frames(samples, sample_rate):
                container.mux(sound_stream.encode(frame))
            container.mux(sound_stream.encode(None))


def _held_frames(
    frames: np.ndarray, seconds: np.ndarray, fps: float, duration: int
) -> Iterator[tuple[float, np.ndarray]]:
    for index in range(round(duration * fps)):
        time = index / fps
        yield time, frames[max(int(np.searchsorted(seconds, int(time), side="right")) - 1, 0)]


def _frame_rate(video: str | Path) -> float:
    with _open(video) as container:
        return float(container.streams.video[0].average_rate or 25)


def _video_frames(video: str | Path, fps: float, duration: int) -> Iterator[tuple[float, np.ndarray]]:
    """The video at a steady rate: at each tick the last frame that has begun; the last one is held to the end."""
    ticks = iter(range(math.ceil(duration * fps - 1e-6)))
    tick = next(ticks, None)
    last, start = None, None
    with _open(video) as container:
        try:
            for frame in container.decode(video=0):
                time = float(frame.time or 0)
                start = time if start is None else start
                # half a tick of tolerance: time stamps are rounded
                while last is not None and tick is not None and tick / fps < time - start - 0.5 / fps:
                    yield tick / fps, last
                    tick = next(ticks, None)
                if tick is None:
                    return
                last = frame.to_ndarray(format="rgb24")
        except av.FFmpegError as error:
            raise InputError(f"Video '{video}' cannot be decoded ({error}); leave it out or replace it.") from None
    while last is not None and tick is not None:
        yield tick / fps, last
        tick = next(ticks, None)


def _open(video: str | Path) -> av.container.InputContainer:
    try:
        container = av.open(str(video))
    except av.FFmpegError as error:
        raise InputError(f"Video '{video}' cannot be decoded ({error}); leave it out or replace it.") from None
    if not container.streams.video:
        container.close()
        raise InputError(f"Video '{video}' has no pictures in it; leave it out or replace it.")
    return container


def _load_sound(audio: np.ndarray | str | Path, sample_rate: int | None, duration: int) -> tuple[np.ndarray, int]:
    """Float32 samples (channels, n) of the first ``duration`` seconds, one or two channels, and their rate."""
    if isinstance(audio, str | Path):
        if not Path(audio).is_file():
            raise MissingFileError(
                f"Sound '{audio}' does not exist; a film needs it (audio=None makes a silent one)."
            )
        try:
            audio, sample_rate = soundfile.read(audio, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise InputError(f"Sound '{audio}' cannot be read ({error}); convert it to PCM wav.") from None
    if not sample_rate:
        raise InputError("Samples of sound need their sample_rate.")
    samples = np.asarray(audio)
    scale = 1 / 32768 if samples.dtype == np.int16 else 1.0
    samples = (samples.astype(np.float32) * scale).reshape(len(samples), -1)[: duration * sample_rate].T
    if samples.shape[0] > 2:
        samples = samples.mean(0, keepdims=True)
    if samples.size == 0 or not np.isfinite(samples).all():
        raise InputError("The sound is empty or holds values that are not finite; a film cannot carry it.")
    return np.clip(samples, -1, 1), int(sample_rate)


def _sound_frames(samples: np.ndarray, sample_rate: int) -> Iterator[av.AudioFrame]:
    """Blocks in the form that the AAC encoder takes, at one of its rates."""
    resampler = av.AudioResampler(
        format="fltp", layout=_layout(samples), rate=_aac_rate(sample_rate), frame_size=1024
    )
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=_layout(samples))
    frame.sample_rate = sample_rate
    frame.pts = 0
    yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _aac_rate(sample_rate: int) -> int:
    return sample_rate if sample_rate in AAC_RATES else 48000


def _layout(samples: np.ndarray) -> str:
    return "mono" if samples.shape[0] == 1 else "stereo"


def _film_size(height: int, width: int) -> tuple[int, int]:
    """At least ``MIN_SIDE`` pixels on the short side, and even, as yuv420p asks for."""
    scale = max(1.0, MIN_SIDE / min(height, width))
    return 2 * round(height * scale / 2), 2 * round(width * scale / 2)
