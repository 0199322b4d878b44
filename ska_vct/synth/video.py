"""Videos with audio whose bytes depend only on their content."""

import os
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags

# x264's look-ahead reads uninitialised memory: at 96 x 96 pixels, one clip in three differed between runs. So
# every option that depends on it is off.
CRF = 18
_H264 = {"preset": "veryfast", "tune": "zerolatency", "x264-params": "mbtree=0:weightp=0:scenecut=0"}


def write_video(
    path: str | os.PathLike, frames: np.ndarray, *, fps: int, audio: np.ndarray, rate: int, crf: int = CRF
) -> None:
    """Write an MP4 with H.264 video and AAC audio; one thread and no date, so equal input gives equal bytes.

    Args:
        frames: uint8 (N, H, W, 3), RGB; H and W even.
        fps: images per second.
        audio: int16 (samples, channels), 1 or 2 channels.
        rate: samples per second.
        crf: x264's constant rate factor; larger is smaller and worse.
    """
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        video_stream = container.add_stream("libx264", rate=fps, options={**_H264, "crf": str(crf)})
        video_stream.height, video_stream.width = frames.shape[1:3]
        video_stream.pix_fmt = "yuv420p"
        audio_stream = container.add_stream(
            "aac", rate=rate, layout="stereo" if audio.shape[1] == 2 else "mono", options={"aac_coder": "fast"}
        )
        for stream in (video_stream, audio_stream):
            stream.codec_context.thread_count = 1
            stream.codec_context.flags |= Flags.bitexact
        for image in frames:
            container.mux(video_stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video_stream.encode())
        # Packed samples: one row, channels interleaved.
        samples = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(audio).reshape(1, -1), format="s16", layout=audio_stream.codec_context.layout.name
        )
        samples.sample_rate, samples.pts, samples.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio_stream.encode(samples))
        container.mux(audio_stream.encode())
