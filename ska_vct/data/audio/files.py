"""A clip's log-mel from whichever file it has: pickle, ``.npy``, wav, or the video itself (docs/data.md)."""

import math
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ska_vct.data.audio.log_mel import (
    MAX_PEAK,
    MIN_SAMPLES,
    SAMPLE_RATE,
    WINDOW,
    log_mel_spectrogram,
    resample_to_16k,
    to_mono,
    to_patches,
)
from ska_vct.data.audio.log_mel_files import read_log_mel_npy, read_log_mel_pickle
from ska_vct.data.audio.time_line import patches_to_spectrogram, seconds
from ska_vct.data.registry import get_facts
from ska_vct.utils.media.audio import read_video_audio, read_wav, video_audio_seconds, wav_seconds
from ska_vct.utils.media.errors import AudioError

AUDIO_SOURCES = ("auto", "pickle", "npy", "wav")
# Audio read beyond a clip's end, seconds: windows and the resampler's filter reach there.
_MARGIN = 1.0
# A track that ends so much before its header says is damaged, seconds; durations are not exact.
_MISSING = 0.5


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
    read = _LOG_MEL[name]
    if read is not None:
        patches = read(path)
        spectrogram = patches_to_spectrogram(patches)
    else:
        samples, rate = _SAMPLES[name](path, seconds=num_seconds + _MARGIN)
        try:
            wave = usable_16k(samples, rate)
        except AudioError as error:
            raise AudioError(f"Audio file {path} {error}; unpack or make it again.") from None
        spectrogram = log_mel_spectrogram(wave)
        patches = to_patches(log_mel_spectrogram(_at_least_one_patch(wave)))
    fill = get_facts(record["subset"]).audio_fill
    return ClipAudio(_fit(patches, num_seconds, fill), seconds(spectrogram, num_seconds))


def samples_to_audio(samples: np.ndarray, sample_rate: int, num_seconds: int) -> ClipAudio:
    """Audio of (N,) or (N, ch) samples that begin with the clip, padded with silence where they are short.

    Raises:
        AudioError: there is no sample, or one is not finite.
    """
    wave = usable_16k(samples, sample_rate)
    # The last windows reach beyond the clip's end.
    wave = np.pad(wave, (0, max(0, num_seconds * SAMPLE_RATE + WINDOW - len(wave))))
    spectrogram = log_mel_spectrogram(wave)
    return ClipAudio(to_patches(spectrogram)[:num_seconds], seconds(spectrogram, num_seconds))


def load_log_mel(record: Mapping, num_seconds: int, source: str = "auto") -> np.ndarray:
    """Log-mel of a clip, one patch per second.

    Args:
        record: a record of ``load_records``; ``clip_id``, ``subset``, ``log_mel_paths``, ``wav_path`` and
            ``video_path`` are read, paths are None where there is no such file.
        num_seconds: patches wanted; longer audio is cut, shorter is filled as the subset's release does it.
        source: ``pickle``, ``npy``, ``wav``, or ``auto``: the first of these that exists, else the video.

    Returns:
        float32 (num_seconds, 1, 96, 64).

    Raises:
        AudioError: the clip has no audio of that source, or the file is unusable; names the clip or file.
    """
    return load_audio(record, num_seconds, source).log_mel


def choose_audio(record: Mapping, source: str = "auto") -> tuple[str, str]:
    """The file that a clip's log-mel comes from.

    Returns:
        ``pickle``, ``npy``, ``wav`` or ``video``, and the path.

    Raises:
        AudioError: the clip has no audio of that source; names the clip.
    """
    if source not in AUDIO_SOURCES:
        raise AudioError(f"INPUT.AUDIO.SOURCE is '{source}'; choose one of {', '.join(AUDIO_SOURCES)}.")
    files = {**record["log_mel_paths"], "wav": record["wav_path"], "video": record["video_path"]}
    for name in _LOG_MEL:
        if files.get(name) is not None and source in ("auto", name):
            return name, files[name]
    wanted = "pickle, .npy, wav or video" if source == "auto" else f"{source} file (INPUT.AUDIO.SOURCE)"
    raise AudioError(
        f"Clip '{record['clip_id']}' has no audio: there is no {wanted} for it; unpack the release's audio files, "
        "or set INPUT.AUDIO.SOURCE to auto."
    )


