"""Contact sheets, videos and pages of a dataset's clips: what ``tools/visualize.py`` runs."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from PIL import Image
from tqdm import tqdm

from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.folders import make_folder
from ska_vct.visualization import (
    contact_sheet,
    index_sheet,
    label_palette,
    overview_row,
    prediction_labels,
    write_overlay_video,
)

from .clip_scores import clip_and_frame_scores, own_frame_size, scores_note
from .datasets import register_datasets, resolve_root
from .pages import PageWriter, own_video, read_audio
from .predictor import ClipPrediction, find_records, predict, subset_of
from .saved_predictions import read_predictions
from .setup import load_cfg, setup_cfg
from .weights import build_trained_model

INDEX_NAME = "index.png"
INDEX_CLIPS = 24
# What can be written of each clip.
KINDS = ("sheet", "video", "page")


def visualize(
    config_file: str | os.PathLike,
    overrides: Sequence[str] = (),
    *,
    out: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    predictions: str | os.PathLike | None = None,
    compare: str | os.PathLike | None = None,
    compare_config: str | os.PathLike | None = None,
    dataset: str | None = None,
    clips: Sequence[str] = (),
    num: int | None = 8,
    save: Sequence[str] = KINDS,
    num_gpus: int | None = None,
) -> list[Path]:
    """Draw clips of a dataset with the predictions of a model, or with predictions on disk.

    Args:
        config_file, overrides, num_gpus: see :func:`ska_vct.engine.setup.setup_cfg`.
        out: folder for the files, see :func:`draw_predictions`.
        weights: checkpoint; None for the config's own.
        predictions: folder of saved predictions (``TEST.SAVE_PREDICTIONS``) to draw instead of running the model.
        compare: a second checkpoint, shown beside the first on pages and in the gallery.
        compare_config: its config; None for the first one's.
        dataset: name of a registered dataset; None for the first of ``DATASETS.TEST``.
        clips: clips by id or by the id's last part; none for ``num`` clips spread over the dataset.
        num: number of clips; None for all.
        save: what to write, of ``KINDS``.
        num_gpus: see above.

    Returns:
        the files written, the indexes first.

    Raises:
        SkaVctError, OSError: the input is wrong; one sentence says what, where, and what to do.
    """
    if not save or set(save) - set(KINDS):
        raise InputError(f"What to save is '{', '.join(save)}'; choose of {', '.join(KINDS)}.")
    if compare and "page" not in save:
        raise InputError("Two checkpoints are compared on pages only; save pages as well.")
    make_folder(out)
    cfg = _load_cfg(config_file, overrides, weights, predictions, dataset, num_gpus)
    if not cfg.DATASETS.TEST:
        raise InputError("DATASETS.TEST is empty; name a dataset with --dataset, e.g. avsbench_ms3_test.")
    name = cfg.DATASETS.TEST[0]
    subset = subset_of(name)
    if cfg.MODEL.NUM_CLASSES != subset.num_classes:
        raise InputError(
            f"'{name}' has {subset.num_classes} classes but MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES}; "
            f"use a config of {subset.title}."
        )
    records = find_records(name, clip_ids=clips, num=None if clips else num)
    inner = "page" in save
    if predictions:
        found = read_predictions(cfg, predictions, records)
        titles = [f"saved predictions {Path(predictions)}"]
    else:
        found = predict(cfg, build_trained_model(cfg), records, inner=inner)
        titles = [cfg.MODEL.WEIGHTS]
    second = None
    if compare:
        # The first one's overrides say where the data are and what the model is like.
        other = _load_cfg(compare_config or config_file, overrides, compare, None, name, num_gpus)
        second = predict(other, build_trained_model(other), records, inner=True)
        titles.append(os.fspath(compare))
    return draw_predictions(
        found,
        out,
        class_names=subset.classes,
        total=len(records),
        save=save,
        compare=second,
        titles=titles,
        dataset=name,
    )


def draw_predictions(
    predictions: Iterable[ClipPrediction],
    folder: str | os.PathLike,
    *,
    class_names: Sequence[str],
    total: int | None = None,
    save: Sequence[str] = KINDS,
    compare: Iterable[ClipPrediction] | None = None,
    titles: Sequence[str] = ("model",),
    dataset: str = "clips",
) -> list[Path]:
    """Write a contact sheet, a video and a page per clip, and indexes of all clips.

    Args:
        predictions: clips with their predictions, made one at a time.
        folder: where ``{clip}.png``, ``{clip}.mp4``, ``{clip}.html`` and the indexes ``index.png`` (of sheets) and
            ``index.html`` (of pages, with the folder ``gallery``) go; a clip's ``/`` becomes ``__``.
        class_names: K names, background included.
        total: number of clips, for the progress bar.
        save: what to write, of ``KINDS``.
        compare: the same clips predicted by another model, for the pages.
        titles: of the models.
        dataset: name of the dataset.

    Returns:
        the files written, the indexes first.

    Raises:
        OSError: the folder cannot be written, or a clip's audio does not exist.
        ValueError: there was no clip.
    """
    folder = make_folder(folder)
    files: list[Path] = []
    rows: list[Any] = []
    gallery = PageWriter(folder, class_names=class_names, titles=titles, dataset=dataset)
    pairs: Iterable[tuple[ClipPrediction, ...]] = zip(predictions, *([compare] if compare else []), strict=True)
    for prediction, *others in tqdm(pairs, total=total, desc="Drawing", unit="clip"):
        path = folder / (prediction.clip["clip_id"].replace("/", "__") + ".png")
        if "sheet" in save:
            _save_image(path, draw_sheet(prediction, class_names=class_names))
            files.append(path)
            if len(rows) < INDEX_CLIPS:
                rows.append(_overview(prediction, class_names))
        if "video" in save:
            files.append(path.with_name(path.stem + ".mp4"))
            draw_video(prediction, files[-1], class_names=class_names)
        if "page" in save:
            files.append(gallery.add([prediction, *others], name=path.stem, video="video" in save))
        note = scores_note(prediction, num_classes=len(class_names))
    if not files:
        raise InputError("There are no clips to draw.")
    indexes = []
    if rows:
        indexes.append(folder / INDEX_NAME)
        shown = f"{len(rows)} clips" if total is None else f"{len(rows)} of {total} clips"
        binary = len(class_names) == 2
        sheet = index_sheet(rows, title=shown, subtitle=f"scores of each clip: {note}", binary=binary)
        _save_image(indexes[0], sheet)
    if "page" in save:
        indexes.append(gallery.finish(note))
    return [*indexes, *files]


def _overview(prediction: ClipPrediction, class_names: Sequence[str]) -> Any:
    scores, _ = clip_and_frame_scores(prediction, num_classes=len(class_names))
    frame_size = own_frame_size(prediction)
    return overview_row(prediction.clip, prediction.output, scores=scores, frame_size=frame_size)


def draw_sheet(prediction: ClipPrediction, *, class_names: Sequence[str], **options: Any) -> np.ndarray:
    """A clip's contact sheet with its scores, uint8 (H, W, 3); ``options`` are those of ``contact_sheet``."""
    scores, per_frame = clip_and_frame_scores(prediction, num_classes=len(class_names))
    return contact_sheet(
        prediction.clip,
        prediction.output,
        scores=scores,
        scores_note=scores_note(prediction, num_classes=len(class_names)),
        frame_scores=per_frame,
        class_names=class_names,
        frame_size=own_frame_size(prediction),
        **options,
    )


