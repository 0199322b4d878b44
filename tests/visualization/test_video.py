"""Videos: reopened with PyAV, they hold the right images at the right time, and the audio."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from ska_vct.visualization import write_overlay_video
from ska_vct.visualization.video import video_frame_size

RATE = 16000


def tone(seconds: float, *, channels: int = 1, rate: int = RATE) -> np.ndarray:
    wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, 1).astype(np.float32)


def frames_and_labels(num_frames: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Grey frames that get lighter; the object is left in even seconds and right in odd ones."""
    frames = np.stack([np.full((60, 80, 3), 60 + 50 * t, np.uint8) for t in range(num_frames)])
    labels = np.zeros((num_frames, 28, 28), np.int64)
    labels[0::2, :, :14] = 1
    labels[1::2, :, 14:] = 1
    return frames, labels


def read(path) -> tuple[list[tuple[float, np.ndarray]], np.ndarray, int]:
    with av.open(str(path)) as container:
        images = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        audio = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    return images, audio, rate


def orange_side(image: np.ndarray) -> str:
    """Where the overlay is: red over blue."""
    difference = image[..., 0].astype(int) - image[..., 2]
    half = image.shape[1] // 2
    left, right = difference[:, 10 : half - 10].mean(), difference[:, half + 10 : -10].mean()
    assert abs(left - right) > 40
    return "left" if left > right else "right"


def test_held_frames_with_sound(tmp_path):
    frames, labels = frames_and_labels()
    path = tmp_path / "video.mp4"
    write_overlay_video(path, frames, labels, audio=tone(3), sample_rate=RATE, captions=False)
    images, audio, rate = read(path)
    assert len(images) == 3 * 8
    assert images[0][1].shape == (320, 426, 3), "enlarged, even sizes"
    for time, image in images:
        assert orange_side(image) == ["left", "right", "left"][int(time)]
        clear = image[:, -100:] if int(time) != 1 else image[:, :100]
        assert abs(clear.mean() - (60 + 50 * int(time))) < 6, "the frame of that second"
    assert rate == RATE and abs(audio.shape[1] / rate - 3) < 0.15  # AAC adds up to two blocks
    # 440 Hz is the strongest frequency
    spectrum = np.abs(np.fft.rfft(audio[0, RATE : 2 * RATE]))
    assert abs(int(spectrum.argmax()) - 440) <= 1 and np.abs(audio).max() == pytest.approx(0.4, abs=0.1)
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"]


@pytest.mark.parametrize("channels, rate", [(2, 44100), (6, 22000), (1, 96000)])
def test_sound_of_any_kind(tmp_path, channels, rate):
    frames, labels = frames_and_labels(1)
    soundfile.write(tmp_path / "sound.wav", tone(1.5, channels=channels, rate=rate), rate)
    write_overlay_video(tmp_path / "video.mp4", frames, labels, audio=tmp_path / "sound.wav")
    _, audio, video_rate = read(tmp_path / "video.mp4")
    assert audio.shape[0] == (channels if channels <= 2 else 1), "more than two channels are mixed to one"
    assert abs(audio.shape[1] / video_rate - 1) < 0.15, "no longer than the images"
    assert np.abs(audio).max() > 0.3