def probe_audio(record: Mapping, source: str = "auto", *, content: bool = True) -> float:
    """Seconds of audio that a clip has, without the work of making its log-mel.

    Args:
        record, source: as for ``load_log_mel``.
        content: read the samples or patches too; without it only the header, or whether the file is empty.

    Returns:
        seconds; infinity where that is known from the contents only and ``content`` is off.

    Raises:
        AudioError: as ``load_log_mel`` would.
    """
    name, path = choose_audio(record, source)
    read = _LOG_MEL[name]
    if read is not None:
        if content:
            return float(len(read(path)))
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise AudioError(f"Log-mel file {path} cannot be read ({error.strerror}); make it again.") from None
        if size == 0:
            raise AudioError(f"Log-mel file {path} is empty; make it again or set INPUT.AUDIO.SOURCE to wav.")
        return math.inf
    if not content:
        found = wav_seconds(path) if name == "wav" else video_audio_seconds(path)
        if found == 0:
            raise AudioError(f"Audio file {path} holds no samples; unpack or make it again.")
        return math.inf if found is None else found
    samples, rate = _SAMPLES[name](path)
    try:
        found = len(_usable(samples)) / rate
    except AudioError as error:
        raise AudioError(f"Audio file {path} {error}; unpack or make it again.") from None
    promised = video_audio_seconds(path) if name == "video" else None
    if promised is not None and found < promised - _MISSING:
        raise AudioError(
            f"The audio of video {path} ends after {found:.2f} s of {promised:.2f} s that its header promises; "
            "the file is damaged: copy or make it again."
        )
    return found


def samples_to_log_mel(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """(N,) or (N, ch) samples to (P, 1, 96, 64); audio too short for one patch is padded with silence.

    Raises:
        AudioError: there is no sample, or one is not finite.
    """
    return to_patches(log_mel_spectrogram(_at_least_one_patch(usable_16k(samples, sample_rate))))


def usable_16k(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """(N,) or (N, ch) samples as mono at 16 kHz.

    Raises:
        AudioError: there is no sample, one is not finite, or they are not of known scale; the sentence's end.
    """
    return resample_to_16k(_usable(samples), sample_rate)


def _at_least_one_patch(wave: np.ndarray) -> np.ndarray:
    return np.pad(wave, (0, max(0, MIN_SAMPLES - len(wave))))


def _usable(samples: np.ndarray) -> np.ndarray:
    wave = to_mono(samples)
    if len(wave) == 0:
        raise AudioError("holds no samples")
    peak = np.abs(wave).max()
    if not math.isfinite(peak):
        raise AudioError("holds samples that are not finite")
    if peak > MAX_PEAK:
        raise AudioError(
            f"holds samples up to {peak:.3g}, expected -1 to 1, so that it is not audio of known scale"
        )
    return wave


def _fit(log_mel: np.ndarray, num_seconds: int, fill: str) -> np.ndarray:
    missing = num_seconds - len(log_mel)
    if missing <= 0:
        return log_mel[:num_seconds]
    filling = np.repeat(log_mel[-1:], missing, axis=0)
    return np.concatenate([log_mel, filling if fill == "repeat" else np.zeros_like(filling)])


# In the order in which "auto" looks for them; None: from samples.
_LOG_MEL: dict[str, Callable[[str], np.ndarray] | None] = {
    "pickle": read_log_mel_pickle,
    "npy": read_log_mel_npy,
    "wav": None,
    "video": None,
}
_SAMPLES: dict[str, Callable[..., tuple[np.ndarray, int]]] = {"wav": read_wav, "video": read_video_audio}