def draw_video(prediction: ClipPrediction, path: Path, *, class_names: Sequence[str]) -> None:
    """Write prediction, ground truth and motion map over a clip's own video or its frames, with its audio.

    Raises:
        FileNotFoundError: the clip has neither an audio file nor a video.
    """
    record, clip, output = prediction
    exists = clip["frame_valid"].cpu()
    index = clip.get("frame_index")
    video = own_video(record)
    audio = read_audio(record)
    if audio is None:
        raise MissingFileError(
            f"Clip '{clip['clip_id']}' has no audio for its video: neither its wav file nor its own video exists; "
            "unpack them, or draw contact sheets only (--save sheet)."
        )
    samples, sample_rate = audio
    motion_map = output.get("motion_map")
    write_overlay_video(
        path,
        clip["images"][exists].permute(0, 2, 3, 1).cpu().numpy(),
        prediction_labels(output),
        audio=samples,
        sample_rate=sample_rate,
        video=video,
        palette=label_palette(len(class_names)),
        seconds=None if index is None else index[exists].tolist(),
        truth=_truth(clip),
        motion_map=None if motion_map is None else motion_map.float().cpu().numpy(),
        class_names=class_names,
        frame_size=own_frame_size(prediction),
    )


def _truth(clip: dict) -> np.ndarray | None:
    """Ground truth of the frames that exist, int64 (T, h, w), 255 where there is none; None without any."""
    exists, annotated = clip["frame_valid"].cpu(), clip["mask_valid"].cpu()
    if clip.get("masks") is None or not bool((annotated & exists).any()):
        return None
    masks = clip["masks"].cpu().clone()
    masks[~annotated] = IGNORE_LABEL
    return masks[exists].numpy()


def _load_cfg(
    config_file: str | os.PathLike,
    overrides: Sequence[str],
    weights: str | os.PathLike | None,
    predictions: str | os.PathLike | None,
    dataset: str | None,
    num_gpus: int | None,
) -> CfgNode:
    """The configuration for scoring the same model on the same dataset; saved predictions need no weights."""
    overrides = [*overrides, "TEST.RETURN_EXTRAS", "True"]
    if dataset:
        overrides += ["DATASETS.TEST", repr((dataset,))]
    if weights:
        overrides += ["MODEL.WEIGHTS", os.fspath(weights)]
    if not predictions:
        return setup_cfg(config_file, overrides, num_gpus=num_gpus, eval_only=True)
    cfg = load_cfg(config_file, overrides)
    cfg.DATASETS.ROOT = str(resolve_root(cfg))
    register_datasets(cfg)
    return cfg


def _save_image(path: Path, image: np.ndarray) -> None:
    with atomic_write(path) as file:
        Image.fromarray(image).save(file, format="PNG", optimize=True)
