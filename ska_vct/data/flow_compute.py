"""Flow from pictures or videos with OpenCV's DIS, which needs no weights (spec: data.md, evidence.md).

Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.

Shape legend
    N     pictures of a video
    T     sampled frames of the clip, one per second
    S     flow fields over a frame's second
    H, W  picture, pixels
    h, w  resolution of the stored field
"""

import os
from functools import cache

import av
import cv2
import numpy as np

from ska_vct.data.flow import FlowError

# AVSBench takes picture 15 of the 16 of each second (counted from 0).
SAMPLE_TIME = 15 / 16
# DIS works on patches of 8 x 8 at half resolution and returns nothing useful below this side.
MIN_SIDE = 24


def dis_flow(prev_gray: np.ndarray, next_gray: np.ndarray) -> np.ndarray:
    """Displacement from one picture to another: DIS medium, finest scale 1, patch stride 3 (spec: evidence.md).

    Args:
        prev_gray, next_gray: uint8 (H, W).

    Returns:
        float32 (2, H, W), pixels: what is at p in ``prev_gray`` is at p + flow in ``next_gray``; u right, v down.

    Raises:
        FlowError: the pictures differ in size or are too small.
    """
    if prev_gray.shape != next_gray.shape or min(prev_gray.shape) < MIN_SIDE:
        raise FlowError(
            f"Flow needs two pictures of one size, at least {MIN_SIDE} pixels wide and high; these are "
            f"{prev_gray.shape} and {next_gray.shape}."
        )
    return np.ascontiguousarray(_dis().calc(prev_gray, next_gray, None).transpose(2, 0, 1))


def flow_series(
    frames: np.ndarray, *, fps: float, num_seconds: int, series: int, size: tuple[int, int]
) -> np.ndarray:
    """Flow of a video: ``series`` fields spread over each second, each from the two pictures about its time.

    A single field per second is taken about the sampled frame (``SAMPLE_TIME``), several about the middles of
    their shares of the second. Where the video has no picture before or after, the nearest pair is used.

    Args:
        frames: uint8 (N, H, W, 3), RGB, at ``fps`` pictures per second.
        num_seconds: T.
        series: S.
        size: (h, w); fields are averaged over areas.

    Returns:
        float32 (T, S, 2, h, w), pixels of the original picture per second.

    Raises:
        FlowError: fewer than two pictures, or pictures too small.
    """
    if len(frames) < 2:
        raise FlowError(f"Flow needs at least two pictures; the video has {len(frames)}.")
    first = field_pairs(len(frames), fps=fps, num_seconds=num_seconds, series=series)
    gray = {index: _gray(frames[index]) for index in np.union1d(first, first + 1)}
    pairs, inverse = np.unique(first, return_inverse=True)
    fields = np.stack([_shrink(dis_flow(gray[index], gray[index + 1]), size) for index in pairs])
    return (fields * np.float32(fps))[inverse.ravel()].reshape(num_seconds, series, 2, *size)


def field_times(num_seconds: int, series: int) -> np.ndarray:
    """Middle of every field's share of its second, float64 (T * S,) seconds; one field lies at ``SAMPLE_TIME``."""
    within = [SAMPLE_TIME] if series == 1 else (np.arange(series) + 0.5) / series
    return (np.arange(num_seconds)[:, None] + within).ravel()


def field_pairs(num_frames: int, *, fps: float, num_seconds: int, series: int) -> np.ndarray:
    """First picture of the pair that each field is computed from, int64 (T * S,)."""
    # Rounded first: whole numbers must not fall to either side by a float's last bit.
    wanted = np.round(field_times(num_seconds, series) * fps - 0.5, 6)
    return np.clip(np.rint(wanted).astype(np.int64), 0, num_frames - 2)


def picture_flow(frames: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Flow of AVSBench's released pictures, which lie one second apart.

    Each picture gets the motion since the one before, at its own pixels; the first its forward flow.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
        size: (h, w).

    Returns:
        float32 (T, 1, 2, h, w), pixels of the original picture per second.

    Raises:
        FlowError: fewer than two pictures, or pictures too small.
    """
    if len(frames) < 2:
        raise FlowError(f"Flow needs at least two pictures; the clip has {len(frames)}.")
    gray = [_gray(frame) for frame in frames]
    since = [-dis_flow(now, before) for before, now in zip(gray, gray[1:], strict=False)]
    return np.stack([_shrink(field, size) for field in [dis_flow(gray[0], gray[1]), *since]])[:, None]


def read_video(path: str | os.PathLike) -> tuple[np.ndarray, float]:
    """All pictures of a video, uint8 (N, H, W, 3) RGB, and its frame rate.

    Raises:
        FlowError: the file is no readable video.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            fps = float(stream.average_rate or stream.base_rate)
    except (av.error.FFmpegError, OSError, IndexError, TypeError) as error:
        raise FlowError(f"Video {path} cannot be read ({error}).") from None
    if not frames:
        raise FlowError(f"Video {path} holds no picture.")
    return np.stack(frames), fps


@cache
def _dis() -> cv2.DISOpticalFlow:
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(1)
    dis.setPatchStride(3)
    return dis


def _gray(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _shrink(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    larger = height > field.shape[1] or width > field.shape[2]
    mode = cv2.INTER_LINEAR if larger else cv2.INTER_AREA
    resized = cv2.resize(np.ascontiguousarray(field.transpose(1, 2, 0)), (width, height), interpolation=mode)
    return resized.transpose(2, 0, 1)
