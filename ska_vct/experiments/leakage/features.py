"""Features of pairs of objects, of which one sounds, by modality: the input of the leak check.

Shape legend
    n     clips (pairs of objects)
    T     seconds, and sampled frames
    2     the objects in drawing order: 0 behind, 1 in front
    L     flow fields of a clip, T * S
"""

import os
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from ska_vct.data.audio.files import load_log_mel
from ska_vct.data.catalog import load_records
from ska_vct.data.flow.store import read_flow
from ska_vct.data.images.io import read_image
from ska_vct.synth.truth import ClipTruth, read_objects

CROP = 24
# Side of a crop in multiples of the longer side of the object's box, to include its surroundings.
_CROP_SPAN = 1.6
SIGHTS = (
    "area", "x", "y", "distance from the centre", "width", "height", "tilt", "distance from the edge", "order",
    "solidity", "hue cos", "hue sin", "saturation", "value", "contrast", "sharpness", "rim", "red", "green",
    "blue", "blocks", "surround value", "surround contrast", "surround sharpness", "gap",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Clips with one object that sounds and one that does not.

    Attributes:
        kinds: str (n,), kind of scene.
        first_sounds: bool (n,), whether the object behind is the sounding one.
        classes: str (n, 2).
        heard: str (n,), class of the audio.
        sights: float32 (n, T, 2, F), measures of either object in single images, named in ``SIGHTS``.
        crops: uint8 (n, T, 2, CROP, CROP, 3), either object with its surroundings, RGB.
        motions: float32 (n, 2, M), statistics of the flow within either object over the clip.
        speeds: float32 (n, 2, L), mean flow magnitude within either object, pixels per second.
        sounds: float32 (n, A), statistics of the log-mel.
        loudness: float32 (n, L), amplitude of the audio at the times of ``speeds``; NaN past its end.
    """

    kinds: np.ndarray
    first_sounds: np.ndarray
    classes: np.ndarray
    heard: np.ndarray
    sights: np.ndarray
    crops: np.ndarray
    motions: np.ndarray
    speeds: np.ndarray
    sounds: np.ndarray
    loudness: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)

    def select(self, chosen: np.ndarray) -> "Pairs":
        """Some of the clips; ``chosen`` is a bool (n,) or integers."""
        return Pairs(**{name: values[chosen] for name, values in vars(self).items()})


def read_pairs(root: str | os.PathLike, subset: str, split: str, *, progress: bool = True) -> Pairs | None:
    """Read the pairs of a synthetic split; None if it contains no pair.

    Raises:
        DatasetError, TruthError, ImageError, FlowError, AudioError: files are missing or damaged.
    """
    rows = []
    records = load_records(subset, split, root, prefer_rebuilt=False)
    for record in tqdm(records, f"Reading {os.path.basename(os.fspath(root))}", unit="clip", disable=not progress):
        truth = read_objects(root, record)
        sounding = [role == "sounding" for role in truth.roles]
        if len(sounding) == 2 and sum(sounding) == 1:
            rows.append(_read_pair(record, truth, sounding.index(True)))
    if not rows:
        return None
    return Pairs(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _read_pair(record: dict, truth: ClipTruth, sounding: int) -> dict[str, np.ndarray]:
    frames = np.stack([read_image(path) for path in record["image_paths"]])
    flow = read_flow(record["flow_path"], clip_id=record["clip_id"], num_frames=len(frames)).flow
    log_mel = load_log_mel(record, len(frames), source="wav")
    speeds, motions = _flow_features(flow.astype(np.float32), truth.masks)
    loudness, sounds = _audio_features(log_mel[:, 0].reshape(-1, 64), speeds.shape[1], len(frames))
    sights = [[_sight(frame, masks, k) for k in (0, 1)] for frame, masks in zip(frames, truth.masks, strict=True)]
    crops = [[_crop(frame, mask) for mask in masks] for frame, masks in zip(frames, truth.masks, strict=True)]
    return {
        "kinds": np.array(truth.kind),
        "first_sounds": np.array(sounding == 0),
        "classes": np.array(truth.classes),
        "heard": np.array(truth.classes[sounding]),
        "sights": np.array(sights, np.float32),
        "crops": np.array(crops),
        "motions": motions,
        "speeds": speeds,
        "sounds": sounds,
        "loudness": loudness,
    }


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (exclusive) of the set pixels; the whole image if none is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _crop(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    left, top, right, bottom = _box(mask)
    side = _CROP_SPAN * max(right - left, bottom - top)
    scale = CROP / side
    matrix = np.array(
        [[scale, 0, CROP / 2 - scale * (left + right) / 2], [0, scale, CROP / 2 - scale * (top + bottom) / 2]]
    )
    return cv2.warpAffine(frame, matrix, (CROP, CROP), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def _sight(frame: np.ndarray, masks: np.ndarray, k: int) -> list[float]:
    """``SIGHTS`` of object ``k`` in one image; lengths and areas as shares of the image."""
    mask = masks[k]
    height, width = mask.shape
    if not mask.any():
        return [0.0] * len(SIGHTS)
    y, x = np.nonzero(mask)
    left, top, right, bottom = _box(mask)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    hue, saturation, value = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)[mask].astype(np.float32).T
    kernel = np.ones((5, 5), np.uint8)
    rim = mask & ~cv2.erode(mask.astype(np.uint8), kernel).astype(bool)
    surround = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~masks.any(axis=0)
    surround = surround if surround.any() else ~mask
    covariance = np.cov(np.stack([x, y])) if len(x) > 1 else np.eye(2)
    # JPEG codes blocks of 8 x 8 pixels: compare steps across block borders with steps elsewhere.
    steps, inside = np.abs(np.diff(grey, axis=1)), mask[:, 1:]
    border = inside & (np.arange(1, width) % 8 == 0)
    blocks = steps[border].mean() - steps[inside].mean() if border.any() else 0.0
    others = np.stack(np.nonzero(masks[1 - k])[::-1]).mean(axis=1) if masks[1 - k].any() else np.zeros(2)
    radians = hue * np.pi / 90  # OpenCV's hue range is 0 to 180
    return [
        mask.mean(), x.mean() / width, y.mean() / height,
        np.hypot(x.mean() / width - 0.5, y.mean() / height - 0.5),
        (right - left) / width, (bottom - top) / height,
        0.5 * np.arctan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1]),
        min(left, width - right, top, height - bottom) / width, k,
        mask.sum() / ((right - left) * (bottom - top)),
        np.cos(radians).mean(), np.sin(radians).mean(), saturation.mean(), value.mean(), value.std(),
        detail[mask].mean(), grey[rim].mean() - grey[surround].mean(), *frame[mask].mean(axis=0), blocks,
        grey[surround].mean(), grey[surround].std(), detail[surround].mean(),
        np.hypot(x.mean() - others[0], y.mean() - others[1]) / width,
    ]  # fmt: skip


def _flow_features(flow: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From flow (T, S, 2, h, w) and masks (T, 2, H, W): ``speeds`` (2, L) and ``motions`` (2, M)."""
    seconds, series, _, height, width = flow.shape
    weights = np.stack([
        [cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for mask in pair]
        for pair in masks
    ])  # fmt: skip
    weights /= np.maximum(weights.sum(axis=(2, 3), keepdims=True), 1e-6)
    speeds = np.einsum("tshw,tkhw->kts", np.linalg.norm(flow, axis=2), weights).reshape(2, -1)
    means = np.einsum("tschw,tkhw->kcts", flow, weights).reshape(2, 2, -1)
    by_second = speeds.reshape(2, seconds, series).mean(axis=2)
    ordered = np.sort(speeds, axis=1)
    log_speeds = np.log(speeds + 0.1)
    parts = [
        log_speeds.mean(axis=1, keepdims=True), log_speeds.std(axis=1, keepdims=True),
        np.log(np.sort(by_second, axis=1) + 0.1),
        np.log(ordered[:, np.linspace(0, ordered.shape[1] - 1, 11).astype(int)] + 0.1),
        np.log(np.abs(np.fft.rfft(speeds, axis=1)) + 0.1)[:, 1:],
        np.log(np.abs(np.diff(speeds, axis=1)).mean(axis=1, keepdims=True) + 0.1),
        means.mean(axis=2), means.std(axis=2),
    ]  # fmt: skip
    return speeds.astype(np.float32), np.concatenate(parts, axis=1).astype(np.float32)


def _audio_features(log_mel: np.ndarray, length: int, seconds: int) -> tuple[np.ndarray, np.ndarray]:
    """From log-mel (hops, 64): ``loudness`` (L,) and ``sounds`` (A,)."""
    amplitude = np.exp(log_mel).sum(axis=1)
    # A hop is 10 ms; the patches cover 0.96 of each second.
    step = np.minimum(np.arange(len(amplitude)) * length // (100 * seconds), length - 1)
    counts = np.bincount(step, minlength=length)
    loudness = np.where(counts > 0, np.bincount(step, amplitude, length) / np.maximum(counts, 1), np.nan)
    heard = loudness[counts > 0]
    spectrum = np.log(np.abs(np.fft.rfft(heard)) + 0.1)[1:]
    parts = [
        log_mel.mean(axis=0),
        log_mel.std(axis=0),
        log_mel.max(axis=0),
        np.log(np.sort(heard) + 0.1),
        spectrum,
    ]
    return loudness.astype(np.float32), np.concatenate(parts).astype(np.float32)
