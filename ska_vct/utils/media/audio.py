"""Audio of wav files and of videos, on the clip's time line: sample n belongs to second n / rate.

A wav file begins with its clip. A video's audio lies where its time stamps put it, counted from the first frame
that the video shows: silence is filled in where the track begins late or has gaps, and what comes before the first
frame is left out.
"""

import os
import struct
from contextlib import ExitStack
from typing import Any

import numpy as np
from av.audio.frame import format_dtypes

from ska_vct.utils.media.errors import AudioError, NoAudioError, VideoError
from ska_vct.utils.media.video import Damage, decode_tolerantly, first_frame_time, is_known, open_media

MIN_RATE, MAX_RATE = 2_000, 768_000
MAX_CHANNELS = 64
# PyAV reads the pointers of a frame's channels behind their array where there are more (18.1, AudioFrame.planes).
_MAX_TRACK_CHANNELS = 8
MAX_SECONDS = 3600.0
# Of a track that is read in windows, seconds: a week.
_LATEST = 604_800.0
# A track whose time stamps agree with its samples to within one hop of the log-mel is continuous: containers round
# time stamps to milliseconds, and a gap or overlap for each of them would be heard.
_JITTER = 0.01
# Headers of some programs are off by their own length; less than this is not missing audio.
_SLACK = 0.05
# Sizes that programs write when they do not know the length: they promise nothing.
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
_STREAMED = 0x7FFFF000
_BLOCK = 1 << 16
# Format tags of wav files whose samples stand there one by one: integers, floats, A-law and mu-law. libsndfile
# 1.2.2 trusts the header of an ADPCM file (CVE-2026-37555).
_PLAIN_WAVS = (1, 3, 6, 7)
_EXTENSIBLE = 0xFFFE
# Integers are scaled by the full range of their type.
_SCALES = {"u1": (128.0, 128.0), "i2": (0.0, 2.0**15), "i4": (0.0, 2.0**31), "i8": (0.0, 2.0**63)}


def read_wav(path: str | os.PathLike, *, seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """Samples of a wav file: float64 (N, ch) in -1..1, and its rate in Hz.

    Args:
        seconds: read at most so much.

    Raises:
        AudioError: the file is missing, of another format, damaged, or holds less than its header promises.
    """
    import soundfile

    promised = _wav_promise(path)
    blocks, count = [], 0
    try:
        with soundfile.SoundFile(path) as file:
            rate = _checked_rate(path, file.samplerate, file.channels)
            limit = round(seconds * rate)
            while count < limit:
                block = file.read(min(_BLOCK, limit - count), dtype="float64", always_2d=True)
                if not len(block):
                    break
                blocks.append(block)
                count += len(block)
            channels = file.channels
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"Audio file {path} cannot be read ({error}); unpack or make it again.") from None
    if promised is not None and promised[0] - promised[1] > _SLACK * promised[2]:
        raise AudioError(
            f"Audio file {path} is damaged: it holds {promised[1]} of the {promised[0]} bytes that its header "
            "promises; unpack or make it again."
        )
    return np.concatenate(blocks) if blocks else np.zeros((0, channels)), rate


def wav_seconds(path: str | os.PathLike) -> float:
    """Length of a wav file from its header.

    Raises:
        AudioError: as :func:`read_wav`.
    """
    import soundfile

    promised = _wav_promise(path)
    try:
        with soundfile.SoundFile(path) as file:
            rate, frames = _checked_rate(path, file.samplerate, file.channels), file.frames
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"Audio file {path} cannot be read ({error}); unpack or make it again.") from None
    if promised is not None and promised[0] - promised[1] > _SLACK * promised[2]:
        return read_wav(path)[0].shape[0] / rate  # which says that it is damaged
    return frames / rate


