"""Audio of clips as browsers play it: AAC in MP4, through PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer

from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.media.audio import read_wav

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Of an encoded audio file, bits per second and channel.
BIT_RATE = 48_000


def encode_audio(samples: np.ndarray, sample_rate: int, *, seconds: int) -> bytes:
    """An MP4 file with AAC.

    Args:
        samples: float or int16, (n,) or (n, channels); more than two channels are mixed.
        sample_rate: Hz.
        seconds: the file ends after so many.

    Raises:
        InputError: the audio is empty or not finite.
    """
    prepared, sample_rate = prepare_audio(samples, sample_rate, seconds)
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = add_audio_stream(container, prepared, sample_rate)
        stream.bit_rate = BIT_RATE * len(prepared)
        for block in audio_frames(prepared, sample_rate):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return file.getvalue()


def prepare_audio(
    audio: np.ndarray | str | Path, sample_rate: int | None, duration: int
) -> tuple[np.ndarray, int]:
    """Float32 samples (channels, n) of the first ``duration`` seconds, one or two channels, and their rate.

    Args:
        audio: samples, (n,) or (n, channels), or an audio file.
        sample_rate: of samples, Hz.
        duration: seconds.

    Raises:
        MissingFileError: the file does not exist.
        InputError: the audio is empty or not finite, or samples come without a rate.
    """
    if isinstance(audio, str | Path):
        if not Path(audio).is_file():
            raise MissingFileError(
                f"Audio file '{audio}' does not exist; the video needs it (audio=None makes a silent one)."
            )
        audio, sample_rate = read_wav(audio, seconds=duration)
    if not sample_rate:
        raise InputError("Audio samples need their sample_rate.")
    samples = np.asarray(audio)
    scale = 1 / 32768 if samples.dtype == np.int16 else 1.0
    samples = (samples.astype(np.float32) * scale).reshape(len(samples), -1)[: duration * sample_rate].T
    if samples.shape[0] > 2:
        samples = samples.mean(0, keepdims=True)
    if samples.size == 0 or not np.isfinite(samples).all():
        raise InputError("The audio is empty or holds values that are not finite; no video can carry it.")
    return np.clip(samples, -1, 1), int(sample_rate)


def audio_frames(samples: np.ndarray, sample_rate: int) -> Iterator[av.AudioFrame]:
    """Blocks in the form that the AAC encoder takes, at one of its rates."""
    resampler = audio_resampler(samples, sample_rate)
    yield from resampler.resample(to_audio_frame(samples, sample_rate, 0))
    yield from resampler.resample(None)


def audio_resampler(samples: np.ndarray, sample_rate: int) -> av.AudioResampler:
    """Makes of frames like ``samples``, (channels, n), what the AAC encoder takes."""
    return av.AudioResampler(format="fltp", layout=_layout(samples), rate=_aac_rate(sample_rate), frame_size=1024)


def to_audio_frame(samples: np.ndarray, sample_rate: int, start: int) -> av.AudioFrame:
    """Float32 samples (channels, n) of which the first is number ``start`` of its track."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=_layout(samples))
    frame.sample_rate = sample_rate
    frame.pts, frame.time_base = start, Fraction(1, sample_rate)
    return frame


def add_audio_stream(container: OutputContainer, samples: np.ndarray, sample_rate: int) -> AudioStream:
    """Add a stream for what :func:`prepare_audio` returned."""
    return container.add_stream("aac", rate=_aac_rate(sample_rate), layout=_layout(samples))


def _aac_rate(sample_rate: int) -> int:
    return sample_rate if sample_rate in AAC_RATES else 48000


def _layout(samples: np.ndarray) -> str:
    return "mono" if samples.shape[0] == 1 else "stereo"
