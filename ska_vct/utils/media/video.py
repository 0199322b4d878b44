"""Videos, through FFmpeg: named formats only, bounded sizes, upright frames, times from the first frame shown.

A clip's time line begins with the first frame that its video shows, whatever its time stamp. Audio is placed on
the same line (``audio.py``), so that second k of the audio is heard while second k of the frames is seen.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type

from ska_vct.utils.errors import SkaVctError
from ska_vct.utils.media.errors import VideoError
from ska_vct.utils.media.hdr import is_hdr, to_sdr
from ska_vct.utils.media.image_header import MAX_PIXELS
from ska_vct.utils.media.images import turn_upright

# Names of FFmpeg's demuxers. None of them opens other files, as playlists do.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,swf,ogg,asf,rm,gif,wav"
# Of FFmpeg's several hundred codecs those of the files that people have; most flaws are found in the others.
_CODECS = frozenset(
    "av1 cinepak dnxhd dvvideo ffv1 ffvhuff flv1 gif h263 h263i h263p h264 hevc huffyuv mjpeg mpeg1video "
    "mpeg2video mpeg4 msmpeg4v1 msmpeg4v2 msmpeg4v3 png prores qtrle rawvideo rv10 rv20 rv30 rv40 svq1 svq3 "
    "theora utvideo vc1 vp3 vp6 vp6a vp6f vp8 vp9 wmv1 wmv2 wmv3 "
    "aac aac_latm ac3 adpcm_ima_qt adpcm_ima_wav adpcm_ms adpcm_swf alac amr_nb amr_wb cook dts eac3 flac mp1 mp2 "
    "mp3 nellymoser opus ra_144 ra_288 sipr speex vorbis wmapro wmav1 wmav2".split()
)
# With one slash where it has been a Path; drives have one letter.
_ADDRESS = re.compile(r"(?!file:)([A-Za-z][A-Za-z0-9+.-]+):/+")
_QUARTER = 1 << 16
# (a, b, c, d) of a display matrix, in quarters of 16.16 fixed point -> EXIF's orientation that shows the same.
_MATRICES = {
    (1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8,
}  # fmt: skip


# PyAV raises these, too, of damaged files: a codec without context, text that is not UTF-8, odd layouts.
_LIBRARY_ERRORS = (
    av.FFmpegError, OSError, ValueError, AttributeError, IndexError, KeyError, OverflowError, ZeroDivisionError,
    NotImplementedError, MemoryError,
)  # fmt: skip
# How large frames may become midway: this much larger than the header says, or 4K.
_GROWTH, _USUAL_PIXELS = 4, 4096 * 2304
# Frames that may be lost before a video counts as one that cannot be decoded: more than these, and than half.
_MAX_LOST = 10


@dataclass
class Damage:
    """What a tolerant reader passed over.

    Attributes:
        lost: packets that cannot be decoded.
        cut: the data end before the file's header says so, or with an error.
    """

    lost: int = 0
    cut: bool = False


@contextmanager
def open_media(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """Open a video or audio file; what goes wrong with it inside the block becomes one kind of error.

    Raises:
        VideoError: the file is missing, of another format, or damaged.
    """
    if is_address(path):
        address = _ADDRESS.sub(r"\1://", os.fspath(path), count=1)
        raise VideoError(f"'{address}' is an address; download the file and name that.")
    try:
        # Not a bare path, which FFmpeg would take for an address.
        with av.open(
            f"file:{os.fspath(path)}",
            metadata_errors="replace",
            options={
                "format_whitelist": _CONTAINERS,
                "codec_whitelist": _decoders(),
                "protocol_whitelist": "file",
            },
        ) as container:
            yield container
    except SkaVctError:
        raise
    except _LIBRARY_ERRORS as error:
        if getattr(error, "errno", None) == errno.EACCES:
            raise VideoError(f"Video {path} cannot be read ({_reason(error)}); change its permissions.") from None
        raise VideoError(f"Video {path} cannot be decoded ({_reason(error)}); copy or make it again.") from None


def is_known(codec: str) -> bool:
    """Whether files of a codec, by FFmpeg's name, are read."""
    return codec in _CODECS or codec.startswith("pcm_")


@cache
def _decoders() -> str:
    """FFmpeg's names of all decoders of the known codecs: opening a file decodes some of it."""
    names = []
    for name in av.codecs_available:
        with suppress(av.codec.codec.UnknownCodecError):
            if is_known(av.Codec(name, "r").canonical_name):
                names.append(name)
    return ",".join(sorted(names))


def is_address(path: str | os.PathLike) -> bool:
    """Whether a path is an address in a network, or of one of FFmpeg's protocols."""
    return bool(_ADDRESS.match(os.fspath(path)))