def read_video_audio(path: str | os.PathLike, *, seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """Samples of a video's first audio track on the clip's time line: float64 (N, ch), and its rate in Hz.

    Args:
        seconds: read at most so much.

    Raises:
        AudioError: the file cannot be decoded or has no audio track.
    """
    try:
        zero = first_frame_time(path)
        with open_media(path) as container:
            stream, rate = _audio_stream(container, path)
            track = _Track(rate, stream.channels, round(seconds * rate))
            for frame in container.decode(stream):
                if frame.sample_rate != rate or frame.layout.nb_channels != track.channels:
                    raise AudioError(
                        f"The audio of video {path} changes its rate or channels midway; convert it to one format."
                    )
                if zero is None:  # an audio file: as a wav, it begins with its clip
                    zero = float(frame.time or 0.0)
                if not track.add(None if frame.time is None else float(frame.time) - zero, _samples(frame)):
                    break
    except VideoError as error:
        raise AudioError(f"The audio of the video cannot be read: {error}") from None
    return track.samples(), rate


class VideoAudio:
    """A video's audio track in windows of ascending starts, read as far as they reach; memory is that of a window.

    Attributes:
        rate: Hz.
        end: where the track has ended, seconds from the first frame; None while it goes on.
        damage: what could not be decoded.
    """

    def __init__(self, path: str | os.PathLike):
        """
        Raises:
            AudioError: the file cannot be opened or has no audio track.
        """
        self.end: float | None = None
        self.damage = Damage()
        self._path = path
        self._resources = ExitStack()
        try:
            zero = first_frame_time(path)
            container = self._resources.enter_context(open_media(path))
            stream, self.rate = _audio_stream(container, path)
        except VideoError as error:
            raise AudioError(f"The audio of the video cannot be read: {error}") from None
        self._track = _Track(self.rate, stream.channels, None)
        self._zero = zero or 0.0
        self._frames = decode_tolerantly(container, stream, path, self.damage)

    def window(self, start: float, seconds: float) -> np.ndarray:
        """Samples from ``start`` on, float64 (N, ch), fewer than asked for where the track ends.

        Args:
            start: seconds from the first frame, not before that of the last call.
            seconds: length.

        Raises:
            AudioError: the track changes its format, or most of it cannot be decoded.
        """
        first, stop = round(start * self.rate), round((start + seconds) * self.rate)
        while self.end is None and self._track.reached < stop:
            self._read()
            self._track.forget(first)
        self._track.forget(first)
        return self._track.samples(first, min(stop, self._track.end))

    def close(self) -> None:
        """Close the file."""
        self._resources.close()

    def _read(self) -> None:
        try:
            frame = next(self._frames, None)
        except VideoError as error:
            raise AudioError(f"The audio of the video cannot be read: {error}") from None
        if frame is None:
            self.end = self._track.end / self.rate
            return
        if frame.sample_rate != self.rate or frame.layout.nb_channels != self._track.channels:
            raise AudioError(
                f"The audio of video {self._path} changes its rate or channels midway; convert it to one format."
            )
        self._track.add(None if frame.time is None else float(frame.time) - self._zero, _samples(frame))


def video_audio_seconds(path: str | os.PathLike) -> float | None:
    """When a video's audio track ends on the clip's time line, as its header says; None where it does not.

    Raises:
        AudioError: the file cannot be opened or has no audio track.
    """
    try:
        zero = first_frame_time(path)
        with open_media(path) as container:
            stream, _ = _audio_stream(container, path)
            if not stream.duration or stream.time_base is None:
                return None
            start = float((stream.start_time or 0) * stream.time_base)
            end = start + float(stream.duration * stream.time_base)
            return end - (start if zero is None else zero)
    except VideoError as error:
        raise AudioError(f"The audio of the video cannot be read: {error}") from None


class _Track:
    """Puts blocks of samples where their times say, from 0 to a limit; ``end`` is that of the last one."""

    def __init__(self, rate: int, channels: int, limit: int | None):
        self.channels = channels
        self.end = 0
        self._rate = rate
        self._limit = limit
        self._latest = 2 * MAX_SECONDS if limit is not None else _LATEST
        self._blocks: list[tuple[int, np.ndarray]] = []
        self._at: int | None = None

    @property
    def reached(self) -> int:
        """Where the next block begins, as far as is known."""
        return self._at or 0

    def add(self, time: float | None, block: np.ndarray) -> bool:
        """Add (n, ch) samples heard from ``time`` on, or behind the last; False at the limit."""
        start = self._at or 0
        if time is not None:
            wanted = round(min(max(time, -MAX_SECONDS), self._latest) * self._rate)
            if self._at is None or abs(wanted - start) > _JITTER * self._rate:
                start = wanted
        self._at = start + len(block)
        # Before the clip, or over what is there already.
        skipped = max(0, self.end - start)
        kept = block[skipped : None if self._limit is None else max(skipped, self._limit - start)]
        if len(kept):
            self._blocks.append((start + skipped, kept))
            self.end = start + skipped + len(kept)
        return self._limit is None or start < self._limit

    def forget(self, before: int) -> None:
        """Drop blocks that end before a sample."""
        self._blocks = [(start, block) for start, block in self._blocks if start + len(block) > before]

    def samples(self, first: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples ``first`` to ``stop``, the track's end by default; silence where there are none."""
        stop = self.end if stop is None else stop
        result = np.zeros((max(0, stop - first), self.channels))
        for start, block in self._blocks:
            kept = block[max(0, first - start) : max(0, stop - start)]
            at = max(0, start - first)
            result[at : at + len(kept)] = kept
        return result


def _samples(frame: Any) -> np.ndarray:
    """(n, ch) floats in -1..1 of a decoded frame, planar or packed."""
    channels, dtype = frame.layout.nb_channels, np.dtype(format_dtypes[frame.format.name])
    if frame.format.is_planar:
        # Of eight channels, PyAV's own conversion reads a ninth, which ends the process.
        planes = frame.planes[:channels]
        array = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes], axis=1)
    else:
        array = np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels)
    middle, scale = _SCALES.get(dtype.str[1:], (0.0, 1.0))
    return ((array - middle) / scale).astype(np.float64)


