"""Single pictures of what the model sees and returns: RGB, uint8 (H, W, 3), or a stack (T, H, W, 3) of them.

Labels are int (H, W): 0 is background and stays clear, 255 is not annotated and is hatched grey, other values take
the colour of ``palette``.
"""

import cv2
import numpy as np
import torch
from torchvision.utils import flow_to_image as wheel_picture

from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.errors import InputError
from ska_vct.utils.palette import voc_palette

# one vivid object colour for S4 and MS3; VOC's class 1 is too dark on most pictures
BINARY_PALETTE = np.array([[0, 0, 0], [255, 96, 32]], np.uint8)
FILL_OPACITY = 0.45


def label_palette(num_classes: int) -> np.ndarray:
    """Colours of labels, uint8 (num_classes, 3): AVSBench's, or a single vivid one for two classes."""
    return BINARY_PALETTE if num_classes == 2 else voc_palette(num_classes)


def resize_picture(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to height and width ``size``: smooth upwards, averaging downwards."""
    shrink = picture.shape[0] > size[0]
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map to height and width ``size``; each pixel takes the class with the largest share of it."""
    if labels.shape == tuple(size):
        return labels
    values = np.unique(labels)
    shares = [
        cv2.resize((labels == v).astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) for v in values
    ]
    return values[np.argmax(shares, axis=0)]


def overlay_labels(
    picture: np.ndarray, labels: np.ndarray, palette: np.ndarray, *, contour: int = 2
) -> np.ndarray:
    """Lay labels over a picture: a translucent fill, and a contour where classes meet.

    Args:
        picture: uint8 (H, W, 3).
        labels: int (h, w), resized to the picture.
        palette: uint8 (K, 3).
        contour: width of the contour in pixels; 0 for none.

    Raises:
        ValueError: a label has no colour.
    """
    labels = resize_labels(labels, picture.shape[:2])
    known = labels[labels != IGNORE_LABEL]
    if known.size and int(known.max()) >= len(palette):
        raise InputError(f"Label {int(known.max())} has no colour: the palette has {len(palette)} entries.")
    colors = palette[np.where(labels == IGNORE_LABEL, 0, labels)].astype(np.float32)
    shown = (labels != 0) & (labels != IGNORE_LABEL)
    result = np.where(shown[..., None], picture + FILL_OPACITY * (colors - picture), picture).astype(np.uint8)
    if contour:
        kernel = np.ones((3, 3), np.uint8)
        plain = np.where(labels == IGNORE_LABEL, 0, labels).astype(np.uint8)
        edge = cv2.morphologyEx(plain, cv2.MORPH_GRADIENT, kernel) > 0
        # the inner side of the border carries the colour, so that neighbours keep their own
        edge = cv2.dilate((edge & shown).astype(np.uint8), np.ones((contour, contour), np.uint8)) > 0
        result[edge & shown] = colors[edge & shown].astype(np.uint8)
    if (labels == IGNORE_LABEL).any():
        result = _hatch(result, labels == IGNORE_LABEL)
    return result


def flow_to_image(flow: np.ndarray, *, scale: float | None = None) -> np.ndarray:
    """Flow in the Middlebury colour wheel (Baker et al., IJCV 2011): hue is direction, saturation is speed.

    Args:
        flow: float (T, 2, h, w) or (2, h, w); u right, v down.
        scale: speed of full saturation, for all frames; the fastest pixel's when None. No motion is white.

    Raises:
        ValueError: wrong shape, or values that are not finite.
    """
    if flow.ndim not in (3, 4) or flow.shape[-3] != 2:
        raise InputError(f"A flow field has shape (T, 2, h, w) or (2, h, w), this one {tuple(flow.shape)}.")
    if not np.isfinite(flow).all():
        raise InputError("The flow field holds values that are not finite; compute it again.")
    stack = torch.as_tensor(np.asarray(flow, np.float32)).reshape(-1, 2, *flow.shape[-2:])
    speed = stack.norm(dim=1, keepdim=True)
    scale = float(speed.max()) if scale is None else scale
    if scale > 0:
        # torchvision divides by the fastest pixel: cut at the scale and add a frame that reaches it
        stack = stack / speed.clamp(min=scale)
        reference = torch.zeros_like(stack[:1])
        reference[:, 0] = 1
        pictures = wheel_picture(torch.cat([stack, reference]))[:-1]
    else:
        pictures = wheel_picture(stack)
    pictures = pictures.permute(0, 2, 3, 1).numpy()
    return pictures if flow.ndim == 4 else pictures[0]


def strongest_field(flow: np.ndarray) -> np.ndarray:
    """Of each frame's S fields the one with the most motion: (T, S, 2, h, w) -> (T, 2, h, w).

    Their mean would show nothing of an object that swings within the second.
    """
    energy = (flow.astype(np.float32) ** 2).sum(2).mean((2, 3))
    return flow[np.arange(len(flow)), energy.argmax(1)]


def heat(
    values: np.ndarray, *, low: float = 0.0, high: float = 1.0, colormap: int = cv2.COLORMAP_INFERNO
) -> np.ndarray:
    """Values (..., h, w) as colours: ``low`` and below is dark, ``high`` and above bright."""
    scaled = np.clip((np.asarray(values, np.float32) - low) / max(high - low, 1e-12), 0, 1)
    flat = (255 * scaled).round().astype(np.uint8)
    colored = cv2.applyColorMap(flat.reshape(-1, flat.shape[-1]), colormap)
    return cv2.cvtColor(colored, cv2.COLOR_BGR2RGB).reshape(*flat.shape, 3)


def overlay_heat(picture: np.ndarray, values: np.ndarray, *, opacity: float = 0.6) -> np.ndarray:
    """A map in [0, 1], (h, w), as heat over the grey picture it belongs to, uint8 (H, W, 3)."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    values = cv2.resize(np.asarray(values, np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return (grey * (1 - opacity) + heat(values).astype(np.float32) * opacity).astype(np.uint8)


def log_mel_picture(log_mel: np.ndarray, size: tuple[int, int], *, low: float, high: float) -> np.ndarray:
    """One second's log-mel patch (time, bands) with time to the right and pitch upwards, uint8 (H, W, 3)."""
    picture = heat(np.asarray(log_mel, np.float32).T[::-1], low=low, high=high, colormap=cv2.COLORMAP_MAGMA)
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)


def _hatch(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Grey stripes over ``where``."""
    rows, columns = np.indices(where.shape)
    stripes = np.where((rows + columns) // 6 % 2 == 0, 214, 232).astype(np.uint8)
    return np.where(where[..., None], stripes[..., None], picture)
