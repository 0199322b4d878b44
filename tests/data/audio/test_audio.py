import math
import os
import pickle
import sys

import av
import numpy as np
import pytest
import soundfile
import torch

from ska_vct.data.audio import log_mel as audio
from ska_vct.data.audio.files import load_log_mel, probe_audio
from ska_vct.data.audio.log_mel import apply_gain, to_mono, waveform_to_log_mel
from ska_vct.data.audio.log_mel_files import read_log_mel_pickle
from ska_vct.utils.array_pickle import UnsafePickleError, load_arrays
from ska_vct.utils.media.audio import read_video_audio
from ska_vct.utils.media.errors import AudioError


@pytest.fixture(scope="module")
def golden(goldens):
    with np.load(goldens / "vggish.npz") as arrays:
        wanted = [name for name in arrays.files if not name.startswith("state/")]
        return {name: arrays[name] for name in wanted}


@pytest.fixture
def record(tmp_path):
    wav = tmp_path / "a.wav"
    samples = np.random.default_rng(1).integers(-9000, 9000, (80000, 1)).astype(np.int16)
    soundfile.write(wav, samples, 16000, subtype="PCM_16")
    return {
        "clip_id": "test/a", "subset": "ms3", "wav_path": str(wav), "video_path": None,
        "log_mel_paths": {"pickle": None, "npy": None},
    }  # fmt: skip


def relative(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


@pytest.mark.parametrize("kind", ["mono16k", "stereo44k"])
def test_equals_published_front_end(golden, kind):
    wave, rate = golden[f"in/wav_{kind}"], int(golden[f"in/sr_{kind}"])
    patches = waveform_to_log_mel(to_mono(wave), rate)
    assert patches.shape == (5, 1, 96, 64) and patches.dtype == np.float32
    # Measured 0: the same numbers in another order of work; float32's last place is 1e-7.
    assert relative(patches, golden[f"out/log_mel_examples_{kind}"]) < 1e-6
    wave16k = audio.resample_to_16k(audio.to_mono(wave), rate)
    assert relative(audio.log_mel_spectrogram(wave16k), golden[f"mid/log_mel_{kind}"]) < 1e-9


def test_parts_equal_published_ones(golden):
    assert np.abs(audio.mel_matrix() - golden["mid/mel_matrix"]).max() < 1e-12
    assert np.abs(audio.hann_window() - golden["mid/hann400"]).max() < 1e-12
    wave = audio.to_mono(golden["in/wav_stereo44k"])
    assert np.abs(audio.resample_to_16k(wave, 44100) - golden["mid/resampled16k_stereo44k"]).max() < 1e-9


def test_one_cell_by_hand():
    """One frame's DFT bin by bin and its bands triangle by triangle, from the definition in docs/data.md."""
    wave = np.random.default_rng(3).standard_normal(400) * 0.1
    windowed = [wave[n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / 400)) for n in range(400)]
    got = audio.log_mel_spectrogram(wave)
    assert got.shape == (1, 64)

    def mel(hertz):
        return 2595 * math.log10(1 + hertz / 700)

    step = (mel(7500) - mel(125)) / 65
    for band in (0, 20, 63):
        peak = mel(125) + (band + 1) * step
        total = 0.0
        for bin_index in range(1, 257):
            weight = 1 - abs(mel(bin_index * 16000 / 512) - peak) / step
            if weight > 0:
                angles = [2 * math.pi * bin_index * n / 512 for n in range(400)]
                real = sum(x * math.cos(a) for x, a in zip(windowed, angles, strict=True))
                imaginary = sum(x * math.sin(a) for x, a in zip(windowed, angles, strict=True))
                total += weight * math.hypot(real, imaginary)
        # 2595 log10 and 1127 ln differ in the fifth digit.
        assert got[0, band] == pytest.approx(math.log(total + 0.01), abs=2e-4)


