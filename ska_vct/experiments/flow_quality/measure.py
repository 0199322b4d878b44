"""Accuracy and cost of flow: every method against the true flow of synthetic clips.

The end-point error is the length of the difference between a method's displacement and the true one, in pixels
between the two images, averaged over pixels (Baker et al., "A Database and Evaluation Methodology for Optical
Flow", IJCV 2011). All pixels count, including those that move out of view.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from ska_vct.data.flow.camera import remove_camera_motion
from ska_vct.data.flow.extract.clip import FlowRequest, compute_clip, read_clip
from ska_vct.data.flow.methods.base import FlowMethod, ImagePairs, one_opencv_thread
from ska_vct.data.flow.store import FlowError, read_flow, write_flow
from ska_vct.data.registry import get_facts
from ska_vct.synth.true_flow import TrueFlow

# Displacement in pixels between two images from which a pixel counts as moving.
MOVING = 0.25


class NoFlow(FlowMethod):
    """Predicts no motion: the baseline every method must beat."""

    name = "no motion"
    batch_size = 64

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.zeros((len(first), 2, *first.shape[1:3]), np.float32)


@dataclass(kw_only=True)
class FlowScore:
    """Measurements of one method.

    Attributes:
        method, source: name of the method, and what it read: the video or the frames.
        errors: per clip, mean end-point error, pixels.
        moving: per clip, the same over pixels whose true motion is ``MOVING`` or more; clips without such pixels
            are left out.
        seconds: per clip, time to read, compute and write in one process.
        sizes: (fields per second, bits) -> bytes per clip.
        rounding: per clip, mean error of 8-bit storage and mean length of the flow, pixels per second.
        shares: per clip of a moving camera, without and with compensation: the share of all flow that lies on
            objects with motion of their own.
    """

    method: str
    source: str
    errors: list[float] = field(default_factory=list)
    moving: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    sizes: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    rounding: list[tuple[float, float]] = field(default_factory=list)
    shares: list[tuple[float, float]] = field(default_factory=list)


def score_method(
    records: Sequence[Mapping],
    method: FlowMethod,
    truth: TrueFlow,
    *,
    request: FlowRequest,
    progress: bool = True,
) -> FlowScore:
    """Measure one method on synthetic clips.

    Args:
        records: of ``load_records``; sizes are measured on files in a temporary folder.
        method: the method to measure.
        truth: true flow of the same release.
        request: source, fields per second and sizes to measure with.

    Raises:
        FlowError: a clip cannot be computed.
    """
    score = FlowScore(method=method.name, source=request.source)
    with tempfile.TemporaryDirectory() as folder:
        for record in tqdm(records, desc=f"{method.name}, {request.source}", unit="clip", disable=not progress):
            start = time.perf_counter()
            pairs, _ = read_clip(record, request)
            if pairs is None:
                raise FlowError(f"Clip '{record['clip_id']}' has a single image; measure with other clips.")
            flow = compute_clip(record, request, method, pairs)
            write_flow(Path(folder, "timed.npz"), flow)
            score.seconds.append(time.perf_counter() - start)
            _add_errors(score, pairs, method, truth)
            for series in sorted({1, flow.flow.shape[1]}):
                for bits in (16, 8):
                    path = Path(folder, "sized.npz")
                    write_flow(path, replace(flow, flow=flow.flow[:, :series]), bits=bits)
                    score.sizes.setdefault((series, bits), []).append(path.stat().st_size)
            score.rounding.append((_length(read_flow(path).flow - flow.flow), _length(flow.flow)))
    return score


def _length(flow: np.ndarray) -> float:
    """Mean length of the vectors of (T, S, 2, h, w)."""
    return float(np.hypot(*np.moveaxis(flow.astype(np.float32), 2, 0)).mean())


def _add_errors(score: FlowScore, pairs: ImagePairs, method: FlowMethod, truth: TrueFlow) -> None:
    found, true = full_fields(pairs, method), full_fields(pairs, truth)
    error, length = np.hypot(*(found - true).swapaxes(0, 1)), np.hypot(*true.swapaxes(0, 1))
    score.errors.append(float(error.mean()))
    if (length >= MOVING).any():
        score.moving.append(float(error[length >= MOVING].mean()))
    # The generator's camera only pans, and most of the image is background: its motion is the median.
    camera = np.median(true, axis=(2, 3), keepdims=True)
    own = np.hypot(*(true - camera).swapaxes(0, 1)) >= MOVING
    if np.abs(camera).max() >= MOVING and own.any():
        amounts = [np.hypot(*flow.swapaxes(0, 1)) for flow in (found, remove_camera_motion(found))]
        score.shares.append(tuple(float(amount[own].sum() / max(amount.sum(), 1e-9)) for amount in amounts))


def full_fields(pairs: ImagePairs, method: FlowMethod) -> np.ndarray:
    """Displacements at the images' own resolution, float32 (F, 2, H, W), pixels."""
    batches = np.split(np.arange(len(pairs.first)), range(method.batch_size, len(pairs.first), method.batch_size))
    with one_opencv_thread():
        return np.concatenate([method.fields(pairs, batch) for batch in batches])


