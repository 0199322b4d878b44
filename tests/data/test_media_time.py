"""Second k of the audio is second k of the frames, whatever the container, the codec and the time stamps.

Clips with clicks and changes of the image at known times are written in every form that FFmpeg can encode, and
looked for where training would see them: in the log-mel, in the frames of each second, and in the flow.
"""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from ska_vct.data.audio.files import load_audio, probe_audio, samples_to_log_mel
from ska_vct.data.flow.frame_pairs import read_video_pairs
from ska_vct.data.flow.methods.base import DisFlow, field_times, pair_flow
from ska_vct.data.images.video_frames import frame_of_video, read_video_frame, split_fragment
from ska_vct.utils.media.audio import read_video_audio
from ska_vct.utils.media.errors import AudioError

CLICKS = (1.25, 2.5, 3.25)
SECONDS, FPS, SIDE = 4, 20, 64
JUMP = 2.0  # the texture rests, then moves 1 pixel per frame
# ending: video codec, audio codec, rate. AVI has no time stamps, so that nothing can begin late in it.
FORMS = {
    "mp4-aac": ("mp4", "libx264", "aac", 16000),
    "mp4-aac-44100": ("mp4", "libx264", "aac", 44100),
    "mp4-mp3": ("mp4", "libx264", "libmp3lame", 44100),
    "mov-pcm": ("mov", "libx264", "pcm_s16le", 16000),
    "mov-aac": ("mov", "mpeg4", "aac", 48000),
    "mkv-aac": ("matroska", "libx264", "aac", 44100),
    "mkv-opus": ("matroska", "libx264", "libopus", 48000),
    "mkv-flac": ("matroska", "libx264", "flac", 44100),
    "mkv-pcm": ("matroska", "mpeg4", "pcm_s16le", 16000),
    "webm-opus": ("webm", "libvpx", "libopus", 48000),
    "ts-aac": ("mpegts", "libx264", "aac", 48000),
    "avi-pcm": ("avi", "mpeg4", "pcm_s16le", 16000),
    "avi-mp3": ("avi", "mpeg4", "libmp3lame", 44100),
}