def test_silence_and_lengths():
    assert np.allclose(waveform_to_log_mel(np.zeros(160000), 16000), math.log(0.01))
    # 10 s: 998 frames, 10 patches; 15600 samples are the first to fill one.
    assert waveform_to_log_mel(np.zeros(160000), 16000).shape == (10, 1, 96, 64)
    assert [len(waveform_to_log_mel(np.zeros(n), 16000)) for n in (300, 15599, 15600)] == [0, 0, 1]


def test_integers_and_floats_and_channels_agree():
    wave = np.random.default_rng(0).integers(-32768, 32767, (20000, 2)).astype(np.int16)
    expected = waveform_to_log_mel(to_mono(wave), 16000)
    floats = wave.astype(np.float64) / 32768
    assert np.array_equal(waveform_to_log_mel(to_mono(floats), 16000), expected)
    assert np.array_equal(waveform_to_log_mel(to_mono(floats.mean(axis=1)), 16000), expected)


def test_16_khz_needs_no_resampler(monkeypatch):
    monkeypatch.setitem(sys.modules, "resampy", None)
    assert len(waveform_to_log_mel(np.zeros(16000), 16000)) == 1
    with pytest.raises(ImportError):
        waveform_to_log_mel(np.zeros(16000), 44100)


@pytest.mark.parametrize("decibels", [-6.0, 6.0])
def test_gain_is_that_of_the_waveform(decibels):
    wave = np.random.default_rng(0).standard_normal(32000) * 0.02
    quiet = waveform_to_log_mel(wave, 16000)
    expected = waveform_to_log_mel(wave * 10 ** (decibels / 20), 16000)
    # float32 cancels digits where mel is small beside 0.01: about 1e-7 / 1e-2.
    assert np.abs(apply_gain(quiet, decibels) - expected).max() < 1e-4
    filling = np.zeros((1, 1, 96, 64), np.float32)
    assert np.array_equal(apply_gain(filling, decibels), filling)
    silence = np.full((1, 1, 96, 64), math.log(0.01), np.float32)
    assert np.allclose(apply_gain(silence, decibels), silence)


def test_sources_and_their_order(record, tmp_path):
    from_wav = load_log_mel(record, 5)
    assert np.array_equal(from_wav, waveform_to_log_mel(to_mono(soundfile.read(record["wav_path"])[0]), 16000))
    np.save(tmp_path / "a.npy", np.full((5, 1, 96, 64), 2, np.float32))
    record["log_mel_paths"]["npy"] = str(tmp_path / "a.npy")
    assert (load_log_mel(record, 5) == 2).all()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(torch.full((5, 1, 96, 64), 3.0, requires_grad=True)))
    record["log_mel_paths"]["pickle"] = str(tmp_path / "a.pkl")
    assert (load_log_mel(record, 5) == 3).all()
    assert (load_log_mel(record, 5, "npy") == 2).all()
    assert np.array_equal(load_log_mel(record, 5, "wav"), from_wav)
    with pytest.raises(AudioError, match="INPUT.AUDIO.SOURCE is 'mp3'; choose one of auto, pickle, npy, wav"):
        load_log_mel(record, 5, "mp3")


def test_shorter_sound_is_filled_as_each_release_does(record):
    soundfile.write(record["wav_path"], np.random.default_rng(0).standard_normal(48000) * 0.1, 16000)
    repeated = load_log_mel(record, 5)
    assert repeated.shape[0] == 5 and np.array_equal(repeated[3], repeated[2]) and np.ptp(repeated[2]) > 0
    assert not np.array_equal(repeated[1], repeated[2])
    zeros = load_log_mel({**record, "subset": "avss"}, 5)
    assert np.array_equal(zeros[:3], repeated[:3]) and not zeros[3:].any()
    assert np.array_equal(load_log_mel(record, 2), repeated[:2])


