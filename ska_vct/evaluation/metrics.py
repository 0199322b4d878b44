"""Scores of audio-visual segmentation as pure functions of one clip's frames (docs/scores.md, ``combo``).

Shape legend
    T     scored frames: those that exist and are annotated
    H, W  evaluation size, 224 x 224 in the literature
    N     thresholds of the F-score, 255
    K     semantic classes, background (index 0) included

Every score is computed from counts (``BinaryStats``, ``SemanticStats``), which ``conventions.py`` reduces over a
dataset by each convention. Counts are exact integers; quotients are computed in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ska_vct.utils.errors import InputError

BETA_SQUARED = 0.3
NUM_THRESHOLDS = 255
IOU_EPSILON = 1e-7
COUNT_EPSILON = 1e-20
SEMANTIC_EPSILON = 2.2204e-16


class MaskIoU(NamedTuple):
    """``clip``: mean over the frames; ``frames``: float64 (T,)."""

    clip: float
    frames: Tensor


class FMeasure(NamedTuple):
    """``clip``: the score; ``precision`` and ``recall``: float64 (T, N), zero for frames with an empty mask."""

    clip: float
    precision: Tensor
    recall: Tensor


@dataclass
class BinaryStats:
    """Counts of a clip from which every binary score is computed; int64 pixels.

    Attributes:
        predicted: (T, N) pixels with p >= threshold.
        true_positive: (T, N) such pixels inside the mask.
        labelled: (T,) pixels of the mask.
        pixels: (T,) compared pixels.
        positive: (T,) pixels with p > 0.5.
        intersection: (T,) such pixels inside the mask.
        boundary: float64 (T,) boundary F; None if not measured.
        objects: (T, 3, 2), see ``objects.count_objects``; None if objects are unknown.
        map_means: float64 (T, 3), see ``objects.map_means``; None without objects or a motion map.
        frame_index: (T,) the frames' seconds in the video; None for 0 .. T - 1.
        from_masks: the prediction had no probabilities: every threshold above 0 gives the same mask.
    """

    predicted: Tensor
    true_positive: Tensor
    labelled: Tensor
    pixels: Tensor
    positive: Tensor
    intersection: Tensor
    boundary: Tensor | None = None
    objects: Tensor | None = None
    map_means: Tensor | None = None
    frame_index: Tensor | None = None
    from_masks: bool = False


@dataclass
class SemanticStats:
    """Pixels per frame and class, int64 (T, K): predicted and labelled, predicted, and labelled as the class.

    Attributes:
        blank: frames missing up to the 10 of the longest clips; only ``tpavi`` counts them.
        objects: int64 (T, 3, 2), see ``objects.count_objects``; None if objects are unknown.
        map_means: float64 (T, 3), see ``objects.map_means``; None without objects or a motion map.
        frame_index: int64 (T,) the frames' seconds in the video; None for 0 .. T - 1.
        confusion: int64 (n, 3), labelled class, predicted class and pixels of each pair that occurs in the clip;
            None if not counted.
    """

    true_positive: Tensor
    predicted: Tensor
    labelled: Tensor
    blank: int = 0
    objects: Tensor | None = None
    map_means: Tensor | None = None
    frame_index: Tensor | None = None
    confusion: Tensor | None = None


def thresholds(num: int = NUM_THRESHOLDS) -> Tensor:
    """Thresholds of the F-score, float32 (num,), from 0 to 1 - 1e-10, which float32 rounds to 1."""
    return torch.linspace(0, 1 - 1e-10, num, dtype=torch.float32)


def binary_stats(prob: Tensor, mask: Tensor, *, ignore_label: int | None = None) -> BinaryStats:
    """Count one clip against its masks, all thresholds in a single histogram.

    Args:
        prob: float (T, H, W), foreground probability in [0, 1]; compared with the thresholds in float32.
        mask: (T, H, W), any type; 1 is foreground.
        ignore_label: pixels with this value are excluded from all counts.

    Returns:
        Counts on ``prob``'s device.

    Raises:
        ValueError: shapes differ, or a probability is outside [0, 1] or NaN.
    """
    if prob.shape != mask.shape or prob.ndim != 3:
        raise InputError(
            f"Prediction of shape {tuple(prob.shape)} and mask of shape {tuple(mask.shape)} cannot be compared; "
            "both must be (frames, height, width)."
        )
    prob = prob.detach().float().flatten(1)
    mask = mask.to(prob.device).flatten(1)
    # aminmax propagates NaN, which fails the comparison.
    low, high = prob.aminmax() if prob.numel() else (prob.new_zeros(()), prob.new_zeros(()))
    if not bool((low >= 0) & (high <= 1)):
        raise InputError("Foreground probabilities must lie in [0, 1]; some do not, or are NaN.")
    num_frames = prob.shape[0]
    valid = torch.ones_like(mask, dtype=torch.bool) if ignore_label is None else mask != ignore_label
    foreground = (mask == 1) & valid

    # Combine frame, mask value and bucket into one index, so that a single histogram counts everything.
    bins = NUM_THRESHOLDS + 1
    index = _bucket(prob)
    index += (2 * torch.arange(num_frames, device=prob.device, dtype=torch.int32)[:, None] + foreground) * bins
    index = index.flatten() if bool(valid.all()) else index[valid]
    histogram = torch.bincount(index, minlength=num_frames * 2 * bins).view(num_frames, 2, bins)

    positive = (prob > 0.5) & valid
    return BinaryStats(
        predicted=_at_least(histogram.sum(1)),
        true_positive=_at_least(histogram[:, 1]),
        labelled=histogram[:, 1].sum(1),
        pixels=histogram.sum((1, 2)),
        positive=positive.count_nonzero(1),
        intersection=(positive & foreground).count_nonzero(1),
    )


def semantic_stats(
    prediction: Tensor, labels: Tensor, num_classes: int, *, ignore_label: int | None = None
) -> SemanticStats:
    """Count one clip's classes frame by frame.

    Args:
        prediction: int (T, H, W), classes 0 .. K - 1.
        labels: int (T, H, W); values outside the classes (255) belong to no class.
        num_classes: K.
        ignore_label: pixels of this label are excluded. Published code has no such label and counts predictions
            there as false; the released AVSS label maps contain only classes, so both agree on them.

    Returns:
        Counts on ``prediction``'s device.

    Raises:
        ValueError: shapes differ, or ``prediction`` contains a value outside the classes.
    """
    if prediction.shape != labels.shape or prediction.ndim != 3:
        raise InputError(
            f"Prediction of shape {tuple(prediction.shape)} and label map of shape {tuple(labels.shape)} cannot "
            "be compared; both must be (frames, height, width)."
        )
    num_frames = prediction.shape[0]
    prediction = prediction.detach().long().flatten(1)
    labels = labels.to(prediction.device).long().flatten(1)
    if prediction.numel() and not (0 <= int(prediction.min()) and int(prediction.max()) < num_classes):
        raise InputError(f"The prediction contains values outside the classes 0 to {num_classes - 1}.")
    known = (labels >= 0) & (labels < num_classes)
    kept = torch.ones_like(known) if ignore_label is None else labels != ignore_label
    frame = torch.arange(num_frames, device=prediction.device)[:, None] * num_classes

    def count(classes: Tensor, where: Tensor) -> Tensor:
        counts = torch.bincount((frame + classes)[where], minlength=num_frames * num_classes)
        return counts.view(num_frames, num_classes)

    both = kept & known
    pairs, pixels = (labels * num_classes + prediction)[both].unique(return_counts=True)
    return SemanticStats(
        true_positive=count(prediction, both & (prediction == labels)),
        predicted=count(prediction, kept),
        labelled=count(labels, both),
        confusion=torch.stack([pairs // num_classes, pairs % num_classes, pixels], dim=1),
    )


def frame_ious(stats: BinaryStats) -> Tensor:
    """IoU of p > 0.5 per frame, float64 (T,); for an empty mask, the fraction of pixels that are empty in both."""
    union = stats.positive + stats.labelled - stats.intersection
    iou = stats.intersection.double() / (union.double() + IOU_EPSILON)
    empty_in_both = (stats.pixels - stats.positive).double() / stats.pixels.clamp(min=1).double()
    return torch.where(stats.labelled == 0, empty_in_both, iou)


def precision_recall(stats: BinaryStats) -> tuple[Tensor, Tensor]:
    """Precision and recall per frame and threshold, float64 (T, N) each."""
    true_positive = stats.true_positive.double()
    precision = true_positive / (stats.predicted.double() + COUNT_EPSILON)
    recall = true_positive / (stats.labelled.double()[:, None] + COUNT_EPSILON)
    return precision, recall


def f_score(precision: Tensor, recall: Tensor) -> Tensor:
    """F with beta squared = 0.3; 0 where precision and recall are 0 or undefined."""
    score = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    return torch.nan_to_num(score, nan=0.0)


def best_f(stats: BinaryStats) -> float:
    """F averaged over the frames with a non-empty mask, at the best threshold; 0 if there is no such frame."""
    frames, _ = best_frame_fs(stats)
    return 0.0 if frames.isnan().all() else float(frames.nanmean())


def best_frame_fs(stats: BinaryStats) -> tuple[Tensor, float]:
    """F of each frame at the threshold with the best mean over frames.

    Returns:
        float64 (T,), NaN for frames with an empty mask, and the threshold, NaN if all masks are empty.
    """
    present = stats.labelled > 0
    curves = f_score(*precision_recall(stats))
    if not bool(present.any()):
        return torch.full_like(stats.labelled, float("nan"), dtype=torch.float64), float("nan")
    best = int(curves[present].mean(0).argmax())
    return curves[:, best].where(present, float("nan")), float(thresholds()[best])


def mean_precision_recall(clips: Sequence[BinaryStats]) -> tuple[Tensor, Tensor]:
    """Precision and recall at each threshold, float64 (N,) each: means over clips of means over their frames.

    As in M_F, frames with an empty mask are excluded; NaN if no other frame exists.
    """
    curves = []
    for clip in clips:
        present = clip.labelled > 0
        if bool(present.any()):
            curves.append(torch.stack(precision_recall(clip))[:, present].mean(1))
    mean = torch.stack(curves).mean(0) if curves else torch.full((2, NUM_THRESHOLDS), float("nan")).double()
    return mean[0], mean[1]


def confusion_matrix(clips: Sequence[SemanticStats], num_classes: int) -> Tensor:
    """Pixels by labelled class (rows) and predicted class (columns), int64 (K, K), of all clips.

    Raises:
        ValueError: a clip has no ``confusion``.
    """
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for clip in clips:
        if clip.confusion is None:
            raise InputError("A clip has no counts of class pairs, so the confusion matrix cannot be computed.")
        labelled, predicted, pixels = clip.confusion.unbind(1)
        matrix.index_put_((labelled, predicted), pixels, accumulate=True)
    return matrix


def mask_iou(prob: Tensor, mask: Tensor) -> MaskIoU:
    """M_J of one clip.

    Args:
        prob: float (T, H, W) in [0, 1].
        mask: (T, H, W) of 0 and 1.
    """
    frames = frame_ious(binary_stats(prob, mask))
    return MaskIoU(float(frames.mean()), frames)


def f_measure(prob: Tensor, mask: Tensor) -> FMeasure:
    """M_F of one clip, with its precision and recall curves.

    Args:
        prob: float (T, H, W) in [0, 1].
        mask: (T, H, W) of 0 and 1.
    """
    stats = binary_stats(prob, mask)
    return FMeasure(best_f(stats), *precision_recall(stats))


def false_positive_share(stats: BinaryStats | SemanticStats) -> float:
    """Mean over the frames of the fraction of segmented pixels, regardless of the mask.

    Segmented pixels have p > 0.5 or, with classes, a predicted class other than background.
    """
    if isinstance(stats, SemanticStats):
        pixels, segmented = stats.predicted.sum(1), stats.predicted[:, 1:].sum(1)
    else:
        pixels, segmented = stats.pixels, stats.positive
    return float((segmented.double() / pixels.clamp(min=1).double()).mean())


def class_scores(stats: SemanticStats) -> tuple[Tensor, Tensor, Tensor]:
    """IoU and F per frame and class.

    Returns:
        IoU float64 (T, K), F float64 (T, K), and bool (T, K): the class is predicted or labelled in the frame.
    """
    true_positive, predicted, labelled = (
        counts.double() for counts in (stats.true_positive, stats.predicted, stats.labelled)
    )
    union = predicted + labelled - true_positive
    iou = true_positive / (union + SEMANTIC_EPSILON)
    return iou, f_score(true_positive / predicted, true_positive / labelled), union > 0


def labelled_frame_scores(stats: SemanticStats) -> tuple[Tensor, Tensor]:
    """Mean IoU and F over the classes labelled in each frame, float64 (T,) each; NaN for frames without any."""
    labelled = stats.labelled > 0
    count = labelled.sum(1)
    iou, f, _ = class_scores(stats)
    return (iou * labelled).sum(1) / count, (f * labelled).sum(1) / count


def _bucket(prob: Tensor) -> Tensor:
    """Number of thresholds <= p, int32; a tie p == t counts as p >= t. Equals ``bucketize``, but is faster."""
    steps = thresholds().to(prob.device)
    # Thresholds are evenly spaced, so rounding can only misplace p relative to the nearest one.
    nearest = (prob * (NUM_THRESHOLDS - 1) + 0.5).int()
    return nearest + (steps.index_select(0, nearest.flatten()).view_as(prob) <= prob)


def _at_least(histogram: Tensor) -> Tensor:
    """Turn a histogram over buckets (T, N + 1) into the number of pixels >= each threshold (T, N)."""
    return histogram.flip(1).cumsum(1).flip(1)[:, 1:]
