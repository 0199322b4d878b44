"""The flow store: one .npz per clip with direction and physical units kept (docs/data.md, "Kinematic field").

Version 1 holds ``flow`` float16 (T, S, 2, h, w). Version 2 holds ``flow`` int8 (T, S, 2, h, w) and ``scale``
float32 (T, S), the value of one step in each field: half the size, an error of at most half a step. Both hold
``meta``, JSON text. Readers see no difference.

Shape legend
    T     frames of the clip, one per second
    S     flow fields over a frame's second
    h, w  resolution of the stored fields
    H, W  original image, pixels
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ska_vct.data.facts import expand, placeholders
from ska_vct.data.registry import get_facts
from ska_vct.utils.array_files import ArrayFileError, parse_json, read_npy, read_npz
from ska_vct.utils.errors import InputError, SkaVctError
from ska_vct.utils.files import atomic_write

# bits per value -> version of the file
FLOW_VERSIONS = {16: 1, 8: 2}
NORMS = ("frame", "clip", "diagonal")
PIXELS_PER_SECOND = "pixels per second"
# What the published files hold: direction and scale are gone.
SHARE_OF_FRAME_MAXIMUM = "share of the frame maximum"
# What flow can be: at most so many of the frame's diagonals from one image to the next, and below what float16
# saturates at. Published magnitudes are shares of the largest; a rounding more than 1 is one still.
_MAX_DIAGONALS, _FLOAT16_MAX, _MAX_SHARE = 10.0, 65504.0, 1.01
_LARGEST = {"height": 65535, "width": 65535, "fps": 10_000, "time_step": 3600}
META_KEYS = (
    "version", "method", "weights", "fps", "time_step", "height", "width", "clip_id", "source",
)  # fmt: skip


class FlowError(SkaVctError, ValueError):
    """A flow file is missing, unreadable or does not belong to the clip; the sentence names the file."""


@dataclass(frozen=True, kw_only=True)
class FlowRecord:
    """The flow of one clip.

    Attributes:
        flow: float16 (T, S, 2, h, w); u right, v down, in pixels of the original image per second.
        meta: ``version``, ``method`` (dis, raft, published, ...), ``weights`` (name of the network's weights or
            empty), ``fps`` (frame rate of what the flow was computed from), ``time_step`` (seconds between the two
            images of a field), ``height`` and ``width`` of the original image, ``clip_id``, ``source`` (video,
            frames or, where there was a single image, none); ``units`` where they are not pixels per second.
            ``compute_flow.py`` adds ``request``, what it was asked for, and ``software``.
    """

    flow: np.ndarray
    meta: dict


def flow_path(
    root: str | os.PathLike,
    subset: str,
    split: str,
    name: str,
    category: str | None = None,
    label: str | None = None,
) -> Path:
    """Path of a clip's flow file below ``root``.

    Args:
        subset: name of the dataset, whose facts hold the template.
        split: ``train``, ``val`` or ``test``.
        name: clip name; AVSS: uid.
        category: S4's category folder; None for none.
        label: AVSS's ``v1s``, ``v1m`` or ``v2``.

    Raises:
        InputError: the template asks for a category or label that is not given.
    """
    template = get_facts(subset).flow
    values = {"split": split, "name": name, "category": category, "label": label}
    lacking = [key for key in ("category", "label") if key in placeholders(template) and not values[key]]
    if lacking:
        raise InputError(f"The flow file of clip '{name}' of {subset} is {template}; give its {lacking[0]}.")
    return Path(root, expand(template, values))


def write_flow(path: str | os.PathLike, record: FlowRecord, *, bits: int = 16) -> None:
    """Write a clip's flow atomically; equal records give equal bytes.

    Args:
        bits: 16, or 8 for files of half the size.

    Raises:
        FlowError: the flow has another type or shape than documented, holds a value that float16 cannot, the
            metadata lacks a key, or ``bits`` is another number.
        OSError: the file cannot be written; nothing is left under ``path`` then.
    """
    if bits not in FLOW_VERSIONS:
        raise FlowError(f"Flow is stored with {' or '.join(map(str, FLOW_VERSIONS))} bits, not {bits}.")
    meta = {**record.meta, "version": FLOW_VERSIONS[bits]}
    _check_meta(meta, path)
    _check_flow(record.flow, path, meta)
    arrays = {"flow": record.flow} if bits == 16 else _to_steps(record.flow)
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays, meta=np.array(json.dumps(meta, sort_keys=True)))


def has_flow(path: str) -> bool:
    """Whether there is a flow file, or the published folder in its place; neither is opened."""
    return os.path.exists(path) or os.path.isdir(path.removesuffix(".npz"))


def read_flow(path: str | os.PathLike, *, clip_id: str | None = None, num_frames: int | None = None) -> FlowRecord:
    """Read a clip's flow from our file, or from the published folder of the same stem when there is no file.

    Args:
        path: ``.../name.npz``; the published layout is ``.../name/flow_0000.npy`` and onwards.
        clip_id: the clip it must belong to; None skips the check (published files never say).
        num_frames: the number of frames the clip has; None skips the check.

    Returns:
        the record; from the published layout u is the magnitude, v is 0, ``meta["method"]`` is ``published`` and
        ``meta["units"]`` says that scale and direction are lost.

    Raises:
        FlowError: naming the file, what is wrong and what to do.
    """
    path = Path(path)
    if path.is_file():
        record = _read_store(path)
        found = record.meta["clip_id"]
        if clip_id is not None and found != clip_id:
            raise FlowError(f"Flow file {path} belongs to clip '{found}', not '{clip_id}'; compute it again.")
    else:
        folder = path.with_name(path.name.removesuffix(".npz"))
        if not (folder / "flow_0000.npy").is_file():
            raise FlowError(
                f"There is no flow file {path}, nor a published one {folder / 'flow_0000.npy'}; compute the flow "
                "(datasets/compute_flow.py), or set INPUT.FLOW.ONLINE to True, or INPUT.FLOW.MISSING to zero."
            )
        record, path = _read_published(folder, clip_id), folder
    if num_frames is not None and record.flow.shape[0] != num_frames:
        raise FlowError(
            f"Flow {path} has {record.flow.shape[0]} frames but its clip has {num_frames}; compute it again."
        )
    return record


def read_flow_meta(path: str | os.PathLike) -> dict:
    """The metadata of one of our files alone, without unpacking the flow.

    Raises:
        FlowError: the file is missing, damaged or of another version.
    """
    return _parse_meta(_read_arrays(Path(path), {"meta": "U"})["meta"], Path(path))


def speed_limit(meta: Mapping) -> float:
    """Speed that a clip's flow must stay below, pixels per second."""
    limit = _MAX_DIAGONALS * math.hypot(meta["height"], meta["width"]) / meta["time_step"]
    return min(limit, _FLOAT16_MAX)


