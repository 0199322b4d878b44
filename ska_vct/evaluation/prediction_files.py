"""Predictions on disk, laid out like AVSBench's own masks (docs/data.md).

Below the folder of a dataset's predictions: ``{clip_id}/{name}_{1..}.png`` with 0 / 255 for S4 and MS3, where
``name`` is the last part of the clip's id, and ``{clip_id}/labels_semantic/{0..}.png`` with class indices and
AVSBench's palette for AVSS.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.media.images import read_binary_mask, read_label_map
from ska_vct.utils.palette import voc_palette


def prediction_path(root: str | Path, clip_id: str, frame: int, *, binary: bool) -> Path:
    """File of one frame; ``frame`` counts from 0.

    Raises:
        ValueError: the clip's id would lead outside ``root``.
    """
    relative = PurePosixPath(clip_id)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise InputError(f"Clip id '{clip_id}' cannot be a folder name; it must be relative and without '..'.")
    folder = Path(root) / relative
    return folder / f"{relative.name}_{frame + 1}.png" if binary else folder / "labels_semantic" / f"{frame}.png"


def save_prediction(
    root: str | Path, clip_id: str, prediction: np.ndarray, frames: Sequence[int], *, binary: bool
) -> None:
    """Write one image per frame, atomically.

    Args:
        root: folder of the dataset's predictions.
        clip_id: the clip's id; becomes folders.
        prediction: (T, H, W), class per pixel.
        frames: T frame indices in the released clip, from 0.
        binary: 0 / 255 images rather than index maps.
    """
    palette = voc_palette(256).flatten().tolist()
    for frame, labels in zip(frames, prediction.astype(np.uint8), strict=True):
        image = Image.fromarray(labels * 255 if binary else labels)
        if not binary:
            image = image.convert("P")
            image.putpalette(palette)
        with atomic_write(prediction_path(root, clip_id, int(frame), binary=binary)) as file:
            image.save(file, format="PNG")


def load_prediction(
    root: str | Path, clip_id: str, frames: Sequence[int], *, binary: bool, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Read predictions written by ``save_prediction``.

    Args:
        root: folder of the dataset's predictions.
        clip_id: the clip's id.
        frames: frame indices to read, from 0.
        binary: images are 0 / 255 rather than index maps.
        size: required height and width of the images; None for any size that all images share.

    Returns:
        int64 (T, H, W), class per pixel.

    Raises:
        FileNotFoundError: a frame's file is missing.
        ValueError: a file cannot be read, is ambiguous, has another size or holds other values.
    """
    masks = []
    for frame in frames:
        path = prediction_path(root, clip_id, int(frame), binary=binary)
        if not path.is_file():
            raise MissingFileError(f"No prediction for clip '{clip_id}': '{path}' does not exist.")
        if binary:
            labels = read_binary_mask(path, kind="Prediction")
        else:
            labels = read_label_map(path, 256, kind="Prediction")
        size = size or labels.shape
        if labels.shape != tuple(size):
            raise InputError(
                f"Prediction '{path}' is {labels.shape[0]} x {labels.shape[1]} pixels but {size[0]} x {size[1]} "
                "are expected; predict at the evaluation size (INPUT.EVAL_SIZE)."
            )
        masks.append(labels.astype(np.int64))
    return np.stack(masks)