def test_less_than_one_patch_is_completed_by_silence(record):
    soundfile.write(record["wav_path"], np.full(8000, 0.5), 16000)
    patch = load_log_mel(record, 1)
    assert patch.shape == (1, 1, 96, 64) and np.allclose(patch[0, 0, 60:], math.log(0.01))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("auto", "Clip 'test/a' has no audio: there is no pickle, .npy, wav or video"),
        ("npy", r"Clip 'test/a' has no audio: there is no npy file \(INPUT.AUDIO.SOURCE\)"),
    ],
)
def test_no_sound_at_all(record, source, message):
    with pytest.raises(AudioError, match=message):
        load_log_mel({**record, "wav_path": None}, 5, source)


def test_unusable_sound_names_the_file(record, tmp_path):
    wav = record["wav_path"]
    with open(wav, "wb") as file:
        file.write(b"not a wav")
    with pytest.raises(AudioError, match="Audio file .*a.wav is not a wav file"):
        load_log_mel(record, 5)
    soundfile.write(wav, np.zeros(0), 16000)
    with pytest.raises(AudioError, match="a.wav holds no samples; unpack or make it again"):
        load_log_mel(record, 5)
    np.save(tmp_path / "a.npy", np.zeros((5, 96, 64), np.float32))
    with pytest.raises(
        AudioError, match=r"a.npy is float32 \(5, 96, 64\), expected floats \(seconds, 1, 96, 64\)"
    ):
        load_log_mel({**record, "log_mel_paths": {"npy": str(tmp_path / "a.npy")}}, 5)
    np.save(tmp_path / "a.npy", np.full((5, 1, 96, 64), np.nan, np.float32))
    with pytest.raises(AudioError, match="a.npy holds values that are not finite"):
        load_log_mel({**record, "log_mel_paths": {"npy": str(tmp_path / "a.npy")}}, 5)
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(AudioError, match="a.npy cannot be read"):
        load_log_mel({**record, "log_mel_paths": {"npy": str(tmp_path / "a.npy")}}, 5)


def test_sound_of_a_video(record, tmp_path):
    path, rate = tmp_path / "a.mp4", 44100
    tone = np.sin(2 * np.pi * 1000 * np.arange(3 * rate) / rate).astype(np.float32) * 0.5
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        for start in range(0, len(tone), 1024):
            chunk = np.ascontiguousarray(np.stack([tone[start : start + 1024]] * 2))
            frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples, found_rate = read_video_audio(path)
    assert found_rate == rate and samples.shape[1] == 2 and abs(len(samples) - 3 * rate) < 4096
    log_mel = load_log_mel({**record, "wav_path": None, "video_path": str(path)}, 3)
    bands = log_mel[1, 0].mean(axis=0)
    # 1000 Hz lies in the triangle whose peak is nearest in mel.
    peaks = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)[1:-1]
    assert abs(int(bands.argmax()) - int(np.abs(peaks - 1127 * np.log1p(1000 / 700)).argmin())) <= 1


def test_video_without_sound_says_so(record, tmp_path):
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width = stream.height = 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="silent.mp4 has no audio track"):
        load_log_mel({**record, "wav_path": None, "video_path": str(path)}, 5)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_tensors_arrays_and_containers(tmp_path, protocol):
    path = tmp_path / "x.pkl"
    values = {
        "t": torch.randn(3, 4).requires_grad_(),
        "a": np.arange(4.0),
        "s": np.float32(2),
        "l": [1, (2, None)],
    }
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    got = load_arrays(path.read_bytes())
    assert torch.equal(got["t"], values["t"]) and not got["t"].requires_grad
    assert np.array_equal(got["a"], values["a"]) and got["s"] == 2 and got["l"] == values["l"]
    torch.save(torch.ones(2), path)
    assert torch.equal(load_arrays(path.read_bytes()), torch.ones(2))


