"""A tiny model, and videos as people have them, made with PyAV."""

from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import pytest
from detectron2.modeling import build_model

from ska_vct import Predictor

RATE = 16000


@pytest.fixture
def predictor(tiny_cfg):
    tiny_cfg.INPUT.FLOW.SERIES = 4
    tiny_cfg.MODEL.SKA.NAME = "TemporalSKA"
    return Predictor(tiny_cfg, build_model(tiny_cfg))


def tone(seconds: float, level: float = 0.4) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


def moving_images(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """A textured square that moves to the right over a grey gradient, uint8 (h, w, 3)."""
    height, width = size
    back = np.linspace(60, 160, width)[None, :, None].repeat(height, 0).repeat(3, 2).astype(np.uint8)
    patch = np.random.default_rng(0).integers(0, 256, (height // 2, width // 3, 3), np.uint8)
    images = []
    for number in range(count):
        image = back.copy()
        left = 2 * number % max(1, width - patch.shape[1])
        image[height // 4 : height // 4 + patch.shape[0], left : left + patch.shape[1]] = patch
        images.append(image)
    return images


@pytest.fixture
def make_video() -> Callable:
    """A function that writes a video; audio and frames may begin late, and there may be several tracks."""

    def make(
        path,
        *,
        seconds: float = 2,
        fps: int = 10,
        size: tuple[int, int] = (48, 64),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        audio: float | None = None,
        audio_codec: str = "aac",
        late: float = 0.0,
        times: list[float] | None = None,
        tracks: tuple[int, int] = (1, 1),
        options: dict | None = None,
        container: dict | None = None,
    ):
        images = moving_images(len(times) if times else max(1, round(seconds * fps)), size)
        audio = seconds if audio is None else audio
        with av.open(f"file:{path}", "w", container_options=container or {}) as output:
            streams = []
            for _ in range(tracks[0]):
                stream = output.add_stream(codec, rate=fps, options=options or {})
                stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
                stream.codec_context.time_base = Fraction(1, 1000)
                streams.append(stream)
            sounds = [output.add_stream(audio_codec, rate=RATE, layout="mono") for _ in range(tracks[1])]
            for stream in streams:
                for number, image in enumerate(images):
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    moment = times[number] if times else number / fps
                    frame.pts, frame.time_base = round(1000 * (moment + max(0.0, -late))), Fraction(1, 1000)
                    output.mux(stream.encode(frame))
                output.mux(stream.encode(None))
            for sound in sounds:
                if audio > 0:
                    samples = tone(audio)
                    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                    frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                    frame.pts = round(max(0.0, late) * RATE)
                    output.mux(sound.encode(frame))
                output.mux(sound.encode(None))
        return path

    return make
