"""One geometry and one colour jitter for a whole clip: pictures, masks and flow move together (spec: training.md).

Shape legend
    T       frames
    h, w    any size in which the whole picture is stored
    H, W    what the network sees, ``ClipGeometry.size``
    S       flow fields per second
    gh, gw  the flow grid handed to the model; it covers H x W
"""

import math
from dataclasses import dataclass

import detectron2.data.transforms as T
import numpy as np
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

from ska_vct.structures.clip import IGNORE_LABEL, ClipError


@dataclass(frozen=True, kw_only=True)
class ClipGeometry:
    """Resize, crop, flip, pad at the right and at the bottom, in this order.

    It is told in fractions of the picture, so arrays of other resolutions than the frame's (masks, segment
    pictures, flow) go through the same geometry without being resized to the frame first.

    Attributes:
        resized: (height, width) of the whole picture after the resize, pixels.
        offset: (y, x) of the crop's corner in the resized picture, pixels.
        size: (H, W) of the result.
        flip: whether it is mirrored left to right.
        pad_value: value of the picture's padding; labels are padded with 255, flow with zeros.
    """

    resized: tuple[int, int]
    offset: tuple[int, int] = (0, 0)
    size: tuple[int, int]
    flip: bool = False
    pad_value: int = 128

    @classmethod
    def resize(cls, size: tuple[int, int]) -> "ClipGeometry":
        """The geometry of testing: both sides are resized, the aspect is not kept."""
        return cls(resized=tuple(size), size=tuple(size))

    @property
    def content(self) -> tuple[int, int]:
        """(height, width) of the result without its padding."""
        return tuple(
            min(size, resized - offset)
            for size, resized, offset in zip(self.size, self.resized, self.offset, strict=True)
        )

    def apply_images(self, pictures: list[np.ndarray], color: ColorAugSSDTransform | None = None) -> np.ndarray:
        """Transform pictures, bilinearly and without aliasing.

        Args:
            pictures: T uint8 arrays (h, w, 3).
            color: jitter, drawn once for all T pictures; padding keeps its value.

        Returns:
            uint8 (T, H, W, 3).
        """
        (height, width), (y, x) = self.content, self.offset
        frames = np.empty((len(pictures), height, width, 3), np.uint8)
        for frame, picture in zip(frames, pictures, strict=True):
            # PIL resizes just the part that the crop keeps.
            sy, sx = picture.shape[0] / self.resized[0], picture.shape[1] / self.resized[1]
            box = (
                x * sx,
                y * sy,
                min((x + width) * sx, picture.shape[1]),
                min((y + height) * sy, picture.shape[0]),
            )
            frame[:] = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box)
        if color is not None:
            # Stacked into one tall picture, all frames get the same draw.
            frames = color.apply_image(frames.reshape(-1, width, 3)).reshape(frames.shape)
        if self.flip:
            frames = frames[:, :, ::-1]
        return self._pad(frames, self.pad_value)

    def apply_labels(self, labels: np.ndarray) -> np.ndarray:
        """Transform uint8 label maps (T, h, w) to (T, H, W), nearest neighbour, padded with 255."""
        rows, columns = (self._nearest(axis, labels.shape[1 + axis]) for axis in (0, 1))
        return self._pad(labels[:, rows][:, :, columns], IGNORE_LABEL)

    def apply_flow(self, flow: np.ndarray, *, image_size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
        """Transform flow: cells move with the picture, a resize scales the vectors and a flip negates u.

        A cell of the result is the mean over its extent, zero where that is padding.

        Args:
            flow: float (T, S, 2, h, w) over the whole picture; u right, v down.
            image_size: (height, width) of the picture in whose pixels the vectors are measured.
            grid: (gh, gw).

        Returns:
            float32 (T, S, 2, gh, gw), in pixels of the result.
        """
        flow = np.asarray(flow, dtype=np.float32)
        vertical, horizontal = (self._cell_weights(axis, flow.shape[3 + axis], grid[axis]) for axis in (0, 1))
        moved = vertical @ (flow @ horizontal.T)
        scale = np.array([self.resized[1] / image_size[1], self.resized[0] / image_size[0]], np.float32)
        if self.flip:
            scale[0] = -scale[0]
        return moved * scale[:, None, None]

    def _pad(self, frames: np.ndarray, value: int) -> np.ndarray:
        if self.content == tuple(self.size):
            return np.ascontiguousarray(frames)
        padded = np.full((len(frames), *self.size, *frames.shape[3:]), value, frames.dtype)
        padded[:, : frames.shape[1], : frames.shape[2]] = frames
        return padded

    def _nearest(self, axis: int, stored: int) -> np.ndarray:
        # Centre of each kept pixel of the resized picture, in whole numbers so that no centre is rounded astray.
        places = np.arange(self.content[axis]) + self.offset[axis]
        indices = ((2 * places + 1) * stored) // (2 * self.resized[axis])
        return indices[::-1] if self.flip and axis == 1 else indices

    def _cell_weights(self, axis: int, stored: int, cells: int) -> np.ndarray:
        """Matrix (cells, stored) that takes stored cells along one axis to cells of the result."""
        size, content, resized = self.size[axis], self.content[axis], self.resized[axis]
        # As many samples per cell as it covers stored cells, so that none is passed over.
        samples = max(1, math.ceil(size / cells * stored / resized - 1e-6))
        places = (np.arange(cells * samples) + 0.5) * (size / (cells * samples))
        inside = places < content
        if self.flip and axis == 1:
            places = content - places
        places = np.clip((places + self.offset[axis]) * (stored / resized) - 0.5, 0, stored - 1)
        below = np.minimum(places.astype(int), max(stored - 2, 0))
        above = np.minimum(below + 1, stored - 1)
        share = inside / samples
        weights = np.zeros((cells, stored), np.float32)
        rows = np.arange(cells * samples) // samples
        np.add.at(weights, (rows, below), share * (1 - (places - below)))
        np.add.at(weights, (rows, above), share * (places - below))
        return weights


class ClipAugmentation:
    """Draws the geometry and the colour jitter of training, once per clip.

    Randomness comes from the global generators, which Detectron2 seeds in every worker.

    Args:
        size: (H, W) that the network sees.
        scales: the short side becomes int(scale * min(size)) for one of these.
        max_long_side: the long side is never longer, pixels.
        flip_prob: probability of mirroring.
        random_crop: crop what does not fit ``size`` at random; without it such a picture is an error.
        color: whether to draw SSD's colour jitter.
        pad_value: value of the picture's padding.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        scales: list[float],
        max_long_side: int,
        flip_prob: float,
        random_crop: bool,
        color: bool,
        pad_value: int,
    ):
        self.size = tuple(size)
        self.short_sides = [max(1, int(scale * min(size))) for scale in scales]
        self.max_long_side = max_long_side
        self.flip_prob = flip_prob
        self.random_crop = random_crop
        self.color = ColorAugSSDTransform("RGB") if color else None
        self.pad_value = pad_value

    def draw(self, height: int, width: int) -> ClipGeometry:
        """Draw the geometry of a clip whose frames are ``height`` x ``width``.

        Raises:
            ClipError: the resized picture does not fit and cropping is off.
        """
        short_side = int(np.random.choice(self.short_sides))
        resized = T.ResizeShortestEdge.get_output_shape(height, width, short_side, self.max_long_side)
        spare = [max(full - size, 0) for full, size in zip(resized, self.size, strict=True)]
        if any(spare) and not self.random_crop:
            raise ClipError(
                f"A picture of {height} x {width} pixels becomes {resized[0]} x {resized[1]}, more than "
                f"INPUT.SIZE {self.size}; set INPUT.RANDOM_CROP to True, or choose smaller INPUT.SCALES."
            )
        offset = tuple(int(np.random.randint(room + 1)) for room in spare)
        flip = bool(np.random.rand() < self.flip_prob)
        return ClipGeometry(resized=resized, offset=offset, size=self.size, flip=flip, pad_value=self.pad_value)