class Malicious:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_that_run_code_are_refused(tmp_path, record):
    proof, path = tmp_path / "proof", tmp_path / "x.pkl"
    code = Malicious(os.mkdir, str(proof))
    hidden = Malicious(torch.storage._load_from_bytes, pickle.dumps(code))
    for value, message in (
        (code, "asks for '(posix|nt).mkdir'"),
        ([torch.ones(1), code], "mkdir"),
        (hidden, "holds more than a tensor's numbers|asks for 'torch.storage._load_from_bytes'"),
        (eval, "builtins.eval"),
        (Malicious(torch.load, str(path)), "torch.serialization.load"),
        (np.load, "numpy.load"),
    ):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(UnsafePickleError, match=message):
            load_arrays(path.read_bytes())
        with pytest.raises(AudioError, match="x.pkl"):
            load_log_mel({**record, "log_mel_paths": {"pickle": str(path)}}, 5)
    assert not proof.exists()
    # The same pickle does run code in the ordinary unpickler: the test can fail.
    pickle.loads(pickle.dumps(code))
    assert proof.exists()


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps(torch.ones(1000))[:-300]])
def test_broken_pickles_name_the_file(tmp_path, data):
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(
        AudioError,
        match="x.pkl cannot be read: it is (broken|empty).*make it again or set INPUT.AUDIO.SOURCE to wav",
    ):
        read_log_mel_pickle(tmp_path / "x.pkl")


def test_pickle_of_something_else(record, tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(AudioError, match="x.pkl holds a dict, expected a tensor"):
        load_log_mel({**record, "log_mel_paths": {"pickle": str(tmp_path / "x.pkl")}}, 5)


@pytest.mark.parametrize("depth", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 16000), (2, 48000), (6, 22050)])
def test_wav_of_any_rate_channels_and_depth(record, depth, channels, rate):
    """The same chord, written in every way, gives the same log-mel up to what the depth leaves of it."""
    seconds, record["wav_path"] = 2, record["wav_path"].replace("a.wav", "chord.wav")

    def chord(rate: int) -> np.ndarray:
        times = np.arange(seconds * rate) / rate
        return 0.3 * np.sin(2 * np.pi * 440 * times) + 0.2 * np.sin(2 * np.pi * 1320 * times)

    soundfile.write(record["wav_path"], np.stack([chord(rate)] * channels, axis=1), rate, subtype=depth)
    got, want = load_log_mel(record, seconds), waveform_to_log_mel(chord(16000), 16000)
    # Where the chord is loud; 8 bits leave noise in the quiet bands.
    loud = want > 0
    assert loud.sum() > 500 and np.abs(got - want)[loud].max() < 0.1
    assert probe_audio(record) == pytest.approx(seconds) == probe_audio(record, content=False)


@pytest.mark.parametrize(
    "form, subtype", [("WAVEX", "PCM_16"), ("WAVEX", "FLOAT"), ("WAV", "ULAW"), ("WAV", "ALAW")]
)
def test_samples_that_stand_one_by_one_are_read(record, form, subtype):
    soundfile.write(record["wav_path"], np.linspace(-0.5, 0.5, 32000), 16000, subtype=subtype, format=form)
    assert load_log_mel(record, 2, "wav").shape == (2, 1, 96, 64)


@pytest.mark.parametrize("subtype, number", [("IMA_ADPCM", 17), ("MS_ADPCM", 2), ("GSM610", 49)])
def test_compressed_wavs_never_reach_the_decoder(record, monkeypatch, subtype, number):
    soundfile.write(record["wav_path"], np.linspace(-0.5, 0.5, 32000), 16000, subtype=subtype, format="WAV")
    monkeypatch.setattr(soundfile, "SoundFile", lambda *args, **kwargs: pytest.fail("opened"))
    for read in (lambda: load_log_mel(record, 2, "wav"), lambda: probe_audio(record, "wav", content=False)):
        with pytest.raises(
            AudioError, match=rf"\.wav is compressed \(format {number}\), which is not read; convert"
        ):
            read()
