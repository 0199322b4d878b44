"""What a stream is read from: a video file, or arrays in memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np

from ska_vct.data.facts import SAMPLE_TIME
from ska_vct.data.flow.frame_pairs import shown_frames
from ska_vct.data.flow.pair_search import Shown
from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.media.audio import MAX_RATE, MIN_RATE, VideoAudio
from ska_vct.utils.media.errors import NoAudioError, VideoError
from ska_vct.utils.media.video import Damage, decode_tolerantly, is_address, open_media, video_stream

# Rate of silence, Hz; any would do.
_SILENT_RATE = 16_000


class Audio(Protocol):
    """Audio in windows of ascending starts; ``end`` is where it has ended, seconds, None while it goes on."""

    rate: int
    end: float | None

    def window(self, start: float, seconds: float) -> np.ndarray:
        """Samples (N, ch) or (N,), fewer where the audio ends."""

    def close(self) -> None:
        """Close the file."""


@dataclass
class ArrayAudio:
    """Samples in memory: (N,) or (N, ch), integers of their type's range or floats in [-1, 1]."""

    samples: np.ndarray
    rate: int

    @property
    def end(self) -> float:
        return len(self.samples) / self.rate

    def window(self, start: float, seconds: float) -> np.ndarray:
        return self.samples[round(start * self.rate) : round((start + seconds) * self.rate)]

    def close(self) -> None:
        """Nothing is open."""


class Silence:
    """Audio of a video without audio."""

    rate = _SILENT_RATE
    end = None

    def window(self, start: float, seconds: float) -> np.ndarray:
        return np.zeros(round(seconds * self.rate))

    def close(self) -> None:
        """Nothing is open."""


class Source(Protocol):
    """Frames with their times, and audio.

    Attributes:
        name: for messages.
        fps: images per second; 0 if unknown.
        duration: seconds as the header says; None if it does not.
        lasts: seconds that the last image is shown for.
        pairs: neighbouring images show motion; else only flow between the sampled frames is to be had.
        remarks: what is unusual, one sentence each; complete once the frames have been read.
    """

    name: str
    fps: float
    duration: float | None
    lasts: float
    pairs: bool
    remarks: list[str]

    def frames(self) -> Iterator[Shown]:
        """The images in the order of their times."""

    def audio(self) -> Audio:
        """The audio; time 0 is that of the first image."""


class VideoSource:
    """A video file."""

    pairs = True

    def __init__(self, path: str | os.PathLike, *, no_audio: bool = False):
        """
        Args:
            path: the file.
            no_audio: take silence where it has no audio track.

        Raises:
            MissingFileError: there is no such file.
            VideoError: it is an address, not a video, or damaged.
            NoAudioError: it has no audio track, and ``no_audio`` is off.
        """
        self.path = path
        self.name = Path(path).stem
        self.remarks: list[str] = []
        self.lasts = 0.0
        if not (Path(path).exists() or is_address(path)):
            raise MissingFileError(f"There is no video '{path}'.")
        if Path(path).is_dir():
            raise VideoError(f"'{path}' is a folder, not a video.")
        with open_media(path) as container:
            stream = video_stream(container, path)
            self.fps = float(stream.average_rate or stream.base_rate or 0)
            self.duration = _duration(container, stream)
            self.has_audio = bool(container.streams.audio)
        if not (self.has_audio or no_audio):
            raise NoAudioError(
                f"Video {path} has no audio track, and the model listens to find what sounds; to go on with "
                "silence, use --no-audio (no_audio=True)."
            )

    def frames(self) -> Iterator[Shown]:
        damage, last = Damage(), 0.0
        with open_media(self.path) as container:
            stream = video_stream(container, self.path)
            decoded = decode_tolerantly(container, stream, self.path, damage)
            for shown in shown_frames(self._noting_length(decoded), self.fps, self.path):
                last = shown.time
                yield shown
        if damage.lost:
            self.remarks.append(f"{damage.lost} frames of {self.path} cannot be decoded and were left out.")
        end = last + self.lasts
        if self.duration and end < self.duration - 1:
            self.remarks.append(
                f"The frames of {self.path} end after {end:.1f} of {self.duration:.1f} s that its header promises."
            )

    def audio(self) -> Audio:
        return VideoAudio(self.path) if self.has_audio else Silence()

    def _noting_length(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Notes how long each frame lasts, which for the last one no next frame tells."""
        for frame in frames:
            own = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
            self.lasts = min(own or (1 / self.fps if self.fps else 0.0), 1.0)
            yield frame


@dataclass(kw_only=True)
class ArraySource:
    """Frames in memory: uint8 (N, H, W, 3), RGB, upright.

    Attributes:
        images: the frames.
        fps: their rate.
        sampled: each stands for its share of a second as AVSBench's frames do, at 15/16 of it, instead of lying at
            its beginning as those of a video.
        sound: their audio; None for silence.
    """

    images: np.ndarray
    fps: float
    sampled: bool = False
    sound: ArrayAudio | None = None
    name: str = "clip"
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self):
        found = np.asarray(self.images)
        if found.dtype != np.uint8 or found.ndim != 4 or found.shape[3] != 3 or 0 in found.shape:
            raise InputError(f"Frames are {found.dtype} {found.shape}, expected uint8 (N, H, W, 3), RGB.")
        self.images = found
        self.pairs = not self.sampled
        # The frame's share of a second goes on behind it.
        self.lasts = (1 - SAMPLE_TIME if self.sampled else 1.0) / self.fps
        self.duration = len(found) / self.fps

    def frames(self) -> Iterator[Shown]:
        offset = SAMPLE_TIME if self.sampled else 0.0
        for number, image in enumerate(self.images):
            read = partial(_resized, image)
            yield Shown(number, (number + offset) / self.fps, image.shape[:2], read, image.tobytes)

    def audio(self) -> Audio:
        return self.sound or Silence()


def open_source(
    video: str | os.PathLike | None,
    *,
    frames: np.ndarray | None = None,
    frame_rate: float | None = None,
    waveform: np.ndarray | None = None,
    rate: int | None = None,
    fps: float = 1.0,
    name: str = "clip",
    no_audio: bool = False,
) -> Source:
    """A video file, or arrays; arguments, see ``Predictor.stream``.

    Raises:
        InputError, MissingFileError, VideoError, NoAudioError: what is given cannot be used.
    """
    if video is not None:
        if frames is not None or waveform is not None:
            raise InputError("Give either a video or frames with their waveform, not both.")
        return VideoSource(video, no_audio=no_audio)
    if frames is None:
        raise InputError("There is nothing to segment; give a video, or frames=... with waveform=... and rate=...")
    if waveform is None and not no_audio:
        raise InputError(
            "Frames need their audio, waveform=... and rate=...; to go on with silence, use no_audio=True."
        )
    if waveform is not None and (not rate or not MIN_RATE <= rate <= MAX_RATE):
        raise InputError(f"The waveform's rate is {rate} Hz; give rate=..., {MIN_RATE} to {MAX_RATE}.")
    sound = None if waveform is None or not rate else ArrayAudio(np.asarray(waveform), rate)
    return ArraySource(images=frames, fps=frame_rate or fps, sampled=frame_rate is None, sound=sound, name=name)


def _duration(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
