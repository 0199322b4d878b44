"""Predictions as run lengths in one JSON file of COCO's dataset format, which pycocotools and others read.

An image is a frame, identified by its ``file_name``: the path under which ``prediction_files.py`` stores the
frame. ``clip_id`` and ``frame`` (from 0) are further fields. An annotation is the region of one class; background
has none.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ska_vct.utils.array_files import ArrayFileError, parse_json, read_bytes
from ska_vct.utils.errors import InputError, MissingFileError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.media.image_header import MAX_PIXELS

from .coco_regions import RegionError, decode_region
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
    """Write the frames of ``encode_frames`` atomically; image ids count from 1 in their order."""
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
    """Predictions from a file written by ``write_coco`` or another tool.

    Args:
        path: the file, for messages.
        images: file name -> image.
        regions: image id -> its annotations, by increasing score.
        binary: 0 / 1 masks rather than class maps.
        num_classes: K; classes are 0 .. K - 1.
    """

    def __init__(
        self,
        *,
        path: str,
        images: dict[str, dict],
        regions: dict[int | str, list[dict]],
        binary: bool,
        num_classes: int = 256,
    ):
        self._path = path
        self._images = images
        self._regions = regions
        self._binary = binary
        self._num_classes = num_classes

    def load(self, clip_id: str, frames: Sequence[int], *, size: tuple[int, int] | None = None) -> np.ndarray:
        """Class per pixel of some frames, int64 (T, H, W).

        Raises:
            FileNotFoundError: a frame is not in the file.
            ValueError: a frame has another size than ``size`` or the first, or a region that cannot be decoded.
        """
        loaded: list[np.ndarray] = []
        for frame in frames:
            loaded.append(self._load(clip_id, frame, size or (loaded[0].shape if loaded else None)))
        return np.stack(loaded)

    def _load(self, clip_id: str, frame: int, size: tuple[int, int] | None) -> np.ndarray:
        name = _file_name(clip_id, frame, self._binary)
        if name not in self._images:
            raise MissingFileError(f"No prediction for clip '{clip_id}': {self._path} has no image '{name}'.")
        image = self._images[name]
        height, width = image["height"], image["width"]
        if size is not None and (height, width) != tuple(size):
            raise InputError(
                f"Image '{name}' of {self._path} is {height} x {width} pixels, but {size[0]} x {size[1]} are "
                "expected."
            )
        labels = np.zeros((height, width), np.int64)
        for region in self._regions.get(image["id"], ()):
            try:
                inside = decode_region(region.get("segmentation"), (height, width))
            except RegionError as error:
                raise InputError(f"Image '{name}' of {self._path} has a region that {error}.") from None
            labels[inside] = self._label(region.get("category_id"), name)
        return labels

    def _label(self, category: Any, name: str) -> int:
        first = 1 if self._binary else 0
        last = 1 if self._binary else self._num_classes - 1
        if type(category) is not int or not first <= category <= last:
            raise InputError(
                f"Image '{name}' of {self._path} has a region of category_id {str(category)[:20]}, expected "
                f"{'1' if self._binary else f'{first} to {last}'}; the predictions may belong to another dataset."
            )
        return category


def load_coco(path: str | os.PathLike, *, binary: bool, num_classes: int = 256) -> CocoPredictions:
    """Open a JSON file of predictions.

    Args:
        binary: 0 / 1 masks rather than class maps.
        num_classes: K; classes are 0 .. K - 1.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not JSON in COCO's dataset format, or refers to images that it does not contain.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise MissingFileError(f"Prediction file '{path}' does not exist; check the path.")
    try:
        data = parse_json(read_bytes(path))
        images, ids = _images(data)
        regions = _regions(data, ids)
    except ArrayFileError as error:
        raise InputError(
            f"{path} is not a prediction file in COCO's format: it {error}; it needs images with file_name, "
            "height and width, and annotations."
        ) from None
    return CocoPredictions(path=path, images=images, regions=regions, binary=binary, num_classes=num_classes)


def _images(data: Any) -> tuple[dict[str, dict], set]:
    images, ids = {}, set()
    for image in _list_of_dicts(data, "images"):
        name, number = image.get("file_name"), image.get("id")
        size: tuple[Any, Any] = (image.get("height"), image.get("width"))
        if not isinstance(name, str) or type(number) not in (int, str):
            raise ArrayFileError("has an image without file_name or id")
        if any(type(side) is not int or side < 1 for side in size) or math.prod(size) > MAX_PIXELS:
            raise ArrayFileError(f"has an image '{name[:80]}' of height and width {str(size)[:40]}")
        if name in images or number in ids:
            raise ArrayFileError(f"has image '{name[:80]}' or its id twice")
        images[name] = {"id": number, "height": size[0], "width": size[1]}
        ids.add(number)
    return images, ids


def _regions(data: Any, ids: set) -> dict:
    regions: dict = {}
    annotations = _list_of_dicts(data, "annotations")
    for region in annotations:
        score = region.get("score", 1.0)
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise ArrayFileError("has an annotation whose score is not a number")
        if type(region.get("image_id")) not in (int, str) or region["image_id"] not in ids:
            raise ArrayFileError(f"has an annotation of image {str(region.get('image_id'))[:40]}, which it lacks")
    for region in sorted(annotations, key=lambda region: region.get("score", 1.0)):
        regions.setdefault(region["image_id"], []).append(region)
    return regions


def _list_of_dicts(data: Any, key: str) -> list[dict]:
    values = data.get(key) if isinstance(data, dict) else None
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ArrayFileError(f"has no list of {key}")
    return values


def _file_name(clip_id: str, frame: int, binary: bool) -> str:
    return prediction_path("", clip_id, int(frame), binary=binary).as_posix()
