"""Frames, masks and label maps from their files; a mask's numbers are checked, never guessed (docs/data.md)."""

import os

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ska_vct.data.images.video_frames import VideoFrameError, probe_video, read_video_frame, split_fragment
from ska_vct.utils.errors import SkaVctError
from ska_vct.utils.files import atomic_path

SHOWN_VALUES = 8
# What whole files end with, and how far from the end it may stand.
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
_TAIL = 64


class ImageError(SkaVctError, ValueError):
    """A picture or mask cannot be used; the sentence names the file."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decode a PNG or JPEG file, or a frame of a video (``clip.mp4#t=0.9375``), to uint8 (h, w, 3), RGB.

    Raises:
        ImageError: the file is missing or cannot be decoded.
    """
    video, time = split_fragment(path)
    if time is not None:
        try:
            return read_video_frame(video, time)
        except VideoFrameError as error:
            raise ImageError(str(error)) from None
    picture = cv2.imdecode(np.frombuffer(_read_bytes(path), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ImageError(f"Picture {path} cannot be decoded; unpack or make it again.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_binary_mask(path: str | os.PathLike) -> np.ndarray:
    """Read a mask of 0 and 255 (or 0 and 1), of mode 1, L or P, to uint8 (h, w) of 0 and 1.

    Raises:
        ImageError: the file is missing, broken, a colour picture, or holds other values.
    """
    mask = _read_indices(path)
    if not (_holds_only(mask, (0, 255)) or _holds_only(mask, (0, 1))):
        raise ImageError(f"Mask {path} holds the values {_show(mask)}, expected 0 and 255 (or 0 and 1) only.")
    return (mask > 0).astype(np.uint8)


def read_label_map(path: str | os.PathLike, num_classes: int) -> np.ndarray:
    """Read an index map, of mode L or P, to uint8 (h, w) of 0 .. ``num_classes`` - 1.

    Raises:
        ImageError: the file is missing, broken, a colour picture, or holds other values.
    """
    labels = _read_indices(path)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ImageError(
            f"Label map {path} holds the values {_show(labels)}, expected class indices 0 to {num_classes - 1}."
        )
    return labels.astype(np.uint8)


def read_truth(path: str | os.PathLike, *, binary: bool, num_classes: int) -> np.ndarray:
    """Class per pixel, uint8 (h, w): a binary mask or a label map, as its subset has it.

    Raises:
        ImageError: as ``read_binary_mask`` and ``read_label_map``.
    """
    return read_binary_mask(path) if binary else read_label_map(path, num_classes)


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write uint8 (h, w) or RGB (h, w, 3) without loss, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def probe_image(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of a picture or mask from its header, in a fraction of the time that decoding takes.

    Also looks at the file's end: one that was cut off is found; damage within is not.

    Raises:
        ImageError: the file is missing, empty, cut off or no picture.
    """
    video, time = split_fragment(path)
    if time is not None:
        try:
            return probe_video(video)
        except VideoFrameError as error:
            raise ImageError(str(error)) from None
    try:
        with open(path, "rb") as file:
            with Image.open(file) as picture:
                (width, height), kind = picture.size, picture.format
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _TAIL))
            whole = _END_MARKS.get(kind, b"") in file.read()
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        _read_bytes(path)  # says it where the file is missing or empty
        raise ImageError(f"Picture {path} is damaged or no picture; unpack or make it again.") from None
    if not whole:
        read_image(path)  # some programs leave the end mark out, or write behind it
    return height, width


def same_proportions(mask_size: tuple[int, int], frame_size: tuple[int, int]) -> bool:
    """Whether a mask of another size shows what its frame shows; sizes are (height, width)."""
    # One pixel of tolerance for the rounding of a resize that kept the aspect.
    return abs(mask_size[0] - frame_size[0] * mask_size[1] / frame_size[1]) <= 1


def _read_bytes(path: str | os.PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ImageError(f"Picture {path} cannot be read ({error.strerror}); unpack or make it again.") from None
    if not data:
        raise ImageError(f"Picture {path} is empty; unpack or make it again.")
    return data


def _read_indices(path: str | os.PathLike) -> np.ndarray:
    # PIL, because OpenCV turns a palette's indices into its colours.
    try:
        with open(path, "rb") as file, Image.open(file) as picture:
            array = np.array(picture)
            if picture.format == "PNG":
                # PIL is content with a PNG whose last bytes are missing.
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                if _END_MARKS["PNG"] not in file.read():
                    raise OSError("the file is cut off")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise ImageError(f"Mask {path} cannot be read ({error}); unpack or make it again.") from None
    if array.ndim == 3:
        if not (array == array[:, :, :1]).all():
            raise ImageError(f"Mask {path} is a colour picture, expected one channel of mode 1, L or P.")
        array = array[:, :, 0]
    return array.astype(np.uint8) if array.dtype == bool else array


def _holds_only(mask: np.ndarray, values: tuple[int, int]) -> bool:
    return bool(((mask == values[0]) | (mask == values[1])).all())


def _show(array: np.ndarray) -> str:
    values = np.unique(array)
    return ", ".join(map(str, values[:SHOWN_VALUES])) + (", ..." if len(values) > SHOWN_VALUES else "")
