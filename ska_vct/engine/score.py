"""Scores saved predictions, ours or others', without a model (docs/scores.md)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.catalog import load_records
from ska_vct.data.facts import DatasetFacts
from ska_vct.data.images.io import ImageError, read_truth
from ska_vct.data.registry import get_facts
from ska_vct.evaluation import AVSEvaluator, load_coco, load_prediction
from ska_vct.structures.clip import IGNORE_LABEL, ClipError
from ska_vct.utils.errors import InputError, MissingFileError


def score_predictions(
    *,
    root: str | os.PathLike,
    subset: str,
    split: str,
    predictions: str | os.PathLike,
    convention: str = "combo",
    out: str | os.PathLike | None = None,
    size: tuple[int, int] = (224, 224),
    progress: bool = True,
    **options: Any,
) -> dict[str, float]:
    """Score the annotated frames of a split.

    Args:
        root: folder with the release, as ``DATASETS.ROOT``.
        subset, split: which clips.
        predictions: folder of images in AVSBench's layout, or a JSON file in COCO's format, as
            ``TEST.SAVE_PREDICTIONS`` writes them.
        convention: whose scores are the headline.
        out: folder for the report's files; None for no files.
        size: height and width at which masks are compared; predictions must have it.
        progress: show a bar.
        options: further keyword arguments of ``load_records``.

    Returns:
        scores in percent.

    Raises:
        DatasetError, ClipError: the release is incomplete, or a mask cannot be used.
        FileNotFoundError: a frame has no prediction.
        ValueError: a prediction cannot be used.
    """
    facts = get_facts(subset)
    read = _reader(predictions, binary=facts.binary_masks, num_classes=facts.num_classes, size=size)
    evaluator = AVSEvaluator(
        dataset_name=facts.split_name(split),
        num_classes=facts.num_classes,
        binary=facts.binary_masks,
        class_names=facts.classes,
        convention=convention,
        output_dir=out,
        distributed=False,
    )
    records = load_records(subset, split, root, **options)
    for record in tqdm(records, desc=f"Scoring {subset} {split}", unit="clip", delay=1, disable=not progress):
        masks, annotated = _ground_truth(record, facts, size)
        labels = np.zeros(masks.shape, np.int64)
        labels[annotated] = read(record["clip_id"], np.flatnonzero(annotated).tolist())
        if labels.max() >= facts.num_classes:
            raise InputError(
                f"Prediction of clip '{record['clip_id']}' in '{predictions}' holds class {labels.max()}, but "
                f"there are only {facts.num_classes} classes; the predictions belong to another dataset."
            )
        clip = {
            "clip_id": record["clip_id"],
            "masks": torch.from_numpy(masks),
            "mask_valid": torch.from_numpy(annotated),
            "frame_valid": torch.ones(len(masks), dtype=torch.bool),
        }
        evaluator.process([clip], [{"labels": torch.from_numpy(labels)}])
    return dict(evaluator.evaluate()["sem_seg"])


def _reader(
    predictions: str | os.PathLike, *, binary: bool, num_classes: int, size: tuple[int, int]
) -> Callable[[str, list[int]], np.ndarray]:
    path = Path(predictions)
    if path.is_dir():
        return lambda clip_id, frames: load_prediction(path, clip_id, frames, binary=binary, size=size)
    if not path.is_file():
        raise MissingFileError(
            f"There are no predictions at '{path}'; name a folder of images or a JSON file "
            "(TEST.SAVE_PREDICTIONS)."
        )
    coco = load_coco(path, binary=binary, num_classes=num_classes)
    return lambda clip_id, frames: coco.load(clip_id, frames, size=size)


def _ground_truth(record: dict, facts: DatasetFacts, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Class per pixel int64 (T, H, W), 255 where not annotated, and bool (T,)."""
    paths = record["mask_paths"]
    annotated = np.array([path is not None for path in paths])
    masks = np.full((len(paths), *size), IGNORE_LABEL, np.int64)
    geometry = ClipGeometry.resize(size)
    for index in np.flatnonzero(annotated):
        try:
            mask = read_truth(paths[index], binary=facts.binary_masks, num_classes=facts.num_classes)
        except ImageError as error:
            raise ClipError(f"Clip '{record['clip_id']}': {error}") from None
        masks[index] = geometry.apply_labels(mask[None])[0]
    return masks, annotated
