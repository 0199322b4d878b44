"""What pages and sheets print about a clip: its scores, and the size of its own frames."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ska_vct.data.images.io import probe_image
from ska_vct.evaluation import binary_stats, semantic_stats
from ska_vct.evaluation.conventions import class_sums, clip_scores
from ska_vct.evaluation.metrics import frame_ious, labelled_frame_scores
from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.visualization import prediction_labels
from ska_vct.visualization.video import video_frame_size

from .predictor import ClipPrediction


def clip_and_frame_scores(
    prediction: ClipPrediction, *, num_classes: int
) -> tuple[dict[str, float], list[float] | None]:
    """Scores of the clip by name, and IoUs of its existing frames; nothing where no frame is annotated.

    All are shares in [0, 1]. AVSS's are means over the classes labelled in each frame.
    """
    known = _annotated(prediction)
    if known is None:
        return {}, None
    masks, annotated = known
    output = prediction.output
    labels = torch.as_tensor(prediction_labels(output))
    if num_classes != 2:
        stats = semantic_stats(labels[annotated], masks, num_classes, ignore_label=IGNORE_LABEL)
        found = clip_scores(stats)
        scores = {"mIoU": found["mIoU_labelled"], "F": found["F_labelled"]}
        frames, _ = labelled_frame_scores(stats)
        return scores, _spread(frames, annotated)
    # Saved masks have a single threshold, so their M_F would mislead.
    prob = output["sem_seg"].float().softmax(1)[:, 1] if "sem_seg" in output else labels.float()
    stats = binary_stats(prob[annotated], masks, ignore_label=IGNORE_LABEL)
    names = ("M_J", "M_F") if "sem_seg" in output else ("M_J",)
    scores = {name: clip_scores(stats)[name] for name in names}
    return scores, _spread(frame_ious(stats), annotated)


def class_scores(prediction: ClipPrediction, *, class_names: Sequence[str]) -> dict[str, float]:
    """The clip's IoU of each class that it is labelled with, a share: AVSS's classes, or S4's category.

    Empty without ground truth, and where clips have no class (MS3).
    """
    if len(class_names) == 2:
        category = prediction.record.get("category")
        scores, _ = clip_and_frame_scores(prediction, num_classes=2)
        return {category: scores["M_J"]} if category and scores else {}
    known = _annotated(prediction)
    if known is None:
        return {}
    masks, annotated = known
    labels = torch.as_tensor(prediction_labels(prediction.output))[annotated]
    stats = semantic_stats(labels, masks, len(class_names), ignore_label=IGNORE_LABEL)
    iou, _, frames = class_sums(stats)
    labelled = stats.labelled.sum(0).nonzero().flatten().tolist()
    return {class_names[k]: float(iou[k] / frames[k]) for k in labelled if k}


def scores_note(prediction: ClipPrediction, *, num_classes: int) -> str:
    """What the scores of ``clip_and_frame_scores`` are."""
    if num_classes != 2:
        return "means over the classes labelled in each frame"
    threshold = ", M_F at the clip's best threshold" if "sem_seg" in prediction.output else ""
    return f"convention 'combo'{threshold}"


def own_frame_size(prediction: ClipPrediction) -> tuple[int, int] | None:
    """Height and width of the clip's video or, without one, of its first frame's file; None without either.

    AVSBench's frames of S4 and MS3 are squares, whatever the video's proportions.
    """
    video, images = (prediction.record.get(key) for key in ("video_path", "image_paths"))
    if video and Path(video).is_file():
        return video_frame_size(video)
    return probe_image(images[0]) if images else None


def _annotated(prediction: ClipPrediction) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Ground truth of the annotated frames, and which of the existing ones they are; None without any."""
    clip = prediction.clip
    exists = clip["frame_valid"].cpu()
    annotated = clip["mask_valid"].cpu()[exists]
    if clip.get("masks") is None or not bool(annotated.any()):
        return None
    return clip["masks"].cpu()[exists][annotated], annotated


def _spread(values: torch.Tensor, annotated: torch.Tensor) -> list[float]:
    """Values of the annotated frames as those of all frames, NaN for the others."""
    result = torch.full((len(annotated),), float("nan"), dtype=torch.float64)
    result[annotated] = values
    return result.tolist()
