"""A clip's log-mel from whichever file it has: pickle, ``.npy``, wav, or the video itself (docs/data.md)."""

import math
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from ska_vct.data.audio.log_mel import (
    MIN_SAMPLES,
    SAMPLE_RATE,
    WINDOW,
    log_mel_spectrogram,
    resample_to_16k,
    to_mono,
    to_patches,
)
from ska_vct.data.audio.safe_pickle import UnsafePickleError, load_tensor_pickle
from ska_vct.data.audio.time_line import patches_to_spectrogram, seconds
from ska_vct.data.registry import get_facts
from ska_vct.utils.media.errors import AudioError

AUDIO_SOURCES = ("auto", "pickle", "npy", "wav")


class ClipAudio(NamedTuple):
    """A clip's audio as the model reads it.

    Attributes:
        log_mel: float32 (T, 1, 96, 64), VGGish's patches, patch k from 0.96 k seconds.
        seconds: float32 (T, 1, 100, 64), the hops of exactly second k; NaN where the file holds none.
    """

    log_mel: np.ndarray
    seconds: np.ndarray


def load_audio(record: Mapping, num_seconds: int, source: str = "auto") -> ClipAudio:
    """Audio of a clip, as patches and as seconds.

    Args, Raises: see :func:`load_log_mel`.
    """
    name, path = choose_audio(record, source)
    if name in ("pickle", "npy"):
        patches = _checked(path, _READERS[name])
        spectrogram = patches_to_spectrogram(patches)
    else:
        samples, rate = read_wav(path) if name == "wav" else read_video_audio(path)
        try:
            wave = _usable_16k(samples, rate)
        except AudioError as error:
            raise AudioError(f"Sound file {path} {error}; unpack or make it again.") from None
        spectrogram = log_mel_spectrogram(wave)
        patches = to_patches(log_mel_spectrogram(_at_least_one_patch(wave)))
    fill = get_facts(record["subset"]).audio_fill
    return ClipAudio(_fit(patches, num_seconds, fill), seconds(spectrogram, num_seconds))


def samples_to_audio(samples: np.ndarray, sample_rate: int, num_seconds: int) -> ClipAudio:
    """Audio of (N,) or (N, ch) samples that begin with the clip, padded with silence where they are short.

    Raises:
        AudioError: there is no sample, or one is not finite.
    """
    wave = _usable_16k(samples, sample_rate)
    # The last windows reach beyond the clip's end.
    wave = np.pad(wave, (0, max(0, num_seconds * SAMPLE_RATE + WINDOW - len(wave))))
    spectrogram = log_mel_spectrogram(wave)
    return ClipAudio(to_patches(spectrogram)[:num_seconds], seconds(spectrogram, num_seconds))


def load_log_mel(record: Mapping, num_seconds: int, source: str = "auto") -> np.ndarray:
    """Log-mel of a clip, one patch per second.

    Args:
        record: a record of ``load_records``; ``clip_id``, ``subset``, ``log_mel_paths``, ``wav_path`` and
            ``video_path`` are read, paths are None where there is no such file.
        num_seconds: patches wanted; longer sound is cut, shorter is filled as the subset's release does it.
        source: ``pickle``, ``npy``, ``wav``, or ``auto``: the first of these that exists, else the video.

    Returns:
        float32 (num_seconds, 1, 96, 64).

    Raises:
        AudioError: the clip has no sound of that source, or the file is unusable; names the clip or file.
    """
    return load_audio(record, num_seconds, source).log_mel


def choose_audio(record: Mapping, source: str = "auto") -> tuple[str, str]:
    """The file that a clip's log-mel comes from.

    Returns:
        ``pickle``, ``npy``, ``wav`` or ``video``, and the path.

    Raises:
        AudioError: the clip has no sound of that source; names the clip.
    """
    if source not in AUDIO_SOURCES:
        raise AudioError(f"INPUT.AUDIO.SOURCE is '{source}'; choose one of {', '.join(AUDIO_SOURCES)}.")
    files = {**record["log_mel_paths"], "wav": record["wav_path"], "video": record["video_path"]}
    for name in _READERS:
        if files.get(name) is not None and source in ("auto", name):
            return name, files[name]
    wanted = "pickle, .npy, wav or video" if source == "auto" else f"{source} file (INPUT.AUDIO.SOURCE)"
    raise AudioError(
        f"Clip '{record['clip_id']}' has no sound: there is no {wanted} for it; unpack the release's sound files, "
        "or set INPUT.AUDIO.SOURCE to auto."
    )


def probe_audio(record: Mapping, source: str = "auto", *, content: bool = True) -> float:
    """Seconds of sound that a clip has, without the work of making its log-mel.

    Args:
        record, source: as for ``load_log_mel``.
        content: read the samples or patches too; without it only the header, or whether the file is empty.

    Returns:
        seconds; infinity where that is known from the contents only and ``content`` is off.

    Raises:
        AudioError: as ``load_log_mel`` would.
    """
    name, path = choose_audio(record, source)
    if name in ("pickle", "npy"):
        if content:
            return float(len(_checked(path, _READERS[name])))
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise AudioError(f"Sound file {path} cannot be read ({error.strerror}); make it again.") from None
        if size == 0:
            raise AudioError(f"Log-mel file {path} is empty; make it again or set INPUT.AUDIO.SOURCE to wav.")
        return math.inf
    if not content:
        return _wav_seconds(path) if name == "wav" else _video_seconds(path)
    samples, rate = read_wav(path) if name == "wav" else read_video_audio(path)
    try:
        return len(_usable(samples)) / rate
    except AudioError as error:
        raise AudioError(f"Sound file {path} {error}; unpack or make it again.") from None


