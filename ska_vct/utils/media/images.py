"""Images and masks from PNG and JPEG files, upright, whole, and with one meaning for each encoding.

A mask's numbers are the samples or palette indices that the file stores, whatever the depth:

===========================  ===========================================================================
encoding                     value of a pixel
===========================  ===========================================================================
grey, 1, 2, 4, 8 or 16 bit   the stored sample; in a binary mask 1 and the depth's largest are foreground
palette                      the index; refused where white stands for background and black for foreground
RGB, 8 bit                   the sample, where all three channels agree everywhere; refused otherwise
with alpha                   as without, where everything is opaque; refused otherwise
RGB of 16 bit, JPEG          refused: no number can be told from it with certainty
===========================  ===========================================================================
"""

import io
import mmap
import os
import struct

import cv2
import numpy as np
from PIL import Image

from ska_vct.utils.media.errors import ImageError
from ska_vct.utils.media.image_header import HeaderError, ImageHeader, lacks_scans, read_header, without_extras

_SHOWN_VALUES = 8
_MAX_BYTES = 1 << 30
# Put behind a JPEG's data, where a whole image never reads on; holds no marker.
_FILLINGS = (b"", *(bytes((37 * k * k + step * k + step) % 251 for k in range(512)) for step in (11, 90, 201)))


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decode a PNG or JPEG file to uint8 (h, w, 3), RGB, upright as its EXIF orientation says.

    Raises:
        ImageError: the file is missing, of another format, damaged, or larger than ``MAX_PIXELS``.
    """
    data, header = _opened(path, "Image")
    no_end = header.format == "JPEG" and header.end is None  # some programs leave the end mark out
    image = _decode(data + b"\xff\xd9" if no_end else data, cv2.IMREAD_COLOR)
    if image is None or image.shape[:2] != header.size:
        raise ImageError(f"Image {path} cannot be decoded; it is damaged: unpack or make it again.")
    if header.format == "JPEG" and (header.progressive or header.end is None or _ends_flat(image)):
        _check_jpeg(path, data, header)
    return turn_upright(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), header.orientation)


def read_binary_mask(path: str | os.PathLike, *, kind: str = "Mask") -> np.ndarray:
    """Read a mask of two values to uint8 (h, w) of 0 and 1; see the module's head for encodings.

    Args:
        kind: what the file is, for messages.

    Raises:
        ImageError: the file is missing, damaged, ambiguous, or holds other values.
    """
    mask, header = _read_samples(path, kind)
    largest = (1 << header.depth) - 1
    present = np.unique(mask)
    if len(present) > 2 or not set(present.tolist()) <= {0, 1, 255, largest} or (len(present) == 2 and present[0]):
        raise ImageError(f"{kind} {path} holds the values {_show(present)}, expected 0 and 255 (or 0 and 1) only.")
    if header.color == 3:
        _check_palette(path, kind, header, present)
    return (mask > 0).astype(np.uint8)


def read_label_map(path: str | os.PathLike, num_classes: int, *, kind: str = "Label map") -> np.ndarray:
    """Read an index map to uint8 (h, w) of 0 .. ``num_classes`` - 1; see the module's head for encodings.

    Raises:
        ImageError: the file is missing, damaged, ambiguous, or holds other values.
    """
    labels, _ = _read_samples(path, kind)
    if labels.max() >= num_classes:
        raise ImageError(
            f"{kind} {path} holds the values {_show(np.unique(labels))}, expected class indices 0 to "
            f"{num_classes - 1}."
        )
    return labels.astype(np.uint8)


def probe_image(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width of an image or mask, upright, from its header, without decoding it.

    Also finds a file that was cut off; damage within is found by reading it.

    Raises:
        ImageError: the file is missing, of another format, or cut off.
    """
    header = _opened(path, "Image", mapped=True)[1]
    if header.format == "JPEG" and header.end is None:
        return check_image(path)
    return header.shown_size


def check_image(path: str | os.PathLike) -> tuple[int, int]:
    """As ``read_image``, for height and width alone, and with a thorough check that no data are missing.

    Raises:
        ImageError: see ``read_image``.
    """
    data, header = _opened(path, "Image")
    if header.format == "JPEG":
        _check_jpeg(path, data, header)
    return read_image(path).shape[:2]


