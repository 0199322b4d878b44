"""From pairs of images to flow in physical units; DIS, which needs no weights (docs/data.md, evidence.md).

Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.

Shape legend
    N     images of a video
    M     images that some field needs
    T     sampled frames of the clip, one per second
    S     flow fields over a frame's second
    H, W  image, pixels
    h, w  resolution of the stored field
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from ska_vct.data.facts import sample_time
from ska_vct.data.flow.names import MIN_SIDE
from ska_vct.data.flow.store import FlowError


@dataclass(frozen=True, kw_only=True)
class ImagePairs:
    """The images between which a clip's T x S fields lie; an image that many fields share is kept once.

    Attributes:
        clip_id: whose they are.
        images: uint8 (M, H, W, 3), RGB.
        times: float64 (M,), seconds from the clip's start.
        first: int64 (T * S,), of each field the image at whose pixels it lies.
        second: int64 (T * S,), the image it points into; the earlier one for a backward field.
        shape: (T, S).
        size: (height, width) of the original image, of which ``images`` may be smaller copies.
        fps: images per second of what they were taken from.
        source: ``video`` or ``frames``.
    """

    clip_id: str = ""
    images: np.ndarray
    times: np.ndarray
    first: np.ndarray
    second: np.ndarray
    shape: tuple[int, int]
    size: tuple[int, int]
    fps: float
    source: str

    @property
    def steps(self) -> np.ndarray:
        """Seconds from the first to the second image of each field, float64 (T * S,); negative backwards."""
        return self.times[self.second] - self.times[self.first]


class FlowMethod:
    """A way to compute flow; subclasses give ``between``.

    Attributes:
        name: as ``FlowRecord.meta["method"]`` has it.
        weights: name of the network's weights, or empty.
        batch_size: pairs handed over at once. Batches never mix clips, so a clip's flow depends on itself alone.
    """

    name = ""
    weights = ""
    batch_size = 1

    def fields(self, pairs: ImagePairs, chosen: np.ndarray) -> np.ndarray:
        """Displacements of the fields ``chosen`` (n,), float32 (n, 2, H, W), pixels of ``pairs.images``."""
        return self.between(pairs.images[pairs.first[chosen]], pairs.images[pairs.second[chosen]])

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Displacements from ``first`` to ``second``, uint8 (n, H, W, 3): float32 (n, 2, H, W), pixels."""
        raise NotImplementedError


class DisFlow(FlowMethod):
    """OpenCV's Dense Inverse Search, see :func:`dis_flow`."""

    name = "dis"

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.stack([dis_flow(to_gray(a), to_gray(b)) for a, b in zip(first, second, strict=True)])


def pair_flow(pairs: ImagePairs, method: FlowMethod, size: tuple[int, int]) -> np.ndarray:
    """The clip's flow, float32 (T, S, 2, h, w), in pixels of the original image per second.

    Fields between the same two images are computed once. OpenCV runs on one thread: how it shares work among
    threads changes DIS's result.

    Args:
        size: (h, w); fields are averaged over areas.

    Raises:
        FlowError: the images are too small for the method.
    """
    unique, chosen, inverse = np.unique(
        np.stack([pairs.first, pairs.second]), axis=1, return_index=True, return_inverse=True
    )
    batches = np.split(chosen, range(method.batch_size, unique.shape[1], method.batch_size))
    with one_opencv_thread():
        fields = [shrink(field, size) for batch in batches for field in method.fields(pairs, batch)]
    scale = np.array(pairs.size[::-1]) / pairs.images.shape[2:0:-1]
    rates = (scale / pairs.steps[chosen][:, None]).astype(np.float32)
    return (np.stack(fields) * rates[:, :, None, None])[inverse.ravel()].reshape(*pairs.shape, 2, *size)


