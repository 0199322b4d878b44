"""Of FFmpeg's decoders only those of the codecs that are named are ever started."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ska_vct.data.audio.files import load_audio
from ska_vct.data.images.video_frames import read_video_frame
from ska_vct.utils.media import video
from ska_vct.utils.media.audio import read_video_audio
from ska_vct.utils.media.errors import AudioError, VideoError


def make_video(path: Path, codec: str, sound: str, *, rate: int = 16000) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5, width=32, height=32)
        stream.pix_fmt = stream.codec_context.codec.video_formats[0].name
        audio = container.add_stream(sound, rate=rate, layout="mono")
        for n in range(5):
            image = np.full((32, 32, 3), 40 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
        block = av.AudioFrame.from_ndarray(np.full((1, rate), 9000, np.int16), "s16", "mono")
        block.sample_rate, block.time_base = rate, Fraction(1, rate)
        context = audio.codec_context
        resampler = av.AudioResampler(context.format.name, "mono", rate, frame_size=context.frame_size)
        for part in (*resampler.resample(block), *resampler.resample(None)):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("codec, sound", [("mpeg4", "pcm_s16le"), ("ffv1", "mp2")])
def test_named_codecs_are_read(tmp_path, codec, sound):
    path = make_video(tmp_path / "x.mkv", codec, sound)
    assert read_video_frame(path, 0.5).shape == (32, 32, 3)
    assert read_video_audio(path)[0].max() > 0.2


def test_another_codec_of_frames_is_refused_by_its_name(tmp_path):
    path = make_video(tmp_path / "x.mkv", "snow", "pcm_s16le")
    with pytest.raises(VideoError, match=r"x\.mkv is of codec 'snow', which is not read; convert it to H\.264\.$"):
        read_video_frame(path, 0.5)


def test_another_codec_of_audio_is_refused(tmp_path):
    path = make_video(tmp_path / "x.mkv", "mpeg4", "wavpack")
    record = {"clip_id": "test/x", "subset": "ms3", "wav_path": None, "video_path": str(path), "log_mel_paths": {}}
    with pytest.raises(AudioError, match=r"x\.mkv is of a codec that is not read; convert it to AAC\.$"):
        load_audio(record, 1)


def make_growing_video(path: Path, width: int, height: int) -> Path:
    """Five frames at 5 per second, 32 x 32 pixels at first and then larger, which the header does not say."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5, width=32, height=32)
        large = av.CodecContext.create("mpeg4", "w")
        large.width, large.height, large.pix_fmt, large.time_base = width, height, "yuv420p", Fraction(1, 5)
        for n in range(5):
            context = stream if n < 2 else large
            image = np.full((context.height, context.width, 3), 40 * n, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 5)
            for packet in context.encode(frame):
                packet.stream = stream
                container.mux(packet)
    return path


def test_frames_cannot_grow_to_any_size_midway(tmp_path):
    path = make_growing_video(tmp_path / "x.mkv", 2560, 1440)
    assert read_video_frame(path, 0.9).shape == (1440, 2560, 3)
    path = make_growing_video(tmp_path / "y.mkv", 5120, 2880)
    with pytest.raises(VideoError, match=r"y\.mkv cannot be decoded"):
        read_video_frame(path, 0.9)


def test_eight_channels_are_read_each_from_its_own(tmp_path):
    # The conversion of PyAV 18.1 reads a ninth channel, which ends the process.
    path, levels = tmp_path / "x.mp4", np.linspace(0.1, 0.45, 8, dtype=np.float32)
    with av.open(str(path), "w") as container:
        audio = container.add_stream("alac", rate=48000, layout="7.1(wide)")
        for n in range(4):
            frame = av.AudioFrame(format="s16p", layout="7.1(wide)", samples=4096)
            frame.sample_rate, frame.pts = 48000, n * 4096
            for plane, level in zip(frame.planes[:8], levels, strict=True):
                plane.update(np.full(4096, round(level * 2**15), np.int16))
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    samples, rate = read_video_audio(path)
    assert rate == 48000 and samples.shape == (4 * 4096, 8)
    np.testing.assert_allclose(samples, np.broadcast_to(levels, samples.shape), atol=1e-4)


def test_more_channels_are_refused(tmp_path):
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("pcm_s16le", rate=16000, layout="hexadecagonal")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16 * 1600), np.int16), "s16", "hexadecagonal")
        frame.sample_rate = 16000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    with pytest.raises(AudioError, match="has 16 channels, expected 1 to 8; convert it to mono"):
        read_video_audio(path)


def test_opening_a_file_starts_no_other_decoder(tmp_path, monkeypatch):
    path = make_video(tmp_path / "x.mkv", "mpeg4", "pcm_s16le")
    opened = []

    def watched(*args, open=av.open, **options):
        opened.append(options)
        return open(*args, **options)

    monkeypatch.setattr(av, "open", watched)
    read_video_frame(path, 0.5)
    names = opened[0]["options"]["codec_whitelist"].split(",")
    assert {"h264", "hevc", "aac", "mpeg4", "pcm_s16le"} <= set(names)
    assert all(video.is_known(av.Codec(name, "r").canonical_name) for name in names)
