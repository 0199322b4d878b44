"""Frames, masks and label maps of a dataset; the formats are those of ``ska_vct/utils/media/images.py``."""

import os

import numpy as np
from PIL import Image

from ska_vct.data.images.video_frames import probe_video, read_video_frame, split_fragment
from ska_vct.utils.files import atomic_path
from ska_vct.utils.media import images
from ska_vct.utils.media.errors import ImageError, VideoError
from ska_vct.utils.media.images import read_binary_mask, read_label_map

# Sizes that were rounded twice; a quarter turn changes proportions by far more.
_PROPORTIONS = 1.1

__all__ = [
    "ImageError", "check_image", "may_show_the_same", "probe_image", "read_binary_mask", "read_image",
    "read_label_map", "read_truth", "same_proportions", "write_png",
]  # fmt: skip


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decode a PNG or JPEG file, or a frame of a video (``clip.mp4#t=0.9375``), upright, to uint8 (h, w, 3), RGB.

    Raises:
        ImageError: the file is missing, of another format, damaged or too large.
    """
    video, time = split_fragment(path)
    if time is None:
        return images.read_image(path)
    try:
        return read_video_frame(video, time)
    except VideoError as error:
        raise ImageError(str(error)) from None


def read_truth(path: str | os.PathLike, *, binary: bool, num_classes: int) -> np.ndarray:
    """Class per pixel, uint8 (h, w): a binary mask or a label map, as its subset has it.

    Raises:
        ImageError: as ``read_binary_mask`` and ``read_label_map``.
    """
    return read_binary_mask(path) if binary else read_label_map(path, num_classes)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write uint8 (h, w) or RGB (h, w, 3) without loss, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def probe_image(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of an image, mask or frame of a video, upright, from the file's header.

    Also finds an image that was cut off; damage within is found by ``check_image``.

    Raises:
        ImageError: the file is missing, of another format, or cut off.
    """
    video, time = split_fragment(path)
    if time is None:
        return images.probe_image(path)
    try:
        return probe_video(video)
    except VideoError as error:
        raise ImageError(str(error)) from None


def check_image(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of an image that ``read_image`` reads and that holds all the data it promises.

    Raises:
        ImageError: it does not, or cannot be read.
    """
    is_file = split_fragment(path)[1] is None
    return images.check_image(path) if is_file else read_image(path).shape[:2]


def may_show_the_same(size: tuple[int, int], frame_size: tuple[int, int]) -> bool:
    """Whether a field or image of one size can belong to frames of another; sizes are (height, width).

    Square ones can belong to any frame, which the releases squeeze to squares; others must have its proportions.
    """
    shares = size[0] / size[1], frame_size[0] / frame_size[1]
    return 1 in shares or max(shares) <= _PROPORTIONS * min(shares)


def same_proportions(mask_size: tuple[int, int], frame_size: tuple[int, int]) -> bool:
    """Whether a mask of another size shows what its frame shows; sizes are (height, width)."""
    # One pixel of tolerance for the rounding of a resize that kept the aspect.
    return abs(mask_size[0] - frame_size[0] * mask_size[1] / frame_size[1]) <= 1
