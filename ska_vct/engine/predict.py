"""Predictions clip by clip, from a model or from pictures on disk."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from ska_vct.checkpoint.checkpointer import StrictCheckpointer
from ska_vct.data.facts import DatasetFacts
from ska_vct.data.flow.online import build_mapper
from ska_vct.data.registry import get_facts
from ska_vct.evaluation import load_prediction
from ska_vct.utils.errors import InputError, MissingFileError

from .weights import load_options


class ClipPrediction(NamedTuple):
    """One clip and what was predicted for it.

    Attributes:
        record: of the data set's catalogue.
        clip: as the mapper makes it for testing.
        output: of the model (``sem_seg`` and the extras), or ``labels`` int64 (T, H, W) from disk; on the CPU,
            with rows for the frames that exist.
    """

    record: dict
    clip: dict
    output: dict


def subset_of(dataset: str) -> DatasetFacts:
    """The subset that a registered data set belongs to.

    Raises:
        ValueError: there is no such data set; lists those there are.
    """
    if dataset not in DatasetCatalog:
        known = ", ".join(sorted(name for name in DatasetCatalog.keys() if name.startswith("avsbench_")))
        raise InputError(f"There is no data set '{dataset}'; choose one of {known}.")
    return get_facts(MetadataCatalog.get(dataset).subset)


def find_records(dataset: str, *, clip_ids: Sequence[str] = (), num: int | None = None) -> list[dict]:
    """Records of a registered data set.

    Args:
        dataset: its name, e.g. ``avsbench_ms3_test``.
        clip_ids: clips wanted, by id or by the id's last part; all when empty.
        num: at most so many, spread evenly over the set.

    Raises:
        ValueError: a name matches no clip or several, or there is no clip at all.
    """
    records = DatasetCatalog.get(dataset)
    if not records:
        raise InputError(f"Data set '{dataset}' has no clips; check its csv file.")
    if clip_ids:
        records = [_find(records, name, dataset) for name in clip_ids]
    if num is None or num >= len(records):
        return records
    if num < 1:
        raise InputError(f"The number of clips must be at least 1, not {num}.")
    return [records[round(i)] for i in np.linspace(0, len(records) - 1, num)]


def load_model(cfg: CfgNode) -> nn.Module:
    """The configuration's model with the weights of ``MODEL.WEIGHTS``, ready for inference.

    Raises:
        ValueError: ``MODEL.WEIGHTS`` is empty, or does not fit the model (``CheckpointError``).
        FileNotFoundError: there is no such file.
    """
    if not cfg.MODEL.WEIGHTS:
        raise InputError(
            "MODEL.WEIGHTS is empty; name a checkpoint, or predictions would come from random weights."
        )
    model = build_model(cfg)
    StrictCheckpointer(model, options=load_options(cfg, inference=True)).load(cfg.MODEL.WEIGHTS)
    model.eval()
    return model


@torch.no_grad()
def predict(cfg: CfgNode, model: nn.Module, records: Sequence[dict]) -> Iterator[ClipPrediction]:
    """Run ``model`` on clips one by one; with ``TEST.RETURN_EXTRAS`` its maps come too."""
    mapper = build_mapper(cfg, is_train=False)
    for record in records:
        clip = mapper(record)
        output = model([clip])[0]
        yield ClipPrediction(record, clip, {name: value.cpu() for name, value in output.items()})


def read_predictions(cfg: CfgNode, folder: str | Path, records: Sequence[dict]) -> Iterator[ClipPrediction]:
    """Predictions that an evaluation has saved (``TEST.SAVE_PREDICTIONS``).

    Raises:
        FileNotFoundError: the folder, or the prediction of a frame, does not exist.
        ValueError: a picture has another size than ``INPUT.EVAL_SIZE`` or impossible values.
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
                f"only {cfg.MODEL.NUM_CLASSES} classes; the predictions belong to another data set."
            )
        yield ClipPrediction(record, clip, {"labels": labels})


def _find(records: Sequence[dict], name: str, dataset: str) -> dict:
    exact = [record for record in records if record["clip_id"] == name]
    found = exact or [record for record in records if record["clip_id"].rsplit("/", 1)[-1] == name]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(record["clip_id"] for record in found[:3])
        raise InputError(f"{len(found)} clips of '{dataset}' are called '{name}'; choose by id: {ids}.")
    ids = ", ".join(record["clip_id"] for record in records[:3])
    raise InputError(f"No clip of '{dataset}' is called '{name}'; it has {len(records)}, for example {ids}.")