def video_stream(container: av.container.InputContainer, path: str | os.PathLike) -> av.video.stream.VideoStream:
    """The first stream of frames, ready to be decoded on one thread.

    Raises:
        VideoError: there is none, its codec is not among those that are read, or its frames are too large.
    """
    stream = next((s for s in container.streams.video if not _is_cover(s)), None)
    if stream is None:
        raise VideoError(f"Video {path} has no video stream; copy or make it again.")
    context = stream.codec_context
    if not is_known(context.codec.canonical_name):
        raise VideoError(
            f"Video {path} is of codec '{context.codec.canonical_name}', which is not read; convert it to H.264."
        )
    if context.width * context.height > MAX_PIXELS or min(context.width, context.height) < 1:
        raise VideoError(
            f"Video {path} has frames of {context.height} x {context.width} pixels, 1 to "
            f"{MAX_PIXELS // 1_000_000} million are allowed; copy or make it again."
        )
    context.thread_count = 1  # clips are spread over the cores, not frames
    # A stream may change its size midway (calls do), but not to what its header gave no reason to expect.
    expected = max(_GROWTH * context.width * context.height, _USUAL_PIXELS)
    context.options = {"max_pixels": str(min(expected, MAX_PIXELS))}
    return stream


def decode_tolerantly(
    container: av.container.InputContainer, stream: Any, path: str | os.PathLike, damage: Damage
) -> Iterator[Any]:
    """Frames of a stream as a player shows them: what cannot be decoded is passed over and counted.

    Args:
        container, stream: open, ready to be decoded.
        path: for messages.
        damage: counts.

    Raises:
        VideoError: most packets cannot be decoded.
    """
    decoded = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.EOFError:
            return
        except _LIBRARY_ERRORS:
            damage.cut = True
            return
        if packet is None:
            return
        # Theora writes an empty packet for a frame that repeats the one before; decoders take it for the end.
        if packet.size == 0 and packet.pts is not None:
            continue
        if packet.has_sidedata("encryption_info"):
            raise VideoError(f"Video {path} is encrypted; name a copy without protection.")
        try:
            frames = packet.decode()
        except av.EOFError:
            return
        except _LIBRARY_ERRORS as error:
            damage.lost += 1
            if damage.lost > max(_MAX_LOST, decoded):
                raise VideoError(
                    f"Video {path} cannot be decoded: of the first {damage.lost + decoded} packets of its "
                    f"{stream.type} ({stream.codec_context.name}) {damage.lost} are damaged ({_reason(error)}); "
                    "copy it again, or convert it to MP4 with a program that plays it."
                ) from None
            continue
        decoded += len(frames)
        yield from frames


def first_frame_time(path: str | os.PathLike) -> float | None:
    """Time stamp of the first frame that a file shows, seconds; None for a file without frames.

    Raises:
        VideoError: the file cannot be decoded.
    """
    with open_media(path) as container:
        if all(_is_cover(stream) for stream in container.streams.video):
            return None
        for frame in decode_tolerantly(container, video_stream(container, path), path, Damage()):
            return float(frame.time or 0.0)
    return None


def frame_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Height and width of a frame as it is shown.

    Raises:
        VideoError: see :func:`frame_orientation`.
    """
    size = frame.height, frame.width
    return size if frame_orientation(frame) < 5 else size[::-1]


def upright_image(frame: av.VideoFrame, **options: Any) -> np.ndarray:
    """A frame as it is shown, uint8 (h, w, 3), RGB; HDR as SDR screens show it.

    Args:
        options: of ``av.VideoFrame.reformat``; sizes are those of the stored frame.

    Raises:
        VideoError: it cannot be converted, or see :func:`frame_orientation`.
    """
    orientation = frame_orientation(frame)
    hdr = is_hdr(frame)
    try:
        image = frame.reformat(format="rgb48le" if hdr else "rgb24", threads=1, **options).to_ndarray()
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise VideoError(f"A frame cannot be converted to RGB ({' '.join(str(error).split())[:200]}).") from None
    return turn_upright(to_sdr(image, frame.color_trc) if hdr else image, orientation)


def upright_at(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """A frame as it is shown, at height and width ``size``, uint8 (h, w, 3), RGB; it shrinks by averaging areas.

    Raises:
        VideoError: see :func:`upright_image`.
    """
    full = frame_size(frame)
    if size == full:
        return upright_image(frame)
    height, width = size if (frame.height, frame.width) == full else size[::-1]
    how = "AREA" if size[0] < full[0] else "BICUBIC"
    return upright_image(frame, width=width, height=height, interpolation=how)


def frame_orientation(frame: av.VideoFrame) -> int:
    """How a frame has to be turned to be shown, as EXIF numbers it, from the file's display matrix.

    Raises:
        VideoError: the matrix does more than turn by quarters and mirror.
    """
    if frame.width * frame.height > MAX_PIXELS:
        raise VideoError(f"A frame has {frame.height} x {frame.width} pixels, more than are allowed.")
    data = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if data is None:
        return 1
    matrix = np.frombuffer(bytes(data), np.int32)
    corner = tuple(round(int(matrix[k]) / _QUARTER, 3) for k in (0, 1, 3, 4)) if len(matrix) == 9 else ()
    if corner not in _MATRICES:
        raise VideoError(
            "The video's display matrix does more than mirror and turn frames by quarters; store it upright."
        )
    return _MATRICES[corner]  # type: ignore[index]


def _reason(error: Exception) -> str:
    # What some decoders return for any damage, and has nothing to do with permissions.
    if getattr(error, "errno", None) == errno.EPERM:
        return "the decoder gives up"
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__


def _is_cover(stream: av.video.stream.VideoStream) -> bool:
    """Whether a stream is the cover image of an audio file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
