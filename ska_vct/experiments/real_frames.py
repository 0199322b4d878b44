"""How well a model does on frames of real videos with hand-drawn outlines, against flow alone and everything.

The outlines are a JSON file (``tests/data/real_frames.json``): per clip polygons of what sounds, in percent of
width and height, of frames at k + 15/16 s. Clips belong to two halves. Thresholds are chosen on one half,
``choose``, and figures are reported on the other, ``report``.

Shape legend: n frames with outlines, h = w = 224 pixels.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.stats import rankdata
from tabulate import tabulate
from tqdm import tqdm

from ska_vct.data.audio.files import read_video_audio
from ska_vct.data.flow.extract.clip import FlowRequest, compute_clip, read_clip
from ska_vct.data.flow.methods.registry import CLASSICAL
from ska_vct.data.images.io import read_image
from ska_vct.data.images.video_frames import count_seconds, frame_of_video
from ska_vct.engine.predictor import ClipArrays, Predictor
from ska_vct.engine.segment.result import class_probabilities
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_write, write_json

SIDE = 224
CHOOSE, REPORT = "choose", "report"
HALVES = (CHOOSE, REPORT)
# What the model hears and sees: changes of the clip.
OWN, MUTED, SWAPPED, LATE, STILL = "own", "muted", "swapped sound", "sound 0.5 s late", "no flow"
CONDITIONS = (OWN, MUTED, SWAPPED, LATE, STILL)
_LATE_SECONDS = 0.5
_COLUMNS = ("J_rule", "J_argmax", "J_threshold", "AUC", "area_of_own")
# Softmax of two scores that hardly exceed 1 lies between 0.27 and 0.73.
_ARGMAX = 0.5
_THRESHOLDS = np.linspace(0.26, 0.74, 97)


@dataclass(frozen=True, kw_only=True)
class Outlined:
    """One clip with outlines.

    Attributes:
        name: of the video, without ending.
        half: ``choose`` or ``report``.
        masks: frame number -> bool (h, w).
    """

    name: str
    half: str
    masks: Mapping[int, np.ndarray]


def read_outlines(path: str | os.PathLike) -> list[Outlined]:
    """The clips of a file of outlines.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        clips = json.loads(Path(path).read_text(encoding="utf-8"))["clips"]
        found = [
            Outlined(
                name=name,
                half=clip["half"],
                masks={int(k): _fill(polygons) for k, polygons in clip["frames"].items()},
            )
            for name, clip in clips.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, cv2.error) as error:
        raise InputError(f"The outlines in {path} cannot be read ({error}).") from None
    if {clip.half for clip in found} != set(HALVES):
        raise InputError(f"The clips of {path} must belong to the halves {' and '.join(HALVES)}.")
    return found


def _fill(polygons: list) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.round(np.array(polygon, float) * SIDE / 100).astype(np.int32)], 1)
    return mask.astype(bool)