def read_wav(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Samples of a sound file: float64 (N, ch) in -1..1, and its rate in Hz.

    Raises:
        AudioError: naming the file.
    """
    import soundfile

    try:
        return soundfile.read(path, dtype="float64", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise AudioError(f"Sound file {path} cannot be read ({error}); unpack or make it again.") from None


def read_video_audio(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Samples of a video's first sound track: float64 (N, ch), and its rate in Hz.

    Raises:
        AudioError: the file cannot be decoded or has no sound; names the file.
    """
    import av

    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"Video {path} has no sound track; give the clip a wav file.")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
            frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
            frames += resampler.resample(None)
            chunks = [frame.to_ndarray() for frame in frames]
            rate = stream.rate
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"The sound of video {path} cannot be decoded ({error}).") from None
    samples = np.concatenate(chunks, axis=1).T if chunks else np.zeros((0, 1))
    return samples.astype(np.float64), rate


def samples_to_log_mel(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """(N,) or (N, ch) samples to (P, 1, 96, 64); sound too short for one patch is filled up with silence.

    Raises:
        AudioError: there is no sample, or one is not finite.
    """
    return to_patches(log_mel_spectrogram(_at_least_one_patch(_usable_16k(samples, sample_rate))))


def _usable_16k(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return resample_to_16k(_usable(samples), sample_rate)


def _at_least_one_patch(wave: np.ndarray) -> np.ndarray:
    return np.pad(wave, (0, max(0, MIN_SAMPLES - len(wave))))


def _usable(samples: np.ndarray) -> np.ndarray:
    wave = to_mono(samples)
    if len(wave) == 0:
        raise AudioError("holds no samples")
    if not np.isfinite(wave).all():
        raise AudioError("holds samples that are not finite")
    return wave


def _wav_seconds(path: str) -> float:
    import soundfile

    try:
        info = soundfile.info(path)
    except (OSError, RuntimeError) as error:
        raise AudioError(f"Sound file {path} cannot be read ({error}); unpack or make it again.") from None
    if info.frames == 0:
        raise AudioError(f"Sound file {path} holds no samples; unpack or make it again.")
    return info.frames / info.samplerate


def _video_seconds(path: str) -> float:
    import av

    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise AudioError(f"Video {path} has no sound track; give the clip a wav file.")
            stream = container.streams.audio[0]
            return float(stream.duration * stream.time_base) if stream.duration else math.inf
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"The sound of video {path} cannot be decoded ({error}).") from None


def _checked(path: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
    log_mel = read(path)
    if log_mel.dtype.kind != "f" or log_mel.ndim != 4 or log_mel.shape[1:] != (1, 96, 64) or not len(log_mel):
        raise AudioError(
            f"Log-mel of {path} is {log_mel.dtype} {log_mel.shape}, expected floats (seconds, 1, 96, 64); make it "
            "again."
        )
    if not np.isfinite(log_mel).all():
        raise AudioError(f"Log-mel of {path} holds values that are not finite; make it again.")
    return log_mel.astype(np.float32, copy=False)


def _fit(log_mel: np.ndarray, num_seconds: int, fill: str) -> np.ndarray:
    missing = num_seconds - len(log_mel)
    if missing <= 0:
        return log_mel[:num_seconds]
    filling = np.repeat(log_mel[-1:], missing, axis=0)
    return np.concatenate([log_mel, filling if fill == "repeat" else np.zeros_like(filling)])


def _read_pickle(path: str) -> np.ndarray:
    try:
        value = load_tensor_pickle(path)
    except (OSError, UnsafePickleError) as error:
        raise AudioError(str(error)) from None
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, np.ndarray):
        return value
    raise AudioError(f"Pickle {path} holds a {type(value).__name__}, expected a tensor (seconds, 1, 96, 64).")


def _read_npy(path: str) -> np.ndarray:
    try:
        value = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise AudioError(f"Log-mel file {path} cannot be read ({error}); make it again.") from None
    if not isinstance(value, np.ndarray):
        raise AudioError(f"Log-mel file {path} holds several arrays, expected one; make it again.")
    return value


def _read_wav(path: str) -> np.ndarray:
    return _named_log_mel(path, *read_wav(path))


def _read_video(path: str) -> np.ndarray:
    return _named_log_mel(path, *read_video_audio(path))


def _named_log_mel(path: str, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    try:
        return samples_to_log_mel(samples, sample_rate)
    except AudioError as error:
        raise AudioError(f"Sound file {path} {error}; unpack or make it again.") from None


# In the order in which "auto" looks for them.
_READERS: dict[str, Callable[[str], np.ndarray]] = {
    "pickle": _read_pickle,
    "npy": _read_npy,
    "wav": _read_wav,
    "video": _read_video,
}
