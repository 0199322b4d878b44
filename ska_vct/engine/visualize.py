"""Contact sheets and videos of a dataset's clips: what ``tools/visualize.py`` runs."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image
from tqdm import tqdm

from ska_vct.data.images.io import probe_image
from ska_vct.evaluation import binary_stats, semantic_stats
from ska_vct.evaluation.conventions import clip_scores
from ska_vct.evaluation.metrics import frame_ious, labelled_frame_scores
from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.folders import make_folder
from ska_vct.utils.media.audio import read_video_audio, read_wav
from ska_vct.visualization import (
    contact_sheet,
    index_sheet,
    label_palette,
    overview_row,
    prediction_labels,
    write_overlay_video,
)
from ska_vct.visualization.video import video_frame_size

from .datasets import register_datasets, resolve_root
from .predictor import ClipPrediction, find_records, predict, read_predictions, subset_of
from .setup import load_cfg, setup_cfg
from .weights import build_trained_model

INDEX_NAME = "index.png"
INDEX_CLIPS = 24


def visualize(
    config_file: str | os.PathLike,
    overrides: Sequence[str] = (),
    *,
    out: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    predictions: str | os.PathLike | None = None,
    dataset: str | None = None,
    clips: Sequence[str] = (),
    num: int = 8,
    video: bool = True,
    num_gpus: int | None = None,
) -> list[Path]:
    """Draw clips of a dataset with the predictions of a model, or with predictions on disk.

    Args:
        config_file, overrides, num_gpus: see :func:`ska_vct.engine.setup.setup_cfg`.
        out: folder for the files, see :func:`draw_predictions`.
        weights: checkpoint; None for the config's own.
        predictions: folder of saved predictions (``TEST.SAVE_PREDICTIONS``) to draw instead of running the model.
        dataset: name of a registered dataset; None for the first of ``DATASETS.TEST``.
        clips: clips by id or by the id's last part; none for ``num`` clips spread over the dataset.
        num: number of clips.
        video: also write a video per clip.

    Returns:
        the files written, the index first.

    Raises:
        SkaVctError, OSError: the input is wrong; one sentence says what, where, and what to do.
    """
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
    if predictions:
        found = read_predictions(cfg, predictions, records)
    else:
        found = predict(cfg, build_trained_model(cfg), records)
    return draw_predictions(found, out, class_names=subset.classes, total=len(records), video=video)


def draw_predictions(
    predictions: Iterable[ClipPrediction],
    folder: str | os.PathLike,
    *,
    class_names: Sequence[str],
    total: int | None = None,
    video: bool = True,
) -> list[Path]:
    """Write a contact sheet and a video per clip, and one page with a row per clip.

    Args:
        predictions: clips with their predictions, made one at a time.
        folder: where ``{clip}.png``, ``{clip}.mp4`` and ``index.png`` go; a clip's ``/`` becomes ``__``.
        class_names: K names, background included.
        total: number of clips, for the progress bar.
        video: also write the videos.

    Returns:
        the files written, the index first.

    Raises:
        OSError: the folder cannot be written, or a clip's audio does not exist.
        ValueError: there was no clip.
    """
    folder = make_folder(folder)
    files: list[Path] = []
    rows: list[Any] = []
    for prediction in tqdm(predictions, total=total, desc="Drawing", unit="clip"):
        clip_id = prediction.clip["clip_id"]
        path = folder / (clip_id.replace("/", "__") + ".png")
        _save_image(path, draw_sheet(prediction, class_names=class_names))
        files.append(path)
        if len(rows) < INDEX_CLIPS:
            scores, _ = clip_and_frame_scores(prediction, num_classes=len(class_names))
            frame_size = own_frame_size(prediction)
            note = scores_note(prediction, num_classes=len(class_names))
            rows.append(overview_row(prediction.clip, prediction.output, scores=scores, frame_size=frame_size))
        if video:
            files.append(path.with_name(path.stem + ".mp4"))
            draw_video(prediction, files[-1], class_names=class_names)
    if not rows:
        raise InputError("There are no clips to draw.")
    index = folder / INDEX_NAME
    shown = f"{len(rows)} clips" if total is None else f"{len(rows)} of {total} clips"
    binary = len(class_names) == 2
    _save_image(index, index_sheet(rows, title=shown, subtitle=f"scores of each clip: {note}", binary=binary))
    return [index, *files]


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


def own_frame_size(prediction: ClipPrediction) -> tuple[int, int] | None:
    """Height and width of the clip's video or, without one, of its first frame's file; None without either.

    AVSBench's frames of S4 and MS3 are squares, whatever the video's proportions.
    """
    video, images = (prediction.record.get(key) for key in ("video_path", "image_paths"))
    if video and Path(video).is_file():
        return video_frame_size(video)
    return probe_image(images[0]) if images else None


def draw_video(prediction: ClipPrediction, path: Path, *, class_names: Sequence[str]) -> None:
    """Write prediction, ground truth and motion map over a clip's own video or its frames, with its audio.

    Raises:
        FileNotFoundError: the clip has neither an audio file nor a video.
    """
    record, clip, output = prediction
    exists = clip["frame_valid"].cpu()
    index = clip.get("frame_index")
    wav, video = (record.get(key) for key in ("wav_path", "video_path"))
    video = video if video and Path(video).is_file() else None
    if wav and Path(wav).is_file():
        samples, sample_rate = read_wav(wav)
    elif video:
        samples, sample_rate = read_video_audio(video)
    else:
        raise MissingFileError(
            f"Clip '{clip['clip_id']}' has no audio for its video: neither its wav file nor its own video exists; "
            "unpack them, or draw contact sheets only (--no-video)."
        )
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


def clip_and_frame_scores(
    prediction: ClipPrediction, *, num_classes: int
) -> tuple[dict[str, float], list[float] | None]:
    """Scores of the clip by name, and IoUs of its existing frames; nothing where no frame is annotated.

    All are shares in [0, 1]. AVSS's are means over the classes labelled in each frame.
    """
    clip, output = prediction.clip, prediction.output
    exists = clip["frame_valid"].cpu()
    annotated = clip["mask_valid"].cpu()[exists]
    if clip.get("masks") is None or not bool(annotated.any()):
        return {}, None
    masks = clip["masks"].cpu()[exists][annotated]
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


def scores_note(prediction: ClipPrediction, *, num_classes: int) -> str:
    """What the scores of ``clip_and_frame_scores`` are."""
    if num_classes != 2:
        return "means over the classes labelled in each frame"
    threshold = ", M_F at the clip's best threshold" if "sem_seg" in prediction.output else ""
    return f"convention 'combo'{threshold}"


def _spread(values: torch.Tensor, annotated: torch.Tensor) -> list[float]:
    """Values of the annotated frames as those of all frames, NaN for the others."""
    result = torch.full((len(annotated),), float("nan"), dtype=torch.float64)
    result[annotated] = values
    return result.tolist()


def _save_image(path: Path, image: np.ndarray) -> None:
    with atomic_write(path) as file:
        Image.fromarray(image).save(file, format="PNG", optimize=True)
