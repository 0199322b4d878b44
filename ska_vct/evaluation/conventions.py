"""Reduces the counts of all clips to dataset scores, in each convention in circulation.

combo    scores per clip, then their mean (COMBO, VCT, SKA-VCT): the default
tpavi    scores pooled over batches of 4 clips, then the mean over batches; AVSS clips padded with blank frames to
         10, and the blank frames count (AVSBench's own test scripts)
dataset  counts summed over the whole dataset, then the mean over classes, background included; F of the predicted
         classes, without a threshold search (CAVP's per-dataset scores)
pooled   counts of the object summed over the whole dataset; F at the best threshold for all clips

All scores are fractions in [0, 1]; the evaluator converts them to percent. docs/scores.md names the published
function that each score equals, and states which published scores are comparable.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ska_vct.utils.errors import InputError

from .metrics import (
    COUNT_EPSILON,
    IOU_EPSILON,
    SEMANTIC_EPSILON,
    BinaryStats,
    SemanticStats,
    best_f,
    class_scores,
    f_score,
    false_positive_share,
    frame_ious,
    labelled_frame_scores,
)
from .names import CONVENTIONS

MEANINGS = {
    "combo": "scores per clip, then their mean over clips (COMBO, VCT, SKA-VCT)",
    "tpavi": "pooled over batches of 4 clips, AVSS padded to 10 frames with blank ones (AVSBench's test scripts)",
    "dataset": "pixels summed over the whole dataset, mean over classes with background, F at p > 0.5 (CAVP's "
    "per-dataset scores)",
    "pooled": "pixels of the object summed over the whole dataset, one best threshold for all; AVSS: as "
    "`dataset`, but classes that occur nowhere count as 0 in F as well",
}
# How M_F's threshold is chosen; masks without probabilities have only one.
THRESHOLDS = {
    "combo": "best of 255 per clip",
    "tpavi": "best of 255 per batch of 4 clips",
    "dataset": "single, p > 0.5",
    "pooled": "best of 255 for the dataset",
}
SINGLE_THRESHOLD = "single, saved masks"
TPAVI_BATCH = 4
# AVSBench's script pads AVSS clips to this many frames.
TPAVI_FRAMES = 10


def check_convention(convention: str) -> None:
    """Raise an ``InputError`` that lists the choices if ``convention`` does not exist."""
    if convention not in CONVENTIONS:
        raise InputError(f"TEST.CONVENTION '{convention}' does not exist; choose one of {', '.join(CONVENTIONS)}.")


def m_f_threshold(convention: str, *, from_masks: bool = False) -> str:
    """Description of the threshold at which M_F is computed, for tables.

    Args:
        convention: see the module docstring.
        from_masks: the predictions are masks without probabilities.
    """
    return SINGLE_THRESHOLD if from_masks and convention != "dataset" else THRESHOLDS[convention]


def clip_scores(stats: BinaryStats | SemanticStats) -> dict[str, float]:
    """Scores of a single clip, for the per-clip table; an AVSS clip's are means over its labelled classes."""
    if isinstance(stats, SemanticStats):
        iou, f = labelled_frame_scores(stats)
        return {"mIoU_labelled": float(iou.nanmean()), "F_labelled": float(f.nanmean())}
    scores = {"M_J": float(frame_ious(stats).mean()), "M_F": best_f(stats)}
    if stats.boundary is not None:
        scores["boundary_F"] = float(stats.boundary.mean())
    scores["false_positive_share"] = false_positive_share(stats)
    return scores


def reduce_binary(clips: Sequence[BinaryStats], convention: str = "combo") -> dict[str, float]:
    """Scores of a dataset with binary masks.

    Args:
        clips: one per clip; only ``tpavi``, which pools consecutive clips, depends on their order.
        convention: see the module docstring.

    Returns:
        ``M_J``, ``M_F``, ``false_positive_share`` and, where measured, ``boundary_F``. In every convention the
        last two are means over clips of means over frames.
    """
    check_convention(convention)
    if convention == "dataset":
        scores = _binary_over_dataset(clips)
    elif convention == "pooled":
        scores = _binary_pooled(clips)
    elif convention == "tpavi":
        batches = [merge(clips[i : i + TPAVI_BATCH]) for i in range(0, len(clips), TPAVI_BATCH)]
        scores = _mean_scores(batches)
    else:
        scores = _mean_scores(clips)
    rest = [clip_scores(clip) for clip in clips]
    for name in ("boundary_F", "false_positive_share"):
        if all(name in clip for clip in rest):
            scores[name] = _mean([clip[name] for clip in rest])
    return scores