def test_own_video_plays_below_the_predictions(tmp_path):
    """12 frames per second and shorter than the clip: its last frame is held."""
    brightness = np.linspace(40, 200, 30).astype(np.uint8)
    with av.open(str(tmp_path / "raw.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = 90, 120, "yuv420p"
        for value in brightness:
            image = np.full((90, 120, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    frames, labels = frames_and_labels()
    write_overlay_video(
        tmp_path / "video.mp4",
        frames,
        labels,
        audio=tone(3),
        sample_rate=RATE,
        video=tmp_path / "raw.mp4",
        captions=False,
    )
    images, _, _ = read(tmp_path / "video.mp4")
    assert len(images) == 36  # 3 s at 12 frames per second
    for index, (time, image) in enumerate(images):
        side = orange_side(image)
        assert side == ["left", "right", "left"][int(time + 1e-6)]
        clear = image[:, -100:] if side == "left" else image[:, :100]
        assert abs(clear.mean() - brightness[min(index, 29)]) < 8, "frame by frame, then the last one"


def test_truth_and_map_stand_beside_the_prediction(tmp_path):
    """Panels of 16:9; the truth is on the other side, and missing in the last second; the map is bright below."""
    frames, labels = frames_and_labels()
    truth = np.flip(labels, 2).copy()
    truth[2] = 255
    motion_map = np.zeros((3, 8, 8), np.float32)
    motion_map[:, 4:] = 1
    path = tmp_path / "a.mp4"
    write_overlay_video(
        path, frames, labels, audio=None, truth=truth, motion_map=motion_map, frame_size=(90, 160), fps=4
    )
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    width, gap, header, legend = 568, 6, 48, 52  # text grows with the width, up to 1.7 times
    assert images[0].shape == (header + 320 + legend, 3 * width + 2 * gap, 3)
    panels = [[image[header:-legend, k * (width + gap) :][:, :width] for k in range(3)] for image in images]
    assert [orange_side(prediction) for prediction, _, _ in panels[::4]] == ["left", "right", "left"]
    assert [orange_side(panel) for _, panel, _ in panels[:8:4]] == ["right", "left"]
    assert np.abs(panels[8][1].astype(int) - 223).max() < 25, "hatched grey"
    for _, _, panel in panels:
        assert panel[200:].mean() > panel[:120].mean() + 60
    # the time is printed, and runs
    clock = [image[:header, width - 110 : width].astype(int) for image in images]
    assert all((one < 140).sum() > 50 for one in clock)
    assert np.abs(clock[0] - clock[1]).max() > 60
    captions = [image[: header - 12, width + gap : width + 200].astype(int) for image in images]
    changed = [(np.abs(captions[0] - other) > 80).mean() for other in (captions[4], captions[8])]
    assert changed[0] == 0 and changed[1] > 0.01, "no ground truth"
    patch = images[0][-legend:, :60].reshape(-1, 3).astype(int)
    assert (np.abs(patch - (230, 159, 0)).max(1) < 30).sum() > 100, "the object's colour in the legend"


def write_video(path, images, *, audio=None, delay: float = 0.0) -> None:
    """10 frames per second that begin ``delay`` seconds after the audio."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        track = None if audio is None else container.add_stream("aac", rate=RATE, layout="mono")
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index + round(10 * delay), Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(audio.T.copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(track.encode(frame))
            container.mux(track.encode(None))


def test_a_video_stored_lying_down_is_shown_upright(tmp_path):
    """A quarter turn in the track header's matrix, as phones write it: the left half, red, is shown on top."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48, 0] = image[:, 48:, 2] = 200
    path = tmp_path / "phone.mp4"
    write_video(path, [image] * 10)
    assert video_frame_size(path) == (64, 96)
    data = bytearray(path.read_bytes())
    # version 0 of the header has 40 bytes before its matrix, 16.16 fixed point
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(data)
    assert video_frame_size(path) == (96, 64)
    frames, labels = frames_and_labels(1)
    write_overlay_video(tmp_path / "a.mp4", frames, labels * 0, audio=None, video=path, captions=False)
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert shown.shape == (480, 320, 3)
    top, bottom = shown[:200].mean((0, 1)), shown[-200:].mean((0, 1))
    assert top[0] > top[2] + 100 and bottom[2] > bottom[0] + 100


def test_a_clip_begins_with_the_first_frame_of_its_video(tmp_path):
    """The video begins 0.8 s after its audio, each frame lighter by 8: second 1 shows the frame of 1 s."""
    images = [np.full((64, 96, 3), 40 + 8 * index, np.uint8) for index in range(20)]
    path = tmp_path / "late.mp4"
    write_video(path, images, audio=tone(3), delay=0.8)
    frames, labels = frames_and_labels(2)
    write_overlay_video(tmp_path / "a.mp4", frames, labels * 0, audio=None, video=path, fps=10, captions=False)
    with av.open(str(tmp_path / "a.mp4")) as container:
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    want = [40 + 8 * index for index in range(20)]
    np.testing.assert_allclose(levels, want, atol=5)


def test_seconds_name_the_rows(tmp_path):
    """Rows for seconds 0 and 2 only: the first lasts two seconds."""
    frames, labels = frames_and_labels(2)
    write_overlay_video(tmp_path / "a.mp4", frames, labels, audio=tone(3), sample_rate=RATE, seconds=[0, 2])
    images, _, _ = read(tmp_path / "a.mp4")
    assert [orange_side(image) for _, image in images[4::8]] == ["left", "left", "right"]


def test_bad_input_leaves_no_file(tmp_path):
    frames, labels = frames_and_labels()
    path = tmp_path / "out" / "video.mp4"
    (tmp_path / "text.mp4").write_text("no video")
    soundfile.write(tmp_path / "only_sound.wav", tone(1), RATE)
    good = {"audio": tone(3), "sample_rate": RATE}
    cases = [
        ({"labels": labels[:2]} | good, ValueError, "one row per frame; there are 3 frames and 2 predictions"),
        ({"truth": labels[:1]} | good, ValueError, "3 frames and 1 ground truth"),
        ({"audio": tmp_path / "none.wav"}, FileNotFoundError, r"none\.wav' does not exist"),
        ({"audio": tmp_path / "text.mp4"}, ValueError, r"text\.mp4 is not a wav file"),
        ({"audio": tone(3)}, ValueError, "sample_rate"),
        ({"audio": tone(3) * np.nan, "sample_rate": RATE}, ValueError, "not finite"),
        (good | {"video": tmp_path / "none.mp4"}, FileNotFoundError, r"none\.mp4' does not exist"),
        (good | {"video": tmp_path / "text.mp4"}, ValueError, r"text\.mp4 cannot be decoded"),
        (good | {"video": tmp_path / "only_sound.wav"}, ValueError, "has no video stream"),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            write_overlay_video(path, frames, **({"labels": labels} | arguments))
        assert not path.exists() and not list(tmp_path.glob("out/*"))