def evaluate_real_frames(
    predictor: Predictor,
    outlines: str | os.PathLike,
    folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    progress: bool = True,
) -> dict:
    """Score a model and two baselines, and write ``real_frames.md``, ``real_frames.json`` and a contact sheet.

    Args:
        predictor: the model.
        outlines: file of outlines.
        folder: holds the videos, ``NAME.mp4``.
        out: folder to write to.
        progress: show a progress bar.

    Returns:
        as written to the JSON file: per condition and half J in percent by the model's rule, at argmax and at the
        threshold chosen, pixel AUC and area by the model's rule; the baselines; the thresholds.

    Raises:
        InputError: outlines or videos are missing.
    """
    clips = read_outlines(outlines)
    inputs = [_read(Path(folder, f"{clip.name}.mp4"), predictor) for clip in clips]
    scores: dict[str, list[dict[int, np.ndarray]]] = {condition: [] for condition in CONDITIONS}
    sheets = []
    for index in tqdm(range(len(clips)), "Real clips", unit="clip", disable=not progress):
        clip, own = clips[index], inputs[index]
        for condition in CONDITIONS:
            changed = change(own, condition, inputs[(index + 1) % len(inputs)])
            maps = _foreground(predictor, changed, clip)
            scores[condition].append(maps)
            if condition == OWN:
                sheets.append(_row(own, clip, maps))
    speeds = [_speeds(own, clip) for own, clip in zip(inputs, clips, strict=True)]
    data = _summarise(clips, scores, speeds, predictor.cfg.TEST.THRESHOLD or _ARGMAX)
    write_json(Path(out, "real_frames.json"), data)
    with atomic_write(Path(out, "real_frames.md"), "w") as file:
        file.write(to_markdown(data))
    width = max(row.shape[1] for row in sheets)
    rows = [cv2.copyMakeBorder(row, 0, 4, 0, width - row.shape[1], cv2.BORDER_CONSTANT) for row in sheets]
    cv2.imwrite(str(Path(out, "real_frames.jpg")), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
    return data


def change(clip: ClipArrays, condition: str, other: ClipArrays) -> ClipArrays:
    """The clip as a condition has it; ``other`` lends its sound."""
    samples, rate = clip.audio
    samples = np.asarray(samples)
    if condition == MUTED:
        return replace(clip, audio=(np.zeros_like(samples), rate))
    if condition == SWAPPED:
        return replace(clip, audio=other.audio)
    if condition == LATE:
        silence = np.zeros((round(_LATE_SECONDS * rate), *samples.shape[1:]), samples.dtype)
        return replace(clip, audio=(np.concatenate([silence, samples])[: len(samples)], rate))
    if condition == STILL:
        return replace(clip, flow=np.zeros_like(clip.flow))
    return clip


def _read(path: Path, predictor: Predictor) -> ClipArrays:
    """The clip of a video in memory, so that its audio and flow can be changed."""
    method, series = predictor.cfg.INPUT.FLOW.METHOD, max(2, predictor.cfg.INPUT.FLOW.SERIES)
    names = [frame_of_video(str(path), second) for second in range(count_seconds(path))]
    record = {"clip_id": path.stem, "image_paths": names, "video_path": str(path)}
    request = FlowRequest(method=method, source="video", series=series)
    pairs, _ = read_clip(record, request)
    flow = compute_clip(record, request, CLASSICAL[method](), pairs)
    frames = np.stack([read_image(name) for name in names])
    return ClipArrays(frames=frames, audio=read_video_audio(path), flow=flow.flow, name=path.stem)


def _foreground(predictor: Predictor, clip: ClipArrays, outlined: Outlined) -> dict[int, np.ndarray]:
    """Probability of the foreground in the frames with outlines, float32 (h, w)."""
    sem_seg = torch.from_numpy(predictor.predict([clip])[0].sem_seg)
    share = 1 - class_probabilities(sem_seg)[:, 0].numpy()
    return {k: cv2.resize(share[k].astype(np.float32), (SIDE, SIDE)) for k in outlined.masks if k < len(share)}


def _speeds(clip: ClipArrays, outlined: Outlined) -> dict[int, np.ndarray]:
    """Mean flow magnitude over the second as a share of the frame's diagonal, float32 (h, w)."""
    diagonal = float(np.hypot(*clip.frames.shape[1:3]))
    speed = np.linalg.norm(np.asarray(clip.flow, np.float32), axis=2).mean(1) / diagonal
    return {k: cv2.resize(speed[k], (SIDE, SIDE)) for k in outlined.masks if k < len(speed)}


def _summarise(clips: list[Outlined], scores: dict[str, list], speeds: list, rule: float) -> dict:
    own = scores[OWN]
    threshold = _best(clips, own, _THRESHOLDS)
    ranges = np.exp(np.linspace(np.log(1e-4), np.log(1.0), 60))
    speed_threshold = _best(clips, speeds, ranges)
    everything = [{k: np.ones((SIDE, SIDE), np.float32) for k in clip.masks} for clip in clips]
    data: dict = {
        "rule": float(rule),
        "threshold": float(threshold),
        "speed_threshold": float(speed_threshold),
        "conditions": {},
    }
    areas = {half: _area(clips, own, half, rule) for half in HALVES}
    for condition in CONDITIONS:
        data["conditions"][condition] = {
            half: {
                "J_rule": _jaccard(clips, scores[condition], half, rule),
                "J_argmax": _jaccard(clips, scores[condition], half, _ARGMAX),
                "J_threshold": _jaccard(clips, scores[condition], half, threshold),
                "AUC": _auc(clips, scores[condition], half),
                "area_of_own": 100 * _area(clips, scores[condition], half, rule) / max(areas[half], 1e-9),
            }
            for half in HALVES
        }
    data["baselines"] = {
        "flow magnitude, threshold chosen": {
            half: {"J_threshold": _jaccard(clips, speeds, half, speed_threshold), "AUC": _auc(clips, speeds, half)}
            for half in HALVES
        },
        "everything": {half: {"J_threshold": _jaccard(clips, everything, half, _ARGMAX)} for half in HALVES},
    }
    data["by_clip"] = {
        clip.name: {
            "J_rule": _jaccard([clip], [maps], clip.half, rule),
            "J_argmax": _jaccard([clip], [maps], clip.half, _ARGMAX),
            "J_threshold": _jaccard([clip], [maps], clip.half, threshold),
            "flow": _jaccard([clip], [speed], clip.half, speed_threshold),
            "half": clip.half,
        }
        for clip, maps, speed in zip(clips, own, speeds, strict=True)
    }
    return data


def _pairs(clips: list[Outlined], maps: list, half: str):
    for clip, own in zip(clips, maps, strict=True):
        if clip.half == half:
            yield from ((clip.masks[k], own[k]) for k in own)


def _jaccard(clips: list[Outlined], maps: list, half: str, threshold: float) -> float:
    """Mean over frames, percent."""
    values = []
    for mask, score in _pairs(clips, maps, half):
        found = score > threshold
        values.append((mask & found).sum() / max((mask | found).sum(), 1))
    return 100 * float(np.mean(values))


def _area(clips: list[Outlined], maps: list, half: str, threshold: float) -> float:
    return float(np.mean([(score > threshold).mean() for _, score in _pairs(clips, maps, half)]))


def _auc(clips: list[Outlined], maps: list, half: str) -> float:
    """Area under the ROC curve of the frames' pixels, mean over frames, percent."""
    values = []
    for mask, score in _pairs(clips, maps, half):
        if mask.any() and not mask.all():
            ranks, count = rankdata(score.ravel()), int(mask.sum())
            values.append((ranks[mask.ravel()].sum() - count * (count + 1) / 2) / (count * (mask.size - count)))
    return 100 * float(np.mean(values))


def _best(clips: list[Outlined], maps: list, thresholds: np.ndarray) -> float:
    """The threshold with the highest J on the half ``choose``."""
    return max(thresholds, key=lambda value: _jaccard(clips, maps, CHOOSE, value))


def _row(clip: ClipArrays, outlined: Outlined, maps: dict[int, np.ndarray]) -> np.ndarray:
    """Frames with outline (white) and the model's foreground (red), uint8 (h, w, 3)."""
    tiles = []
    for k, score in maps.items():
        frame = cv2.resize(clip.frames[k], (SIDE, SIDE)).astype(np.float32)
        frame = frame + 0.6 * np.clip(2 * score[..., None] - 0.5, 0, 1) * (np.array([255, 40, 40]) - frame)
        tile = np.ascontiguousarray(frame.clip(0, 255).astype(np.uint8))
        contours, _ = cv2.findContours(
            outlined.masks[k].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        tiles.append(cv2.drawContours(tile, contours, -1, (255, 255, 255), 1))
    return np.concatenate(tiles, axis=1)


def to_markdown(data: dict) -> str:
    """The table of conditions and baselines on the half ``report``."""
    rows = []
    for name, halves in {**data["conditions"], **data["baselines"]}.items():
        found = halves[REPORT]
        shown = [found.get(key) for key in _COLUMNS]
        rows.append([name, *("" if value is None else f"{value:.1f}" for value in shown)])
    rule = f"J, model's rule ({data['rule']:.2f})"
    heads = ["", rule, "J at argmax", f"J at {data['threshold']:.2f}", "pixel AUC", "area, % of own"]
    speed = f"{data['speed_threshold']:.4f} of the diagonal per second"
    note = (
        "Mean over frames of the half `report`, percent; area by the model's rule, TEST.THRESHOLD. "
        f"The threshold {data['threshold']:.2f} (of the softmax that is evaluated; 0.5 is argmax) and that of the "
        f"flow ({speed}) were chosen on the other half.\n"
    )
    return f"{tabulate(rows, heads, tablefmt='pipe', disable_numparse=True)}\n\n{note}"