def _opened(
    path: str | os.PathLike, kind: str, *, whole: bool = False, mapped: bool = False
) -> tuple[bytes, ImageHeader]:
    """The file's bytes, empty where it was only ``mapped``, and its header."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise ImageError(f"{kind} {path} is larger than 1 GiB, which no image is; replace it.")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped and size else file.read()
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{kind} {path} cannot be read ({reason}); unpack or make it again.") from None
    if not data:
        raise ImageError(f"{kind} {path} is empty; unpack or make it again.")
    try:
        return b"" if mapped else bytes(data), read_header(data, whole=whole)
    except HeaderError as error:
        raise ImageError(f"{kind} {path} cannot be read: it {error}; unpack or make it again.") from None


def _decode(data: bytes, how: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (h, w, ...) as EXIF's orientation shows it; 5 to 8 swap height and width."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _ends_flat(image: np.ndarray) -> bool:
    """Whether the last block has one colour, as the decoder paints what is missing."""
    top, left = ((side - 1) // 8 * 8 for side in image.shape[:2])
    corner = image[top:, left:][-4:, -4:].reshape(-1, image.shape[2])
    return bool((corner == corner[0]).all())


def _check_jpeg(path: str | os.PathLike, data: bytes, header: ImageHeader) -> None:
    """Decoders paint grey what a JPEG lacks; a whole one does not change with what follows its last block."""
    body = data[: header.end]
    images = []
    for filling in _FILLINGS if header.progressive else _FILLINGS[:2]:
        image = _decode(body + filling + b"\xff\xd9", cv2.IMREAD_GRAYSCALE)
        if image is None or image.shape != header.size:
            raise ImageError(f"Image {path} cannot be decoded; it is damaged: unpack or make it again.")
        images.append(image)
    is_cut = any(not np.array_equal(images[0], image) for image in images[1:])
    if is_cut or (header.progressive and lacks_scans(body)):
        raise ImageError(
            f"Image {path} is damaged: it holds less image data than its header promises; unpack or make it again."
        )


def _read_samples(path: str | os.PathLike, kind: str) -> tuple[np.ndarray, ImageHeader]:
    """Stored samples or palette indices, (h, w), upright."""
    data, header = _opened(path, kind, whole=True)
    if header.format == "JPEG":
        raise ImageError(f"{kind} {path} is a JPEG file, which does not keep exact values; save it as PNG.")
    if header.depth == 16 and header.color != 0:
        raise ImageError(f"{kind} {path} has colours of 16 bits, expected one channel; save it with 8 bits.")
    try:
        # Not OpenCV, which turns a palette's indices into its colours.
        with Image.open(io.BytesIO(without_extras(data)), formats=("PNG",)) as image:
            array = np.asarray(image)
    except (OSError, ValueError, SyntaxError, IndexError, struct.error, Image.DecompressionBombError) as error:
        raise ImageError(f"{kind} {path} cannot be read ({error}); unpack or make it again.") from None
    if array.ndim == 3 and header.color in (4, 6):
        if (array[:, :, -1] != 255).any():
            raise ImageError(f"{kind} {path} is partly transparent, so its values are ambiguous; save it opaque.")
        array = array[:, :, :-1]
    if header.alpha and _is_transparent(array, header):
        raise ImageError(f"{kind} {path} is partly transparent, so its values are ambiguous; save it opaque.")
    if array.ndim == 3:
        if not (array == array[:, :, :1]).all():
            raise ImageError(f"{kind} {path} is a colour image, expected one channel: grey, palette or 1 bit.")
        array = array[:, :, 0]
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif header.color == 0 and header.depth in (2, 4):
        array = array // (255 // ((1 << header.depth) - 1))  # Pillow spreads grey over 0 to 255
    return turn_upright(array, header.orientation), header


def _is_transparent(array: np.ndarray, header: ImageHeader) -> bool:
    if header.color != 3:
        return True  # one colour is transparent; nobody marks masks so
    alpha = np.full(256, 255, np.uint8)
    alpha[: len(header.alpha)] = np.frombuffer(header.alpha[:256], np.uint8)
    return bool((alpha[array] != 255).any())


def _check_palette(path: str | os.PathLike, kind: str, header: ImageHeader, present: np.ndarray) -> None:
    colors = np.frombuffer(header.palette, np.uint8).reshape(-1, 3)
    if present[-1] >= len(colors):
        raise ImageError(f"{kind} {path} uses palette entry {present[-1]} of {len(colors)}; make it again.")
    foreground = next((index for index in (*present[::-1], 1, 255) if 0 < index < len(colors)), None)
    if foreground is not None and (colors[0] == 255).all() and (colors[foreground] == 0).all():
        raise ImageError(
            f"{kind} {path} has a palette in which white is index 0 and black is index {foreground}, so that "
            "colours and indices contradict each other; save it as grey with 0 and 255."
        )


def _show(values: np.ndarray) -> str:
    return ", ".join(map(str, values[:_SHOWN_VALUES])) + (", ..." if len(values) > _SHOWN_VALUES else "")
