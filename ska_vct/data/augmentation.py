"""Training augmentation: one geometry per clip, shared by frames, pre-masks, masks and flow (docs/recipe.md).

Shape legend
    T       frames
    h, w    any resolution at which the full image is stored
    H, W    input size of the network, ``ClipGeometry.size``
    S       flow fields per second
    gh, gw  the flow grid passed to the model; it covers H x W
"""

import math
import random
from dataclasses import dataclass

import detectron2.data.transforms as T
import numpy as np
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

from ska_vct.structures.clip import IGNORE_LABEL, ClipError


@dataclass(frozen=True, kw_only=True)
class ClipGeometry:
    """Geometric transform of a clip: square, resize, crop, flip, pad right and bottom, in this order.

    Positions are fractions of the full image, so arrays at other resolutions than the frame's (masks, pre-masks,
    flow) are transformed directly, without resizing them to the frame first.

    Attributes:
        resized: (height, width) of the full image after the resize, pixels.
        offset: (y, x) of the crop's corner in the resized image, pixels.
        size: (H, W) of the result.
        flip: whether the result is mirrored left to right.
        pad_value: value of image padding; labels are padded with 255, flow with zeros.
        square: side, in pixels, of a square to which the full image is resized first; 0: disabled.
    """

    resized: tuple[int, int]
    offset: tuple[int, int] = (0, 0)
    size: tuple[int, int]
    flip: bool = False
    pad_value: int = 128
    square: int = 0

    @classmethod
    def resize(cls, size: tuple[int, int]) -> "ClipGeometry":
        """Evaluation geometry: resize both sides to ``size`` without preserving the aspect ratio."""
        return cls(resized=tuple(size), size=tuple(size))

    @property
    def content(self) -> tuple[int, int]:
        """(height, width) of the result without its padding."""
        return tuple(
            min(size, resized - offset)
            for size, resized, offset in zip(self.size, self.resized, self.offset, strict=True)
        )

    def apply_images(
        self,
        images: list[np.ndarray],
        color: "ColorJitter | None" = None,
        *,
        color_per_image: bool = False,
        square_nearest: bool = False,
    ) -> np.ndarray:
        """Transform images, with Pillow's bilinear resize, which averages when downscaling.

        Args:
            images: T uint8 arrays (h, w, 3).
            color: colour jitter; padding is unaffected.
            color_per_image: sample the jitter for each image separately, else once for all T.
            square_nearest: resize to the square with nearest neighbour, as VCT does for pre-masks.

        Returns:
            uint8 (T, H, W, 3).
        """
        how = Image.Resampling.NEAREST if square_nearest else Image.Resampling.BILINEAR
        frames = np.empty((len(images), *self.content, 3), np.uint8)
        for frame, image in zip(frames, images, strict=True):
            if self.square:
                image = np.asarray(Image.fromarray(image).resize((self.square, self.square), how))
            frame[:] = self._resize_and_crop(image)
        if color is not None and color_per_image:
            for frame in frames:
                frame[:] = color.apply_image(frame)
        elif color is not None:
            # Stacked into one tall image, all frames get the same jitter.
            frames = color.apply_image(frames.reshape(-1, frames.shape[2], 3)).reshape(frames.shape)
        if self.flip:
            frames = frames[:, :, ::-1]
        return self._pad(frames, self.pad_value)

    def apply_labels(self, labels: np.ndarray) -> np.ndarray:
        """Transform uint8 label maps (T, h, w) to (T, H, W), nearest neighbour, padded with 255."""
        rows, columns = (self._nearest(axis, labels.shape[1 + axis]) for axis in (0, 1))
        return self._pad(labels[:, rows][:, :, columns], IGNORE_LABEL)

    def apply_flow(self, flow: np.ndarray, *, image_size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
        """Transform flow: cells follow the image, resizing scales the vectors and flipping negates u.

        Each cell of the result is the mean over its area, counting padding as zero.

        Args:
            flow: float (T, S, 2, h, w) over the full image; u right, v down.
            image_size: (height, width) of the image in whose pixels the vectors are measured.
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

    def _resize_and_crop(self, image: np.ndarray) -> np.ndarray:
        """Crop of the resized full image, bit-identical to Pillow's resize.

        Pillow resizes rows, then columns. For speed it is given only the source rows that the crop needs, then
        only the resized columns that the crop contains. Pillow's ``box`` argument would round the box to single
        precision.
        """
        source, (height, width), (y, x) = image.shape[0], self.content, self.offset
        grows = [resized > stored for resized, stored in zip(self.resized, image.shape, strict=False)]
        # If one side grows and the other shrinks, the order of the passes depends on Pillow's version.
        if (height, width) == tuple(self.resized) or grows[0] != grows[1]:
            whole = Image.fromarray(image).resize(self.resized[::-1], Image.Resampling.BILINEAR)
            return np.asarray(whole)[y : y + height, x : x + width]
        scale = source / self.resized[0]
        reach = max(scale, 1.0) + 1
        first = max(0, int((y + 0.5) * scale - reach))
        last = min(source, math.ceil((y + height - 0.5) * scale + reach))
        rows = Image.fromarray(image[first:last])
        rows = rows.resize((self.resized[1], last - first), Image.Resampling.BILINEAR)
        columns = np.zeros((source, width, 3), np.uint8)
        columns[first:last] = np.asarray(rows)[:, x : x + width]
        whole = Image.fromarray(columns).resize((width, self.resized[0]), Image.Resampling.BILINEAR)
        return np.asarray(whole)[y : y + height]

    def _nearest(self, axis: int, stored: int) -> np.ndarray:
        """Source index of each result pixel along one axis, without padding."""
        indices = np.arange(stored, dtype=np.int32)
        for length in (self.square, self.resized[axis]):
            if length:
                indices = _nearest_as_pillow(indices, length)
        start = self.offset[axis]
        indices = indices[start : start + self.content[axis]]
        return indices[::-1] if self.flip and axis == 1 else indices

    def _cell_weights(self, axis: int, stored: int, cells: int) -> np.ndarray:
        """Matrix (cells, stored) that maps stored cells along one axis to result cells."""
        size, content, resized = self.size[axis], self.content[axis], self.resized[axis]
        # At least as many samples per cell as it covers stored cells, so that none is skipped.
        samples = max(1, math.ceil(size / cells * stored / resized - 1e-6))
        positions = (np.arange(cells * samples) + 0.5) * (size / (cells * samples))
        inside = positions < content
        if self.flip and axis == 1:
            positions = content - positions
        positions = np.clip((positions + self.offset[axis]) * (stored / resized) - 0.5, 0, stored - 1)
        below = np.minimum(positions.astype(int), max(stored - 2, 0))
        above = np.minimum(below + 1, stored - 1)
        share = inside / samples
        weights = np.zeros((cells, stored), np.float32)
        rows = np.arange(cells * samples) // samples
        np.add.at(weights, (rows, below), share * (1 - (positions - below)))
        np.add.at(weights, (rows, above), share * (positions - below))
        return weights


def _nearest_as_pillow(values: np.ndarray, length: int) -> np.ndarray:
    """int32 (n,) -> (length,), nearest neighbour with Pillow's rounding for centres on a border."""
    row = Image.fromarray(values[None])
    return np.asarray(row.resize((length, 1), Image.Resampling.NEAREST))[0]


class ColorJitter:
    """SSD's colour jitter with draws of its own: Detectron2's draws from Python's global generator."""

    def __init__(self, rng: np.random.Generator):
        """
        Args:
            rng: seeds the draws.
        """
        self._random = random.Random(int(rng.integers(2**63)))
        self._transform = ColorAugSSDTransform("RGB")

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Jitter uint8 (h, w, 3); every call draws anew."""
        outside = random.getstate()
        random.setstate(self._random.getstate())
        try:
            return self._transform.apply_image(image)
        finally:
            self._random.setstate(random.getstate())
            random.setstate(outside)


class ClipAugmentation:
    """Samples the training geometry once per clip, and provides the colour jitter.

    Args:
        size: (H, W), input size of the network.
        scales: the short side becomes int(scale * min(size)) for one of these.
        max_long_side: maximum long side, pixels.
        flip_prob: probability of a horizontal flip.
        random_crop: randomly crop images that exceed ``size``; without it such images are errors.
        color: whether to apply SSD's colour jitter.
        pad_value: value of image padding.
        color_per_image: sample the jitter per frame and pre-mask (VCT), else once per clip, for frames only.
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
        color_per_image: bool = False,
    ):
        self.size = tuple(size)
        self.short_sides = [max(1, int(scale * min(size))) for scale in scales]
        self.max_long_side = max_long_side
        self.flip_prob = flip_prob
        self.random_crop = random_crop
        self._color = color
        self.pad_value = pad_value
        self.color_per_image = color_per_image

    def color_jitter(self, rng: np.random.Generator) -> ColorJitter | None:
        """The colour jitter of a clip, with draws seeded by ``rng``; None where it is switched off."""
        return ColorJitter(rng) if self._color else None

    def draw(self, height: int, width: int, *, rng: np.random.Generator, square: bool = False) -> ClipGeometry:
        """Sample the geometry of a clip.

        Args:
            height, width: size of its frames, pixels.
            rng: makes the draws.
            square: whether frames are first resized to short side x short side.

        Raises:
            ClipError: the resized image does not fit and cropping is off.
        """
        side = min(height, width) if square else 0
        if side:
            height = width = side
        short_side = int(rng.choice(self.short_sides))
        resized = T.ResizeShortestEdge.get_output_shape(height, width, short_side, self.max_long_side)
        spare = [max(full - size, 0) for full, size in zip(resized, self.size, strict=True)]
        if any(spare) and not self.random_crop:
            raise ClipError(
                f"An image of {height} x {width} pixels becomes {resized[0]} x {resized[1]}, more than "
                f"INPUT.SIZE {self.size}; set INPUT.RANDOM_CROP to True, or choose smaller INPUT.SCALES."
            )
        offset = tuple(int(rng.integers(limit + 1)) for limit in spare)
        flip = bool(rng.random() < self.flip_prob)
        return ClipGeometry(
            resized=resized, offset=offset, size=self.size, flip=flip, pad_value=self.pad_value, square=side
        )