def reduce_semantic(
    clips: Sequence[SemanticStats], convention: str = "combo"
) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores of a dataset with classes.

    Returns:
        ``mIoU``, ``F`` over all classes, ``mIoU_no_bg``, ``F_no_bg`` without class 0, and each class's IoU and F,
        float64 (K,). A class that is neither predicted nor labelled anywhere scores 0 and counts, except in the F
        of ``dataset``, which leaves it out.
    """
    check_convention(convention)
    present = None
    if convention in ("dataset", "pooled"):
        true_positive, predicted, labelled = (
            sum(getattr(clip, name).sum(0) for clip in clips).double()
            for name in ("true_positive", "predicted", "labelled")
        )
        iou = true_positive / (predicted + labelled - true_positive + SEMANTIC_EPSILON)
        f = f_score(true_positive / predicted, true_positive / labelled)
        present = predicted + labelled > 0 if convention == "dataset" else None
    else:
        iou_sum, f_sum, count = (sum(values) for values in zip(*map(class_sums, clips), strict=True))
        if convention == "tpavi":
            # Blank frames are labelled background, and the script masks the network's output there, so
            # that all logits are equal and their argmax is background as well. Each adds 1 to background's IoU, F
            # and count.
            for total in (iou_sum, f_sum, count):
                total[0] += sum(clip.blank for clip in clips)
        iou, f = iou_sum / count.clamp(min=1), f_sum / count.clamp(min=1)
    scores = {
        "mIoU": float(iou.mean()),
        "F": _mean_of(f, present),
        "mIoU_no_bg": float(iou[1:].mean()),
        "F_no_bg": _mean_of(f[1:], None if present is None else present[1:]),
    }
    return scores, iou, f


def class_sums(stats: SemanticStats) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over a clip's frames, float64 (K,): IoU, F, frames where the class is predicted or labelled."""
    iou, f, present = class_scores(stats)
    return iou.sum(0), f.sum(0), present.sum(0).double()


def merge(clips: Sequence[BinaryStats]) -> BinaryStats:
    """Concatenate the frames of several clips into one clip."""
    parts: dict[str, Any] = {"from_masks": any(clip.from_masks for clip in clips)}
    for field in fields(BinaryStats):
        if field.name in parts:
            continue
        values = [getattr(clip, field.name) for clip in clips]
        parts[field.name] = None if any(value is None for value in values) else torch.cat(values)
    return BinaryStats(**parts)


def _mean_scores(clips: Sequence[BinaryStats]) -> dict[str, float]:
    return {
        "M_J": _mean([float(frame_ious(clip).mean()) for clip in clips]),
        "M_F": _mean([best_f(clip) for clip in clips]),
    }


def _binary_over_dataset(clips: Sequence[BinaryStats]) -> dict[str, float]:
    """IoU and F of object and background, each from counts of the whole dataset, and their means."""
    whole = merge(clips)
    positive, labelled, hit, pixels = (
        getattr(whole, name).sum().double() for name in ("positive", "labelled", "intersection", "pixels")
    )
    # class background, class object: background is hit wherever neither mask nor prediction has the object
    true_positive = torch.stack([pixels - positive - labelled + hit, hit])
    predicted = torch.stack([pixels - positive, positive])
    truth = torch.stack([pixels - labelled, labelled])
    iou = true_positive / (predicted + truth - true_positive + SEMANTIC_EPSILON)
    f = f_score(true_positive / predicted, true_positive / truth)
    return {"M_J": float(iou.mean()), "M_F": _mean_of(f, predicted + truth > 0)}


def _binary_pooled(clips: Sequence[BinaryStats]) -> dict[str, float]:
    whole = merge(clips)
    intersection = whole.intersection.sum().double()
    union = (whole.positive + whole.labelled).sum() - intersection
    true_positive = whole.true_positive.sum(0).double()
    precision = true_positive / (whole.predicted.sum(0) + COUNT_EPSILON)
    recall = true_positive / (whole.labelled.sum() + COUNT_EPSILON)
    return {
        "M_J": float(intersection / (union + IOU_EPSILON)),
        "M_F": float(f_score(precision, recall).max()),
    }


def _mean_of(values: Tensor, present: Tensor | None) -> float:
    """Mean of all values, or of those present; 0 if there are none."""
    kept = values if present is None else values[present]
    return float(kept.mean()) if kept.numel() else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
