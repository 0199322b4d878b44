"""Clicks at known times, from every kind of file to the second the model reads."""

import pickle

import av
import numpy as np
import pytest
import soundfile
import torch

from ska_vct.data.audio.files import load_audio, samples_to_audio
from ska_vct.data.audio.log_mel import LOG_OFFSET, waveform_to_log_mel
from ska_vct.data.audio.time_line import patches_to_spectrogram, seconds

RATE = 16000


def clicks(num_seconds: int, rate: int = RATE) -> tuple[np.ndarray, list[float]]:
    """A click in every second, at a time of its own that patches of ten seconds hold too (9.6 s)."""
    times = [k + 0.15 + 0.04 * k for k in range(num_seconds)]
    wave = np.zeros(num_seconds * rate)
    for time in times:
        start = round(time * rate)
        wave[start : start + rate // 200] = 0.5 * np.sign(np.sin(np.arange(rate // 200)))
    return wave, times


def found_times(audio: np.ndarray) -> list[float]:
    """Where the loudest hop of each second lies, in the middle of its window."""
    energy = np.nan_to_num(audio[:, 0].sum(-1), nan=-1e9)
    return [k + (row.argmax() * 160 + 200) / RATE for k, row in enumerate(energy)]


def record(subset: str, **files) -> dict:
    paths = {"pickle": None, "npy": None} | {k: str(v) for k, v in files.items() if k in ("pickle", "npy")}
    return {
        "clip_id": "test/a", "subset": subset, "wav_path": files.get("wav") and str(files["wav"]),
        "video_path": files.get("video") and str(files["video"]), "log_mel_paths": paths,
    }  # fmt: skip


def write_video(path, wave):
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=5)
        pictures.width = pictures.height = 32
        track = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for _ in range(5 * len(wave) // RATE):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate = RATE
        container.mux(track.encode(frame))
        container.mux(track.encode(None))


@pytest.mark.parametrize(("subset", "num_seconds"), [("s4", 5), ("ms3", 5), ("avss", 10)])
@pytest.mark.parametrize("kind", ["wav", "video", "npy", "pickle"])
def test_a_click_is_found_in_its_own_second(tmp_path, subset, num_seconds, kind):
    wave, times = clicks(num_seconds)
    path = tmp_path / {"wav": "a.wav", "video": "a.mkv", "npy": "a.npy", "pickle": "a.pkl"}[kind]
    if kind == "wav":
        soundfile.write(path, wave, RATE, subtype="PCM_16")
    elif kind == "video":
        write_video(path, wave)
    elif kind == "npy":
        np.save(path, waveform_to_log_mel(wave, RATE))
    else:
        path.write_bytes(pickle.dumps(torch.from_numpy(waveform_to_log_mel(wave, RATE))))
    audio = load_audio(record(subset, **{kind: path}), num_seconds)
    assert audio.log_mel.shape == (num_seconds, 1, 96, 64) and audio.seconds.shape == (num_seconds, 1, 100, 64)
    # Windows of 25 ms, hops of 10 ms.
    np.testing.assert_allclose(found_times(audio.seconds), times, atol=0.02)
    # Hop by hop the same spectrogram as VGGish's patches hold, which run ahead of the clip's seconds.
    joined = audio.seconds.reshape(-1, 64)[: 96 * num_seconds]
    np.testing.assert_array_equal(joined, audio.log_mel.reshape(-1, 64))
    known = np.isfinite(audio.seconds).all(axis=(1, 3))
    assert known[:-1].all() and known[-1].sum() == (98 if kind in ("wav", "video") else 100 - 4 * num_seconds)


def test_filling_is_no_audio_and_silence_is():
    patches = np.random.default_rng(0).normal(size=(5, 1, 96, 64)).astype(np.float32)
    repeated = patches[[0, 1, 2, 2, 2]]
    zeros = np.concatenate([patches[:3], np.zeros((2, 1, 96, 64), np.float32)])
    for filled in (repeated, zeros):
        np.testing.assert_array_equal(patches_to_spectrogram(filled), patches[:3].reshape(-1, 64))
    silent = np.full((5, 1, 96, 64), np.log(LOG_OFFSET), np.float32)
    assert len(patches_to_spectrogram(silent)) == 480
    assert np.isnan(seconds(patches_to_spectrogram(repeated), 5)[3:]).all()


def test_short_audio_of_made_samples_is_silence_to_the_end():
    audio = samples_to_audio(0.1 * np.ones(RATE), RATE, 3)
    assert np.isfinite(audio.seconds).all() and audio.log_mel.shape == (3, 1, 96, 64)
    np.testing.assert_allclose(audio.seconds[2], np.log(LOG_OFFSET), rtol=1e-6)