def normalize_flow(
    flow: np.ndarray,
    *,
    norm: str,
    image_size: tuple[int, int],
    diagonal_share: float,
    units: str = PIXELS_PER_SECOND,
) -> np.ndarray:
    """Bring flow to the unit the model expects; a field without motion stays exactly zero.

    Args:
        flow: float32 (T, S, 2, h, w).
        norm: ``frame`` divides by the largest magnitude over a frame's S fields (as published), ``clip`` by the
            clip's largest, ``diagonal`` by ``diagonal_share`` times the image's diagonal (per second).
        image_size: (H, W) of the image whose pixels the flow counts; used by ``diagonal``.
        diagonal_share: the share of the diagonal that becomes 1.
        units: ``FlowRecord.meta.get("units")``, to refuse ``diagonal`` where the scale is lost.

    Returns:
        float32 (T, S, 2, h, w); magnitudes 0..1 for ``frame`` and ``clip``.

    Raises:
        FlowError: an unknown norm, a share or an image that is not positive, or a scale that is lost.
    """
    flow = np.asarray(flow, dtype=np.float32)
    if norm == "diagonal":
        if units == SHARE_OF_FRAME_MAXIMUM:
            raise FlowError(
                "The published flow files keep no physical scale, so INPUT.FLOW.NORM 'diagonal' cannot be used "
                "with them; choose 'frame' or 'clip'."
            )
        scale = diagonal_share * math.hypot(*image_size)
        if not scale > 0:
            raise FlowError(
                f"INPUT.FLOW.DIAGONAL_SHARE {diagonal_share} of an image of size {tuple(image_size)} is not a "
                "length; both must be positive."
            )
        return flow / np.float32(scale)
    if norm not in NORMS:
        raise FlowError(f"INPUT.FLOW.NORM is '{norm}'; choose one of {', '.join(NORMS)}.")
    magnitude = np.hypot(flow[:, :, 0], flow[:, :, 1])
    axes = (1, 2, 3) if norm == "frame" else (0, 1, 2, 3)
    largest = magnitude.max(axis=axes, keepdims=True, initial=0.0)[:, :, None]
    return flow / np.where(largest > 0, largest, np.float32(1))


