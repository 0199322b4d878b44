"""Single images of what the model sees and returns: RGB, uint8 (H, W, 3), or a stack (T, H, W, 3) of them.

Labels are int (H, W): 0 is background and stays clear, 255 has no ground truth and is hatched grey, other values
take the colour of ``palette``.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torchvision.utils import flow_to_image as wheel_image

from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.errors import InputError

from .colors import CORRECT, FALSE_POSITIVE, MISSED, OUTCOME_PALETTE, WRONG_CLASS

FILL_OPACITY = 0.45
OUTCOME_OPACITY = 0.65
HEAT_OPACITY = 0.6


@dataclass(frozen=True)
class Layer:
    """A drawing that is laid over images of its size: made once, quick to apply to every frame of a second.

    Attributes:
        keep: uint8 (H, W, 3), the image's share in 255ths.
        paint: uint8 (H, W, 3), what is added to it.
        grey: the image is shown without its colours.
    """

    keep: np.ndarray
    paint: np.ndarray
    grey: bool = False

    def over(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3), RGB."""
        if self.grey:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return cv2.add(cv2.multiply(image, self.keep, scale=1 / 255), self.paint)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to height and width ``size``: smooth upwards, averaging downwards."""
    shrink = image.shape[0] > size[0]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)


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
    image: np.ndarray, labels: np.ndarray, palette: np.ndarray, *, contour: int = 2, opacity: float = FILL_OPACITY
) -> np.ndarray:
    """Lay labels over an image: a translucent fill, and a contour that stands out from any colour.

    The contour is a line of the label's colour inside the region and, where the region borders on background, a
    white and a black line outside it, one of which differs from whatever the image shows.

    Args:
        image: uint8 (H, W, 3).
        labels: int (h, w), resized to the image.
        palette: uint8 (K, 3).
        contour: width of the inner line in pixels; 0 for no contour.
        opacity: of the fill, in [0, 1].

    Raises:
        ValueError: a label has no colour.
    """
    return label_layer(labels, image.shape[:2], palette, contour=contour, opacity=opacity).over(image)


def label_layer(
    labels: np.ndarray,
    size: tuple[int, int],
    palette: np.ndarray,
    *,
    contour: int = 2,
    opacity: float = FILL_OPACITY,
) -> Layer:
    """What :func:`overlay_labels` draws on an image of height and width ``size``.

    Raises:
        ValueError: a label has no colour.
    """
    labels = resize_labels(labels, size)
    unknown = labels == IGNORE_LABEL
    known = np.where(unknown, 0, labels).astype(np.uint8)
    if int(known.max(initial=0)) >= len(palette):
        raise InputError(f"Label {int(known.max())} has no colour: the palette has {len(palette)} entries.")
    shares = np.full(len(palette), round(255 * opacity), np.uint8)
    shares[0] = 0
    keep = np.repeat((255 - shares)[known][..., None], 3, 2)
    paint = (palette * (opacity * (np.arange(len(palette)) > 0)[:, None])).round().astype(np.uint8)[known]
    if contour and known.any():
        shown = known != 0
        line = max(1, contour // 2)
        inside = shown.astype(np.uint8)
        outline = _grow(inside, line)
        outside = (_grow(outline, line) > 0) & ~shown
        keep[outside], paint[outside] = 0, 0
        paint[(outline > 0) & ~shown] = 255
        edge = cv2.morphologyEx(known, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        # the inner side of the border carries the colour, so that neighbours keep their own
        edge = cv2.dilate((edge & shown).astype(np.uint8), np.ones((contour, contour), np.uint8)) > 0
        keep[edge & shown], paint[edge & shown] = 0, palette[known[edge & shown]]
    if unknown.any():
        keep[unknown], paint[unknown] = 0, _stripes(size)[unknown][:, None]
    return Layer(keep, paint)


def outcome_map(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compare predicted with labelled classes, uint8 (..., H, W): positions in ``colors.OUTCOMES``.

    0 where both are background; 255 where ``truth`` is.
    """
    result = np.zeros(truth.shape, np.uint8)
    result[(truth != 0) & (labels == truth)] = CORRECT
    result[(truth == 0) & (labels != 0)] = FALSE_POSITIVE
    result[(truth != 0) & (labels == 0)] = MISSED
    result[(truth != 0) & (labels != 0) & (labels != truth)] = WRONG_CLASS
    result[truth == IGNORE_LABEL] = IGNORE_LABEL
    return result


def overlay_outcomes(image: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """What is correct, false, missed and of the wrong class, over the grey image, uint8 (H, W, 3).

    Args:
        image: uint8 (H, W, 3).
        labels: int (h, w), predicted classes.
        truth: int (h, w), labelled classes; 255 where there is no ground truth.
    """
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return overlay_labels(grey, outcome_map(labels, truth), OUTCOME_PALETTE, contour=0, opacity=OUTCOME_OPACITY)


def letterbox(image: np.ndarray, size: tuple[int, int], *, fill: int = 255) -> np.ndarray:
    """Fit an image into height and width ``size`` in its own proportions; the rest is filled."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    fitted = resize_image(image, tuple(max(1, round(scale * side)) for side in image.shape[:2]))
    result = np.full((*size, 3), fill, np.uint8)
    top, left = ((size[axis] - fitted.shape[axis]) // 2 for axis in (0, 1))
    result[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
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
        images = wheel_image(torch.cat([stack, reference]))[:-1]
    else:
        images = wheel_image(stack)
    images = images.permute(0, 2, 3, 1).numpy()
    return images if flow.ndim == 4 else images[0]


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


def overlay_heat(image: np.ndarray, values: np.ndarray, *, opacity: float = HEAT_OPACITY) -> np.ndarray:
    """A map in [0, 1], (h, w), as heat over the grey image it belongs to, uint8 (H, W, 3)."""
    return heat_layer(values, image.shape[:2], opacity=opacity).over(image)


def heat_layer(values: np.ndarray, size: tuple[int, int], *, opacity: float = HEAT_OPACITY) -> Layer:
    """What :func:`overlay_heat` draws on an image of height and width ``size``."""
    values = cv2.resize(np.asarray(values, np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    keep = np.full((*size, 3), round(255 * (1 - opacity)), np.uint8)
    return Layer(keep, (heat(values) * opacity).astype(np.uint8), grey=True)


def log_mel_image(log_mel: np.ndarray, size: tuple[int, int], *, low: float, high: float) -> np.ndarray:
    """One second's log-mel patch (time, bands) with time to the right and pitch upwards, uint8 (H, W, 3)."""
    image = heat(np.asarray(log_mel, np.float32).T[::-1], low=low, high=high, colormap=cv2.COLORMAP_MAGMA)
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def _grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    return cv2.dilate(mask, np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8))


def _stripes(size: tuple[int, int]) -> np.ndarray:
    """Grey stripes, uint8 (H, W)."""
    rows, columns = np.indices(size)
    return np.where((rows + columns) // 6 % 2 == 0, 214, 232).astype(np.uint8)
