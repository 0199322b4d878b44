"""Predictions of a dataset's clips that an evaluation has written to disk."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode

from ska_vct.data.flow.online import build_mapper
from ska_vct.evaluation import load_prediction
from ska_vct.utils.errors import InputError, MissingFileError

from .predictor import ClipPrediction


def read_predictions(cfg: CfgNode, folder: str | os.PathLike, records: Sequence[dict]) -> Iterator[ClipPrediction]:
    """Predictions that an evaluation has saved (``TEST.SAVE_PREDICTIONS``).

    Raises:
        FileNotFoundError: the folder, or the prediction of a frame, does not exist.
        ValueError: an image has another size than ``INPUT.EVAL_SIZE`` or impossible values.
    """
    if not Path(folder).is_dir():
        raise MissingFileError(f"Folder of predictions '{folder}' does not exist; see TEST.SAVE_PREDICTIONS.")
    mapper = build_mapper(cfg, is_train=False)
    for record in records:
        clip = mapper(record)
        exists = clip["frame_valid"]
        frames = clip.get("frame_index")
        frames = torch.arange(len(exists)) if frames is None else frames
        labels = load_prediction(
            folder,
            clip["clip_id"],
            frames[exists].tolist(),
            binary=cfg.MODEL.NUM_CLASSES == 2,
            size=tuple(cfg.INPUT.EVAL_SIZE),
        )
        if labels.max() >= cfg.MODEL.NUM_CLASSES:
            raise InputError(
                f"Prediction of clip '{clip['clip_id']}' in '{folder}' holds class {labels.max()}, but there are "
                f"only {cfg.MODEL.NUM_CLASSES} classes; the predictions belong to another dataset."
            )
        yield ClipPrediction(record, clip, {"labels": labels})