def regroup_series(flow: np.ndarray, series: int) -> np.ndarray:
    """Change the number of fields per second, (T, S, 2, h, w) -> (T, series, 2, h, w).

    Each new field is the mean of the stored ones over its share of the second, weighted by how long they overlap:
    groups are averaged where the store keeps more fields, fields are repeated where it keeps fewer.

    Raises:
        FlowError: ``series`` is below 1.
    """
    if series < 1:
        raise FlowError(f"INPUT.FLOW.SERIES is {series}; it must be at least 1.")
    stored = flow.shape[1]
    if stored == series:
        return flow
    old, new = np.arange(stored), np.arange(series)[:, None]
    # In units of 1 / (stored * series) of a second the borders are whole numbers, so divisible cases are exact.
    overlap = np.minimum((old + 1) * series, (new + 1) * stored) - np.maximum(old * series, new * stored)
    weights = (np.clip(overlap, 0, None) / stored).astype(np.float32)
    return np.einsum("ns,tschw->tnchw", weights, flow.astype(np.float32, copy=False))


def middle_fields(flow: np.ndarray, series: int) -> np.ndarray:
    """As :func:`regroup_series`, but each new field is the stored one in the middle of its share of the second.

    Raises:
        FlowError: ``series`` is below 1.
    """
    if series < 1:
        raise FlowError(f"INPUT.FLOW.SERIES is {series}; it must be at least 1.")
    return flow[:, (2 * np.arange(series) + 1) * flow.shape[1] // (2 * series)]


def _read_arrays(path: Path, wanted: dict[str, str]) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, wanted, optional=("scale",))
    except ArrayFileError as error:
        raise FlowError(f"Flow file {path} cannot be read: it {error}; compute it again.") from None


def _parse_meta(text: np.ndarray, path: Path) -> dict:
    try:
        meta = parse_json(str(text)) if text.shape == () else None
    except ArrayFileError as error:
        raise FlowError(f"Flow file {path} cannot be read: its 'meta' {error}; compute it again.") from None
    if not isinstance(meta, dict):
        raise FlowError(f"Flow file {path}: 'meta' is not a JSON object; compute it again.")
    version = meta.get("version")
    if type(version) is not int or version not in FLOW_VERSIONS.values():
        raise FlowError(
            f"Flow file {path} has version {str(version)[:20]}, this code reads "
            f"{' and '.join(map(str, FLOW_VERSIONS.values()))}; compute it again."
        )
    _check_meta(meta, path)
    return meta


def _read_store(path: Path) -> FlowRecord:
    arrays = _read_arrays(path, {"meta": "U", "flow": "fi", "scale": "f"})
    meta, flow = _parse_meta(arrays["meta"], path), arrays["flow"]
    if meta["version"] == FLOW_VERSIONS[8]:
        if "scale" not in arrays:
            raise FlowError(f"Flow file {path} lacks the array scale; compute it again.")
        flow = _from_steps(flow, arrays["scale"], path)
    _check_flow(flow, path, meta)
    # Arrays of a file are views of its bytes; callers may write to a record's.
    return FlowRecord(flow=flow if flow.flags.writeable else flow.copy(), meta=meta)


def _to_steps(flow: np.ndarray) -> dict[str, np.ndarray]:
    """A float16 field as whole steps of its largest value / 127."""
    flow = flow.astype(np.float32)
    scale = np.abs(flow).max(axis=(2, 3, 4)) / 127
    steps = flow / np.where(scale > 0, scale, 1)[:, :, None, None, None]
    return {"flow": np.rint(steps).astype(np.int8), "scale": scale.astype(np.float32)}