def dis_flow(prev_gray: np.ndarray, next_gray: np.ndarray) -> np.ndarray:
    """Displacement from one image to another: DIS medium, finest scale 1, patch stride 3 (Kroeger et al., 2016).

    Args:
        prev_gray, next_gray: uint8 (H, W).

    Returns:
        float32 (2, H, W), pixels: what is at p in ``prev_gray`` is at p + flow in ``next_gray``; u right, v down.

    Raises:
        FlowError: the images differ in size or are too small.
    """
    if prev_gray.shape != next_gray.shape or min(prev_gray.shape) < MIN_SIDE:
        raise FlowError(
            f"Flow needs two images of one size, at least {MIN_SIDE} pixels wide and high; these are "
            f"{prev_gray.shape} and {next_gray.shape}."
        )
    return np.ascontiguousarray(_dis().calc(prev_gray, next_gray, None).transpose(2, 0, 1))


def flow_series(
    frames: np.ndarray, *, fps: float, num_seconds: int, series: int, size: tuple[int, int]
) -> np.ndarray:
    """Flow of a video: ``series`` fields spread over each second, each from the two images about its time.

    A single field per second is taken about the sampled frame (``sample_time``), several about the middles of
    their shares of the second. Where the video has no image before or after, the nearest pair is used.

    Args:
        frames: uint8 (N, H, W, 3), RGB, at ``fps`` images per second.
        num_seconds: T.
        series: S.
        size: (h, w); fields are averaged over areas.

    Returns:
        float32 (T, S, 2, h, w), pixels of the original image per second.

    Raises:
        FlowError: fewer than two images, or images too small.
    """
    if len(frames) < 2:
        raise FlowError(f"Flow needs at least two images; the video has {len(frames)}.")
    first = field_pairs(len(frames), fps=fps, num_seconds=num_seconds, series=series)
    pairs = ImagePairs(
        images=frames, times=np.arange(len(frames)) / fps, first=first, second=first + 1,
        shape=(num_seconds, series), size=frames.shape[1:3], fps=fps, source="video",
    )  # fmt: skip
    return pair_flow(pairs, DisFlow(), size)


def field_times(num_seconds: int, series: int) -> np.ndarray:
    """Middle of every field's share of its second, float64 (T * S,) seconds; a single field lies at its frame."""
    seconds = np.arange(num_seconds, dtype=np.float64)
    if series == 1:
        return sample_time(seconds)
    return (seconds[:, None] + (np.arange(series) + 0.5) / series).ravel()


def field_pairs(num_frames: int, *, fps: float, num_seconds: int, series: int) -> np.ndarray:
    """First image of the pair that each field is computed from, int64 (T * S,)."""
    # Rounded first: whole numbers must not fall to either side by a float's last bit.
    wanted = np.round(field_times(num_seconds, series) * fps - 0.5, 6)
    return np.clip(np.rint(wanted).astype(np.int64), 0, num_frames - 2)


def frame_pairs(frames: np.ndarray, *, clip_id: str = "") -> ImagePairs:
    """Pairs of AVSBench's released images, which lie one second apart.

    Each image gets the motion since the one before, at its own pixels; the first its forward flow.

    Args:
        frames: uint8 (T, H, W, 3), RGB.

    Raises:
        FlowError: fewer than two images.
    """
    if len(frames) < 2:
        raise FlowError(f"Flow needs at least two images; the clip has {len(frames)}.")
    now = np.arange(len(frames))
    return ImagePairs(
        clip_id=clip_id, images=frames, times=sample_time(now), first=now, second=np.where(now, now - 1, 1),
        shape=(len(frames), 1), size=frames.shape[1:3], fps=1.0, source="frames",
    )  # fmt: skip


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread; elsewhere in the program it stays as it was."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def to_gray(image: np.ndarray) -> np.ndarray:
    """RGB, uint8 (H, W, 3), to grey, uint8 (H, W)."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def shrink(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a field (2, H, W) to (2, h, w) without changing its vectors: averages over areas, bilinear upwards."""
    height, width = size
    larger = height > field.shape[1] or width > field.shape[2]
    mode = cv2.INTER_LINEAR if larger else cv2.INTER_AREA
    resized = cv2.resize(np.ascontiguousarray(field.transpose(1, 2, 0)), (width, height), interpolation=mode)
    return resized.transpose(2, 0, 1)


def _dis() -> cv2.DISOpticalFlow:
    # Made anew for every pair (15 microseconds): after a small image OpenCV's keeps to fewer scales for good.
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(1)
    dis.setPatchStride(3)
    return dis
