"""Predictions as run lengths in one JSON file of COCO's data set format, which pycocotools and others read.

An image is a frame; its ``file_name`` is where ``prediction_files.py`` puts its picture, and by it the frame is
known again. ``clip_id`` and ``frame`` (from 0) stand beside it. An annotation is the region of one class;
background has none.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.files import atomic_write

from .prediction_files import prediction_path


def encode_frames(clip_id: str, prediction: np.ndarray, frames: Sequence[int], *, binary: bool) -> list[dict]:
    """One dict per frame with the image's fields and ``regions``: class -> COCO's compressed run lengths.

    Args:
        clip_id: the clip's id.
        prediction: (T, H, W), class per pixel.
        frames: T frame indices in the released clip, from 0.
        binary: 0 / 1 masks rather than class maps.
    """
    from pycocotools import mask as coco_mask

    encoded = []
    for frame, labels in zip(frames, prediction, strict=True):
        regions = {}
        for label in np.unique(labels):
            if label:
                run_lengths = coco_mask.encode(np.asfortranarray(labels == label, dtype=np.uint8))
                regions[int(label)] = {
                    "size": list(map(int, run_lengths["size"])),
                    "counts": run_lengths["counts"].decode("ascii"),
                }
        encoded.append(
            {
                "file_name": _file_name(clip_id, frame, binary),
                "clip_id": clip_id,
                "frame": int(frame),
                "height": labels.shape[0],
                "width": labels.shape[1],
                "regions": regions,
            }
        )
    return encoded


def write_coco(path: str | os.PathLike, frames: Iterable[dict], class_names: Sequence[str]) -> None:
    """Write frames of ``encode_frames``, whole or not at all; image ids count from 1 in their order."""
    from pycocotools import mask as coco_mask

    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, frame in enumerate(frames, 1):
        images.append({"id": image_id, **{key: value for key, value in frame.items() if key != "regions"}})
        for label, run_lengths in frame["regions"].items():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "segmentation": run_lengths,
                    "area": int(coco_mask.area(run_lengths)),
                    "bbox": coco_mask.toBbox(run_lengths).tolist(),
                    "iscrowd": 0,
                    "score": 1.0,
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(class_names) if index]
    with atomic_write(path, "w") as file:
        json.dump({"images": images, "categories": categories, "annotations": annotations}, file)


class CocoPredictions:
    """Predictions of a file that ``write_coco`` or another tool wrote.

    Args:
        path: the file, for messages.
        images: file name -> image.
        regions: image id -> its annotations, the surest last.
        binary: 0 / 1 masks rather than class maps.
    """

    def __init__(self, *, path: str, images: dict[str, dict], regions: dict[int, list[dict]], binary: bool):
        self._path = path
        self._images = images
        self._regions = regions
        self._binary = binary

    def load(self, clip_id: str, frames: Sequence[int], *, size: tuple[int, int] | None = None) -> np.ndarray:
        """Class per pixel of some frames, int64 (T, H, W).

        Raises:
            FileNotFoundError: a frame is not in the file.
            ValueError: a frame has another size than ``size`` or cannot be decoded.
        """
        return np.stack([self._load(clip_id, frame, size) for frame in frames])

    def _load(self, clip_id: str, frame: int, size: tuple[int, int] | None) -> np.ndarray:
        from pycocotools import mask as coco_mask

        name = _file_name(clip_id, frame, self._binary)
        if name not in self._images:
            raise MissingFileError(f"No prediction for clip '{clip_id}': {self._path} has no image '{name}'.")
        image = self._images[name]
        height, width = image["height"], image["width"]
        if size is not None and (height, width) != tuple(size):
            raise InputError(
                f"Image '{name}' of {self._path} is {height} x {width} pixels but {size[0]} x {size[1]} are "
                "expected."
            )
        labels = np.zeros((height, width), np.int64)
        for region in self._regions.get(image["id"], ()):
            try:
                inside = coco_mask.decode(region["segmentation"]).astype(bool)
                labels[inside] = 1 if self._binary else int(region["category_id"])
            except (TypeError, ValueError, KeyError, IndexError) as error:
                raise InputError(f"Image '{name}' of {self._path} has a broken region ({error}).") from None
        return labels


def load_coco(path: str | os.PathLike, *, binary: bool) -> CocoPredictions:
    """Open a JSON file of predictions.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON of COCO's data set format.
    """
    path = os.fspath(path)
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        images = {
            image["file_name"]: {key: image[key] for key in ("id", "height", "width")} for image in data["images"]
        }
        regions: dict[int, list[dict]] = {}
        for region in sorted(data["annotations"], key=lambda region: region.get("score", 1.0)):
            regions.setdefault(region["image_id"], []).append(region)
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no file of predictions in COCO's format ({type(error).__name__}: {error}); it needs "
            "images with file_name, height and width, and annotations."
        ) from None
    return CocoPredictions(path=path, images=images, regions=regions, binary=binary)


def _file_name(clip_id: str, frame: int, binary: bool) -> str:
    return prediction_path("", clip_id, int(frame), binary=binary).as_posix()