def markdown_table(scores: Sequence[FlowScore], *, not_measured: Sequence[str] = ()) -> str:
    """The scores as a table; ``not_measured`` names methods that could not run."""
    series = max(key[0] for score in scores for key in score.sizes)
    sizes = [(count, bits) for count in dict.fromkeys((series, 1)) for bits in (16, 8)]
    columns = [
        "method", "from", "end-point error, px", f"where motion >= {MOVING} px", "clips/s, one core",
        *(f"kB/clip, S = {s}, {bits} bits" for s, bits in sizes),
    ]  # fmt: skip
    rows = []
    for score in scores:
        stored = [f"{np.mean(score.sizes[key]) / 1e3:.1f}" if key in score.sizes else "" for key in sizes]
        if score.method == NoFlow.name:
            stored, speed = [""] * len(sizes), ""
        else:
            speed = f"{len(score.seconds) / sum(score.seconds):.2f}"
        errors = [f"{np.mean(values):.3f}" if values else "" for values in (score.errors, score.moving)]
        rows.append([score.method, score.source, *errors, speed, *stored])
    rows += [[name, "", "not measured", *[""] * (len(columns) - 3)] for name in not_measured]
    return _table(columns, rows)


def camera_table(scores: Sequence[FlowScore]) -> str:
    """Effect of camera compensation as a table; empty where no camera moved."""
    rows = []
    for score in scores:
        if score.shares and score.method != NoFlow.name:
            shares = [f"{100 * np.mean(values):.0f} %" for values in zip(*score.shares, strict=True)]
            rows.append([score.method, score.source, *shares])
    return _table(["method", "from", "as computed", "CAMERA affine"], rows) if rows else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["left"] * 2 + ["right"] * (len(columns) - 2)
    return tabulate(rows, columns, tablefmt="pipe", disable_numparse=True, colalign=align)


def sizes_of_release(score: FlowScore, subsets: Sequence[str] = ("s4", "ms3")) -> str:
    """One sentence: disk space of whole AVSBench subsets, extrapolated from the measured bytes per clip."""
    clips = sum(sum(get_facts(name).split_sizes.values()) for name in subsets)
    parts = [
        f"{clips * np.mean(found) / 1e9:.2f} GB at S = {series}, {bits} bits"
        for (series, bits), found in sorted(score.sizes.items(), key=lambda item: (item[0][0], -item[0][1]))
    ]
    rounding, length = np.mean(score.rounding, axis=0)
    return (
        f"{' + '.join(name.upper() for name in subsets)}, {clips} clips: {'; '.join(parts)}. 8 bits change the "
        f"flow by {rounding:.3f} px/s on average, {100 * rounding / max(length, 1e-9):.1f} % of its mean length."
    )
