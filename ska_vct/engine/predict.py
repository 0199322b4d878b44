"""Masks of a dataset's clips, written as images."""

import os
from collections.abc import Sequence

from tqdm import tqdm

from ska_vct.evaluation.prediction_files import save_prediction
from ska_vct.utils.errors import InputError
from ska_vct.utils.folders import make_folder
from ska_vct.visualization import prediction_labels

from .datasets import register_datasets, resolve_root
from .predictor import Predictor, find_records, subset_of


def predict_dataset(
    predictor: Predictor,
    dataset: str,
    out: str | os.PathLike,
    *,
    clip_ids: Sequence[str] = (),
    num: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Predict clips of a registered dataset at ``INPUT.EVAL_SIZE``.

    Args:
        predictor: the model; its config says where the datasets are (``DATASETS.ROOT``).
        dataset, clip_ids, num: see :func:`ska_vct.engine.predictor.find_records`.
        out: folder for the masks, see :func:`ska_vct.evaluation.save_prediction`.
        progress: show a bar.

    Returns:
        ids of the clips.

    Raises:
        SkaVctError, OSError: the dataset does not exist, or a file of a clip cannot be used.
    """
    cfg = predictor.cfg
    cfg.DATASETS.ROOT = str(resolve_root(cfg))
    register_datasets(cfg)
    facts = subset_of(dataset)
    if facts.num_classes != cfg.MODEL.NUM_CLASSES:
        raise InputError(f"'{dataset}' has {facts.num_classes} classes, the model {cfg.MODEL.NUM_CLASSES}.")
    records, out, names = find_records(dataset, clip_ids=clip_ids, num=num), make_folder(out), []
    found = tqdm(
        predictor.predict_records(records),
        total=len(records),
        desc="Predicting",
        unit="clip",
        disable=not progress,
    )
    for prediction in found:
        name = prediction.clip["clip_id"]
        frames = prediction.clip["frame_index"].tolist()
        save_prediction(out, name, prediction_labels(prediction.output), frames, binary=facts.num_classes == 2)
        names.append(name)
    return names