def frame_at(time: float) -> np.ndarray:
    """Texture that moves left after JUMP, with the second's number as the brightness of a border."""
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(60, 200, (SIDE // 4, 64)), np.ones((4, 4)))
    shift = round(max(0.0, time - JUMP) * FPS)
    image = wide[:, shift : shift + SIDE].astype(np.uint8).copy()
    image[:8] = 40 + 50 * int(time + 1e-6)
    return np.repeat(image[..., None], 3, axis=2)


def samples_from(start: float, rate: int) -> np.ndarray:
    """Quiet noise with clicks of 4 ms, from ``start`` to the clip's end, int16 (1, n)."""
    times = np.arange(round(start * rate), SECONDS * rate) / rate
    wave = np.random.default_rng(1).normal(0, 5, len(times))
    for click in CLICKS:
        inside = (times >= click) & (times < click + 0.004)
        wave[inside] = 20000 * np.sign(np.sin(2 * np.pi * 2000 * times[inside]))
    return wave.astype(np.int16)[None]


def write_clip(path, form, *, zero=0.0, audio_start=0.0, frame_times=None) -> str:
    """A clip whose first frame has time stamp ``zero``, and whose audio begins ``audio_start`` after it."""
    container_name, video_codec, audio_codec, rate = FORMS[form]
    with av.open(str(path), "w", format=container_name) as container:
        try:
            video = container.add_stream(video_codec, rate=FPS)
            audio = container.add_stream(audio_codec, rate=rate, layout="mono")
        except (av.FFmpegError, ValueError) as error:
            pytest.skip(f"this FFmpeg cannot write {form}: {error}")
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for time in frame_times or [n / FPS for n in range(SECONDS * FPS)]:
            frame = av.VideoFrame.from_ndarray(frame_at(time), format="rgb24")
            frame.pts, frame.time_base = round((zero + time) * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(samples_from(audio_start, rate), format="s16", layout="mono")
        block.sample_rate, block.time_base = rate, Fraction(1, rate)
        block.pts = round((zero + audio_start) * rate)
        resampler = av.AudioResampler(
            format=audio.codec_context.format.name,
            layout="mono",
            rate=rate,
            frame_size=audio.codec_context.frame_size,
        )
        for part in (*resampler.resample(block), *resampler.resample(None)):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return str(path)


def record_of(**paths) -> dict:
    return {
        "clip_id": "test/a", "subset": "ms3", "wav_path": None, "video_path": None,
        "log_mel_paths": {"pickle": None, "npy": None}, **paths,
    }  # fmt: skip


def clicks_in(log_mel: np.ndarray) -> list[float]:
    """Seconds at which the hops (M, 64) jump up; windows of 25 ms show a click from 15 ms before."""
    loud = np.nan_to_num(log_mel, nan=-5).mean(axis=1)
    above = loud > (np.median(loud) + loud.max()) / 2
    starts = np.flatnonzero(above & ~np.roll(above, 1))
    return [(start * 160 + 400 - 160) / 16000 for start in starts]


def check_audio(record: dict, tolerance: float = 0.021) -> None:
    audio = load_audio(record, SECONDS)
    assert clicks_in(audio.seconds.reshape(-1, 64)) == pytest.approx(CLICKS, abs=tolerance)
    for click in CLICKS:  # each lies in its own second
        second = audio.seconds[int(click), 0]
        assert np.nanargmax(second.mean(axis=1)) / 100 == pytest.approx(click % 1, abs=tolerance)


def check_images(path: str) -> None:
    for second in range(SECONDS):
        image = read_video_frame(*split_fragment(frame_of_video(path, second)))
        assert abs(int(image[2:6].mean()) - (40 + 50 * second)) < 15, second
    pairs = read_video_pairs(path, field_times(SECONDS, 10))
    flow = np.abs(pair_flow(pairs, DisFlow(), (8, 8))[:, :, 0, 3:-2, 2:-2]).mean(axis=(2, 3)).ravel()
    assert (flow[:19] < 4).all() and (flow[21:38] > 10).all()


def starts_of(form: str) -> list[tuple[float, float]]:
    if form.startswith("avi"):
        return [(0.0, 0.0)]
    return [(0.0, 0.0), (0.0, 0.9), (3.0, 0.0), (3.0, 0.5), (3.0, -0.4)]


CASES = [(form, *start) for form in FORMS for start in starts_of(form)]


@pytest.mark.parametrize(("form", "zero", "audio_start"), CASES)
def test_clicks_and_jumps_are_where_they_were_put(tmp_path, form, zero, audio_start):
    path = write_clip(tmp_path / f"x.{form.partition('-')[0]}", form, zero=zero, audio_start=audio_start)
    # AVI cannot say that an MP3 encoder puts 1105 samples, 25 ms, before its signal.
    check_audio(record_of(video_path=path), 0.031 if form == "avi-mp3" else 0.021)
    check_images(path)


@pytest.mark.parametrize("form", ["mp4-aac", "mkv-opus", "mov-pcm"])
def test_a_variable_frame_rate_changes_no_second(tmp_path, form):
    times = sorted({0.0, 0.05, 0.1, *np.arange(0.15, 1, 0.1), *np.arange(1, 1.9, 0.15), *np.arange(1.9, 4, 0.05)})
    path = write_clip(tmp_path / f"x.{form.partition('-')[0]}", form, frame_times=[round(t, 3) for t in times])
    check_audio(record_of(video_path=path))
    check_images(path)


def test_wav_npy_and_pickle_agree_with_the_video(tmp_path):
    import pickle

    import torch

    samples = samples_from(0.0, 16000)[0]
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="PCM_16")
    check_audio(record_of(wav_path=str(tmp_path / "x.wav")))
    patches = samples_to_log_mel(samples, 16000)
    np.save(tmp_path / "x.npy", patches)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(torch.from_numpy(patches)))
    for kind in ("npy", "pkl"):
        paths = {"pickle": None, "npy": None, {"pkl": "pickle"}.get(kind, kind): str(tmp_path / f"x.{kind}")}
        found = load_audio(record_of(log_mel_paths=paths), SECONDS).seconds.reshape(-1, 64)
        assert clicks_in(found) == pytest.approx(CLICKS, abs=0.021)


def test_silence_is_filled_in_before_a_late_track_and_nowhere_else(tmp_path):
    path = write_clip(tmp_path / "x.mov", "mov-pcm", audio_start=0.9)
    samples, rate = read_video_audio(path)
    assert not samples[: round(0.9 * rate)].any() and samples[round(0.9 * rate) : rate].any()
    assert len(samples) == SECONDS * rate and probe_audio(record_of(video_path=path)) == SECONDS


def test_a_video_that_was_cut_off_holds_less_than_it_promises(tmp_path):
    whole = write_clip(tmp_path / "x.mkv", "mkv-pcm")
    front = tmp_path / "front.mp4"
    with av.open(whole) as source, av.open(str(front), "w", options={"movflags": "faststart"}) as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams.video}
        audio = target.add_stream("aac", rate=16000, layout="mono")
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream in streams:
                packet.stream = streams[packet.stream]
                target.mux(packet)
            else:
                for frame in packet.decode():
                    frame.pts = None if frame.pts is None else frame.pts
                    target.mux(audio.encode(frame))
        target.mux(audio.encode(None))
    record = record_of(video_path=str(front))
    assert probe_audio(record) == pytest.approx(SECONDS, abs=0.1)
    front.write_bytes(front.read_bytes()[: int(0.6 * front.stat().st_size)])
    with pytest.raises(AudioError, match=r"front\.mp4 .*(ends after|cannot be decoded)"):
        probe_audio(record)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_a_streamed_wav_promises_nothing_and_a_cut_one_is_damaged(tmp_path, size):
    path = tmp_path / "x.wav"
    soundfile.write(path, samples_from(0.0, 16000)[0], 16000, subtype="PCM_16")
    data = path.read_bytes()
    at = data.index(b"data") + 4
    record = record_of(wav_path=str(path))
    if size:  # libsndfile takes a size of 0 for an empty file
        path.write_bytes(data[:at] + size.to_bytes(4, "little") + data[at + 4 :])
        assert probe_audio(record) == SECONDS
        check_audio(record)
    path.write_bytes(data[: len(data) // 2])
    for content in (True, False):
        with pytest.raises(AudioError, match=r"x\.wav is damaged: it holds \d+ of the 128000 bytes"):
            probe_audio(record, content=content)
