"""Videos as people have them are segmented, or refused in one sentence that names the file."""

import errno
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from ska_vct.utils.errors import SkaVctError


@pytest.fixture
def segment(predictor):
    return lambda path, **options: predictor.segment(path, **options)


def test_a_phone_held_upright(segment, make_video, tmp_path):
    path = make_video(tmp_path / "phone.mp4")
    data = bytearray(path.read_bytes())
    # The display matrix of the first track: version 0 of its header has 40 bytes before it, 16.16 fixed point.
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    found = segment(path)
    assert found.size == (64, 48) and found.previews.shape == (2, 64, 48, 3)


def test_a_variable_frame_rate(segment, make_video, tmp_path):
    """Two frames in the first second, a pause of 2 s, then many: the seconds are those of the time stamps."""
    times = [0.0, 0.5, 2.5, *np.arange(2.6, 4.0, 0.05)]
    found = segment(make_video(tmp_path / "vfr.mkv", times=times, audio=4.0))
    assert found.times.tolist() == [0.9375, 1.9375, 2.9375, 3.9375]
    np.testing.assert_array_equal(found.previews[0], found.previews[1])
    assert np.abs(found.previews[1].astype(int) - found.previews[2]).max() > 50


@pytest.mark.parametrize(("late", "first"), [(1.0, -100.0), (-1.0, -11.0)])
def test_tracks_that_begin_late(segment, make_video, tmp_path, late, first):
    """Time begins with the first frame: audio that begins a second later is silent until then."""
    found = segment(make_video(tmp_path / "late.mkv", late=late, audio=3.0))
    assert len(found.times) == 2
    assert found.audio_level[0] == pytest.approx(first, abs=6) and found.audio_level[1] == pytest.approx(
        -11, abs=2
    )


def test_audio_that_ends_early_is_followed_by_silence(segment, make_video, tmp_path):
    found = segment(make_video(tmp_path / "short.mp4", seconds=3, audio=1.0))
    assert found.audio_level[0] > -13 and found.audio_level[2] == -100


def test_several_tracks(segment, make_video, tmp_path):
    found = segment(make_video(tmp_path / "tracks.mkv", tracks=(2, 2)))
    assert len(found.times) == 2 and found.audio_level[0] == pytest.approx(-11, abs=2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deep.mp4", {"pix_fmt": "yuv420p10le"}),
        ("full.mp4", {"pix_fmt": "yuv444p"}),
        ("odd.mkv", {"pix_fmt": "yuv444p", "size": (47, 61)}),
        ("odd.avi", {"codec": "mpeg4", "size": (49, 63), "audio_codec": "libmp3lame"}),
        ("tall.webm", {"codec": "libvpx", "size": (130, 20), "audio_codec": "libopus"}),
        ("fast.mp4", {"fps": 120}),
        ("slow.mp4", {"fps": 1, "seconds": 3}),
    ],
)
def test_formats_and_sizes(segment, make_video, tmp_path, name, options):
    found = segment(make_video(tmp_path / name, **options))
    assert found.size == options.get("size", (48, 64)) and found.remarks == ()
    assert len(found.times) == options.get("seconds", 2)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_shown_as_sdr(segment, make_video, tmp_path, transfer):
    """The same values are other light than in SDR; what is grey stays grey."""
    words = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    plain = make_video(tmp_path / "plain.mp4", pix_fmt="yuv420p10le")
    hdr = make_video(tmp_path / "hdr.mp4", pix_fmt="yuv420p10le", options={"x264-params": words})
    sdr, found = segment(plain).previews[0], segment(hdr).previews[0]
    grey = found[40:, :].astype(int)
    assert np.ptp(grey, 2).mean() < 5, "but for what the codec does to colours"
    assert np.abs(grey - sdr[40:]).mean() > 10
    # 160 of 255 is brighter than the eye's middle grey in PQ, and about that in HLG.
    assert {"smpte2084": 200, "arib-std-b67": 150}[transfer] < grey[:, -1].mean() < 250


@pytest.mark.parametrize(("seconds", "frames"), [(0.1, 1), (1.0, 1), (1.4, 1), (1.6, 2)])
def test_short_videos(segment, make_video, tmp_path, seconds, frames):
    found = segment(make_video(tmp_path / "short.mp4", seconds=seconds))
    assert len(found.labels) == frames
    if seconds == 0.1:
        assert not found.motion_map.any(), "a single frame shows no motion"


def test_names_with_blanks_and_other_letters(segment, make_video, tmp_path):
    found = segment(make_video(tmp_path / "mein Vidéo 動画 #1 %20?.mp4"))
    assert found.name == "mein Vidéo 動画 #1 %20?"


def test_a_video_that_was_cut_off_is_segmented_as_far_as_it_goes(segment, make_video, tmp_path):
    path = make_video(tmp_path / "cut.mkv", seconds=6)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = segment(path)
    assert 1 <= len(found.times) < 6
    assert any("cut.mkv end after" in remark for remark in found.remarks)


def test_some_damaged_packets_are_passed_over(segment, make_video, tmp_path):
    path = make_video(tmp_path / "noise.ts", seconds=4)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    assert len(segment(path).times) >= 3


def only_audio(path):
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))


def without_index(path, make_video):
    make_video(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def encrypted(path, make_video):
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    make_video(
        path,
        container={
            "encryption_scheme": "cenc-aes-ctr", "encryption_key": key,
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("sound.m4a", lambda path, _: only_audio(path), "no video stream"),
        ("moov.mp4", without_index, "cannot be decoded"),
        ("secret.mp4", encrypted, "is encrypted; name a copy without protection"),
        ("letter.mp4", lambda path, _: path.write_text("Dear Sir or Madam"), "cannot be decoded"),
        ("empty.mp4", lambda path, _: path.write_bytes(b""), "cannot be decoded"),
        ("folder.mp4", lambda path, _: path.mkdir(), "is a folder"),
        ("none.mp4", lambda path, _: None, "There is no video"),
    ],
)
def test_what_is_not_a_video_is_one_sentence(segment, make_video, tmp_path, name, make, words):
    make(tmp_path / name, make_video)
    with pytest.raises(SkaVctError, match=words) as caught:
        segment(tmp_path / name, no_audio=True)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_addresses_are_not_opened(segment):
    for address in ("https://example.com/a.mp4", "rtsp://camera/1", "concat://a|b"):
        with pytest.raises(SkaVctError, match="is an address; download the file"):
            segment(address)
    with pytest.raises(SkaVctError, match="'https://example.com/a.mp4' is an address; download the file"):
        segment(Path("https://example.com/a.mp4"))


def test_a_file_that_may_not_be_read(segment, make_video, tmp_path, monkeypatch):
    path = make_video(tmp_path / "mine.mp4")

    def refuse(*args, **options):
        raise av.error.PermissionError(errno.EACCES, "Permission denied", "mine.mp4")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(SkaVctError, match="mine.mp4 cannot be read .Permission denied.; change its permissions"):
        segment(path)
