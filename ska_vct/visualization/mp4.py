"""MP4 files that browsers play: H.264 in yuv420p with the index in front, and AAC; written frame by frame."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer

from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_path

from .audio import add_audio_stream, audio_resampler, to_audio_frame

# Faster ones compress flat areas visibly worse; slower ones take longer than the drawing.
_OPTIONS = {"crf": "20", "preset": "veryfast"}


def write_mp4(
    path: str | Path,
    images: Iterable[np.ndarray],
    *,
    rate: Fraction,
    audio: Iterable[np.ndarray] | None = None,
    sample_rate: int = 0,
) -> None:
    """Write a video, whole or not at all; images and audio are taken as they are needed.

    Args:
        path: of the file.
        images: uint8 (H, W, 3), RGB, of one even size.
        rate: images per second.
        audio: blocks of float32 samples (channels, n) in [-1, 1], one or two channels; None for a silent video.
        sample_rate: of the audio, Hz.

    Raises:
        InputError: there is no image.
        OSError: the file cannot be written.
    """
    with atomic_path(path) as file:
        with av.open(f"file:{file}", "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate, options=dict(_OPTIONS))
            stream.pix_fmt = "yuv420p"
            # Without a mark, players take the colours of large videos for another standard's.
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = 6, 6, 6, 1
            sound = _Sound(container, iter(audio), sample_rate) if audio is not None else None
            index = -1
            for index, image in enumerate(images):
                if index == 0:
                    stream.height, stream.width = image.shape[:2]
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index, 1 / rate
                container.mux(stream.encode(frame))
                if sound:
                    sound.write_until(float((index + 1) / rate))
            if index < 0:
                raise InputError("The video holds no frame that can be decoded; copy or make it again.")
            container.mux(stream.encode(None))
            if sound:
                sound.finish()


class _Sound:
    """Writes blocks of audio as far as the images have come, so that neither waits in memory for the other."""

    def __init__(self, container: OutputContainer, blocks: Iterator[np.ndarray], sample_rate: int):
        self._container, self._blocks, self._rate = container, blocks, sample_rate
        self._written = 0
        first = next(blocks, None)
        self._next = first
        self._stream: AudioStream | None = None
        if first is not None:
            self._stream = add_audio_stream(container, first, sample_rate)
            self._resampler = audio_resampler(first, sample_rate)

    def write_until(self, seconds: float) -> None:
        while self._next is not None and self._written < seconds * self._rate:
            if self._next.shape[1]:
                self._encode(to_audio_frame(self._next, self._rate, self._written))
                self._written += self._next.shape[1]
            self._next = next(self._blocks, None)

    def finish(self) -> None:
        self.write_until(float("inf"))
        if self._stream:
            self._encode(None)
            self._container.mux(self._stream.encode(None))

    def _encode(self, frame: av.AudioFrame | None) -> None:
        for block in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(block))  # type: ignore[union-attr]
