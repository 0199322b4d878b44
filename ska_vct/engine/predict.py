"""Masks of clips on disk, or of a dataset's clips, written as images."""

import os
from collections.abc import Sequence

from tqdm import tqdm

from ska_vct.evaluation.prediction_files import save_prediction
from ska_vct.utils.errors import InputError
from ska_vct.utils.folders import make_folder
from ska_vct.visualization import prediction_labels

from .clip_inputs import read_arrays
from .datasets import register_datasets, resolve_root
from .predictor import Predictor, find_records, subset_of


def predict_paths(
    predictor: Predictor, paths: Sequence[str | os.PathLike], out: str | os.PathLike, *, progress: bool = True
) -> list[str]:
    """Predict clips of :func:`ska_vct.engine.clip_inputs.read_arrays` at their own size.

    Args:
        predictor: the model.
        paths: folders or videos.
        out: folder for the masks, see :func:`ska_vct.evaluation.save_prediction`.
        progress: show a bar.

    Returns:
        names of the clips.

    Raises:
        InputError: two clips have one name.
        SkaVctError, OSError: see there.
    """
    out, binary = make_folder(out), predictor.cfg.MODEL.NUM_CLASSES == 2
    flow, names = predictor.cfg.INPUT.FLOW, []
    for path in tqdm(paths, desc="Predicting", unit="clip", disable=not progress):
        clip = read_arrays(path, method=flow.METHOD, series=flow.SERIES)
        if clip.name in names:
            raise InputError(f"Two clips are called '{clip.name}', the second is '{path}'; rename one of them.")
        labels = predictor.predict([clip])[0].labels
        save_prediction(out, clip.name, labels, range(len(labels)), binary=binary)
        names.append(clip.name)
    return names


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