def _from_steps(steps: np.ndarray, scale: np.ndarray, path: Path) -> np.ndarray:
    if steps.dtype != np.int8 or scale.dtype != np.float32 or scale.shape != steps.shape[:2]:
        raise FlowError(
            f"Flow {path} is {steps.dtype} {steps.shape} in steps of {scale.dtype} {scale.shape}, expected int8 "
            "(T, S, 2, h, w) and float32 (T, S); compute it again."
        )
    if not (np.isfinite(scale) & (scale >= 0)).all():
        raise FlowError(f"Flow {path} has steps that are negative or not finite; compute it again.")
    with np.errstate(over="ignore"):  # what overflows is found and reported by the check of the whole field
        return (steps * scale.reshape(*scale.shape, *[1] * (steps.ndim - 2))).astype(np.float16)


def _read_published(folder: Path, clip_id: str | None) -> FlowRecord:
    files = sorted(folder.glob("flow_[0-9]*.npy"))
    if [file.name for file in files] != [f"flow_{index:04d}.npy" for index in range(len(files))]:
        raise FlowError(f"Flow folder {folder} does not number its files flow_0000.npy and onwards without gaps.")
    fields = []
    for file in files:
        try:
            field = read_npy(file, kinds="f")
        except ArrayFileError as error:
            raise FlowError(f"Flow file {file} cannot be read: it {error}; make it again.") from None
        if field.ndim != 2 or field.dtype.kind != "f" or (fields and field.shape != fields[0].shape):
            want = fields[0].shape if fields else "(H, W)"
            raise FlowError(f"Flow file {file} is {field.dtype} {field.shape}, expected floats {want}.")
        if field.size and not (field.min() >= 0 and field.max() <= _MAX_SHARE):  # also NaN
            raise FlowError(
                f"Flow file {file} ranges from {field.min():.4g} to {field.max():.4g}, expected shares of the "
                "frame's largest magnitude, 0 to 1; make it again."
            )
        fields.append(field.astype(np.float16))
    magnitude = np.stack(fields)[:, None, None]
    flow = np.concatenate([magnitude, np.zeros_like(magnitude)], axis=2)
    meta = {
        "version": FLOW_VERSIONS[16], "method": "published", "weights": "", "fps": 1.0, "time_step": 1.0,
        "height": flow.shape[3], "width": flow.shape[4], "clip_id": clip_id or folder.name, "source": "frames",
        "units": SHARE_OF_FRAME_MAXIMUM,
    }  # fmt: skip
    _check_flow(flow, folder, meta)
    return FlowRecord(flow=flow, meta=meta)


def _check_flow(flow: np.ndarray, path: str | os.PathLike, meta: Mapping) -> None:
    if flow.dtype != np.float16 or flow.ndim != 5 or flow.shape[2] != 2 or 0 in flow.shape:
        raise FlowError(f"Flow {path} is {flow.dtype} {flow.shape}, expected float16 (T, S, 2, h, w), none empty.")
    if not np.isfinite(flow).all():
        raise FlowError(f"Flow {path} holds values that are not finite; compute it again.")
    limit, largest = speed_limit(meta), float(np.abs(flow).max())
    if largest >= limit:
        raise FlowError(
            f"Flow {path} holds a speed of {largest:.0f} pixels per second, but frames of {meta['height']} x "
            f"{meta['width']} pixels allow less than {limit:.0f}; compute it again."
        )


def _check_meta(meta: Mapping, path: str | os.PathLike) -> None:
    missing = [key for key in META_KEYS if key not in meta]
    if missing:
        raise FlowError(f"Flow {path} lacks {', '.join(missing)} in its metadata; compute it again.")
    for key, most in _LARGEST.items():
        value = meta[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise FlowError(
                f"Flow {path}: metadata '{key}' is {str(value)[:40]}, expected a number above 0, at most {most}."
            )
    for key in ("method", "weights", "clip_id", "source"):
        if not isinstance(meta[key], str):
            raise FlowError(f"Flow {path}: metadata '{key}' is {str(meta[key])[:40]}, expected text.")
