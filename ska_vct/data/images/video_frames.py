"""Frames straight from a video: one per second, named by a path with a time, ``clip.mp4#t=2.9375``.

The fragment is that of W3C's Media Fragments URI. Such a path stands wherever the path of an image does.
"""

import math
import os
import re
from typing import Any

import numpy as np

from ska_vct.data.facts import sample_time
from ska_vct.utils.media.errors import VideoError
from ska_vct.utils.media.video import frame_size, open_media, upright_image, video_stream

_FRAGMENT = re.compile(r"^(?P<video>.+)#t=(?P<time>\d+(\.\d+)?)$", re.DOTALL)
# Time stamps are fractions; a frame this near after the wanted moment is the one that is shown then.
_SAME = 1e-4
# Later moments are sought instead of decoding all before, seconds.
_SEEK = 2.0
# A last second counts where this much of it is there: videos are cut at frames, not at seconds.
_WHOLE = 0.9


def frame_of_video(path: str, second: int) -> str:
    """Path of the frame that stands for a second, counted from 0: see ``sample_time``."""
    return f"{path}#t={sample_time(float(second))}"


def split_fragment(path: str | os.PathLike) -> tuple[str, float | None]:
    """The file that a path names, and the time within it, seconds; None for the path of an image."""
    match = _FRAGMENT.match(os.fspath(path))
    return (match["video"], float(match["time"])) if match else (os.fspath(path), None)


def read_video_frame(path: str | os.PathLike, time: float) -> np.ndarray:
    """Decode the frame that a video shows ``time`` seconds after its first, uint8 (h, w, 3), RGB.

    Where the video ends less than a second before, its last frame.

    Raises:
        VideoError: the file is missing, is not a video, or ends earlier.
    """
    shown = (_shown_at(path, time, seek=True) if time > _SEEK else None) or _shown_at(path, time, seek=False)
    if shown is None:
        raise VideoError(f"Video {path} has no frame at {time:.2f} s; it may be damaged or shorter than its clip.")
    return upright_image(shown)


def _shown_at(path: str | os.PathLike, time: float, *, seek: bool) -> Any:
    """The frame shown at a moment, or None where it is not found: some containers are sought inexactly."""
    shown, start, last = None, None, 0.0
    with open_media(path) as container:
        stream = video_stream(container, path)
        for frame in container.decode(stream):
            if start is None:
                start = float(frame.time or 0.0)
                if seek and stream.time_base:
                    # Frames before the key frame that precedes the wanted one need not be decoded.
                    container.seek(int((time + start) / stream.time_base), stream=stream)
                    continue
            now = float(frame.time or 0.0) - start
            if now > time + _SAME:
                break
            shown, last = frame, now
    return shown if shown is not None and time - last <= 1 else None


def probe_video(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of a video's frames as they are shown.

    Raises:
        VideoError: the file is missing or is not a video.
    """
    return _header(path)[:2]


def count_seconds(path: str | os.PathLike) -> int:
    """Seconds of a video, a last one included where nearly all of it is there; at least 1.

    Raises:
        VideoError: the file is missing, is not a video, or does not give its duration.
    """
    duration = _header(path)[2]
    if not duration:
        raise VideoError(f"Video {path} does not give its duration; set DATASETS.OWN.SECONDS.")
    return max(1, math.floor(duration + 1 - _WHOLE))


def frame_rate(path: str | os.PathLike) -> float:
    """Images per second of a video as its header gives them; 0 where it does not.

    Raises:
        VideoError: the file is missing or is not a video.
    """
    with open_media(path) as container:
        return float(video_stream(container, path).average_rate or 0)


def _header(path: str | os.PathLike) -> tuple[int, int, float]:
    with open_media(path) as container:
        stream = video_stream(container, path)
        duration = stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1e6
        for frame in container.decode(stream):
            return *frame_size(frame), float(duration)
    raise VideoError(f"Video {path} holds no frame; copy or make it again.")