def _audio_stream(container: Any, path: str | os.PathLike) -> tuple[Any, int]:
    """The first track that can be read, ready to be decoded on one thread, and its rate in Hz."""
    if not container.streams.audio:
        raise NoAudioError(f"Video {path} has no audio track; give the clip a wav file.")
    # Phones add tracks of formats of their own, which nothing decodes.
    tracks = (s for s in container.streams.audio if s.codec_context is not None)
    stream = next((s for s in tracks if is_known(s.codec_context.codec.canonical_name)), None)
    if stream is None:
        raise AudioError(f"The audio of video {path} is of a codec that is not read; convert it to AAC.")
    stream.codec_context.thread_count = 1
    return stream, _checked_rate(path, stream.rate, stream.channels, _MAX_TRACK_CHANNELS)


def _checked_rate(
    path: str | os.PathLike, rate: int | None, channels: int | None, most: int = MAX_CHANNELS
) -> int:
    if not rate or not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"Audio of {path} has a rate of {rate} Hz, expected {MIN_RATE} to {MAX_RATE}; convert it to 16000 Hz."
        )
    if not channels or channels > most:
        raise AudioError(f"Audio of {path} has {channels} channels, expected 1 to {most}; convert it to mono.")
    return rate


def _wav_promise(path: str | os.PathLike) -> tuple[int, int, int] | None:
    """Bytes that the header promises, those there are, and bytes per second; None where it promises none."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(12)
            if not head:
                raise AudioError(f"Audio file {path} is empty; unpack or make it again.")
            if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
                raise AudioError(f"Audio file {path} is not a wav file; convert or unpack it again.")
            per_second, long_size = 0, None
            for _ in range(1000):
                chunk = file.read(8)
                if len(chunk) < 8:
                    break
                name, length = struct.unpack("<4sI", chunk)
                start = file.tell()
                if name == b"fmt " and length >= 16:
                    tag, per_second = struct.unpack("<H6xI4x", file.read(16))
                    if tag == _EXTENSIBLE:
                        tag = int.from_bytes(file.read(10)[8:], "little")
                    if tag not in _PLAIN_WAVS:
                        raise AudioError(
                            f"Audio file {path} is compressed (format {tag}), which is not read; convert it to "
                            "PCM."
                        )
                elif name == b"ds64" and length >= 16:
                    (long_size,) = struct.unpack("<8xQ", file.read(16))
                elif name == b"data":
                    if length == 0xFFFFFFFF and long_size is not None and head[:4] == b"RF64":
                        length = long_size
                    elif length in _UNKNOWN_SIZES or length >= _STREAMED:
                        return None
                    return length, max(0, min(length, size - start)), per_second
                file.seek(start + length + length % 2)
    except (OSError, ValueError, struct.error) as error:
        if isinstance(error, AudioError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"Audio file {path} cannot be read ({reason}); unpack or make it again.") from None
    raise AudioError(f"Audio file {path} is damaged: it has no samples; unpack or make it again.")
