"""Frames straight from a video: one per second, named by a path with a time, ``clip.mp4#t=2.9375``.

The fragment is that of W3C's Media Fragments URI. Such a path stands wherever the path of an image does.
"""

import math
import os
import re

import numpy as np

from ska_vct.data.facts import SAMPLE_TIME
from ska_vct.utils.errors import SkaVctError

_FRAGMENT = re.compile(r"^(?P<video>.+)#t=(?P<time>\d+(\.\d+)?)$", re.DOTALL)
# Time stamps are fractions; a frame this near after the wanted moment is the one that is shown then.
_SAME = 1e-4
# A last second counts where this much of it is there: videos are cut at frames, not at seconds.
_WHOLE = 0.9


class VideoFrameError(SkaVctError, ValueError):
    """A frame of a video cannot be decoded; the sentence names the file."""


def frame_of_video(path: str, second: int) -> str:
    """Path of the frame that stands for a second, counted from 0: the one shown ``SAMPLE_TIME`` into it."""
    return f"{path}#t={second + SAMPLE_TIME}"


def split_fragment(path: str | os.PathLike) -> tuple[str, float | None]:
    """The file that a path names, and the time within it, seconds; None for the path of an image."""
    match = _FRAGMENT.match(os.fspath(path))
    return (match["video"], float(match["time"])) if match else (os.fspath(path), None)


def read_video_frame(path: str | os.PathLike, time: float) -> np.ndarray:
    """Decode the frame that a video shows ``time`` seconds after its first, uint8 (h, w, 3), RGB.

    Where the video ends less than a second before, its last frame.

    Raises:
        VideoFrameError: the file is missing, is not a video, or ends earlier.
    """
    import av

    try:
        with av.open(os.fspath(path)) as container:
            stream = container.streams.video[0]
            # Clips are spread over the cores, not frames.
            stream.codec_context.thread_count = 1
            start = float((stream.start_time or 0) * stream.time_base)
            if time > 2:
                container.seek(int((time + start) / stream.time_base), stream=stream)
            shown, last = None, 0.0
            for frame in container.decode(stream):
                now = (frame.time or 0.0) - start
                if shown is not None and now > time + _SAME:
                    break
                shown, last = frame, now
            if shown is None or time - last > 1:
                raise VideoFrameError(
                    f"Video {path} has no frame at {time:.2f} s; it may be damaged or shorter than its clip."
                )
            return shown.to_ndarray(format="rgb24")
    except (av.FFmpegError, OSError, IndexError, AttributeError) as error:
        raise VideoFrameError(f"Video {path} cannot be decoded ({error}); copy or make it again.") from None


def probe_video(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of a video's frames, from its header.

    Raises:
        VideoFrameError: the file is missing or is not a video.
    """
    return _header(path)[:2]


def count_seconds(path: str | os.PathLike) -> int:
    """Seconds of a video, a last one included where nearly all of it is there; at least 1.

    Raises:
        VideoFrameError: the file is missing, is not a video, or does not give its duration.
    """
    duration = _header(path)[2]
    if not duration:
        raise VideoFrameError(f"Video {path} does not give its duration; set DATASETS.OWN.SECONDS.")
    return max(1, math.floor(duration + 1 - _WHOLE))


def _header(path: str | os.PathLike) -> tuple[int, int, float]:
    import av

    try:
        with av.open(os.fspath(path)) as container:
            stream = container.streams.video[0]
            duration = stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1e6
            return stream.codec_context.height, stream.codec_context.width, float(duration)
    except (av.FFmpegError, OSError, IndexError, AttributeError) as error:
        raise VideoFrameError(f"Video {path} cannot be read ({error}); copy or make it again.") from None
