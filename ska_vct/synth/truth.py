"""Reads the objects of a synthetic clip from ``synth_truth``, which ``release.py`` writes.

Shape legend
    T     sampled frames, one per second
    K     objects, in drawing order
    H, W  the clip's own images, pixels

An object that sounds somewhere in its clip may rest for a second or two: it is then silent and still, and the
released ground truth omits it in these frames. Silent movers rest as well. So sounding and moving are given per
frame, while ``roles`` describe objects over the whole clip.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ska_vct.data.avsbench.csv_table import read_table
from ska_vct.utils.array_files import ArrayFileError, read_npz
from ska_vct.utils.errors import SkaVctError

TRUTH_FOLDER = "synth_truth"
# Arrays of a file, with NumPy's letters for their kinds; an empty list is of floats.
_TRUTH_ARRAYS = {
    "clip_id": "U", "kind": "U", "roles": "Uf", "categories": "Uf", "classes": "Uf", "masks": "bu",
    "sounding": "bu", "speed": "f",
}  # fmt: skip


class TruthError(SkaVctError, ValueError):
    """A clip's truth is missing, unreadable or belongs to another clip; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class ClipTruth:
    """All objects of one clip.

    Attributes:
        clip_id: as in the dataset's records.
        kind: kind of scene, a key of ``scene.SCENE_KINDS``.
        roles: K of ``scene.ROLES``: ``sounding``, ``twin``, ``mover`` or ``still``.
        categories: K S4 categories.
        classes: K AVSS classes.
        masks: bool (T, K, H, W), visible part of each object; they do not overlap.
        sounding: bool (T, K), whether an object sounds in a frame's second.
        moving: bool (T, K), whether an object moves by itself in a frame's second: sounding objects and silent
            movers.
    """

    clip_id: str
    kind: str
    roles: tuple[str, ...]
    categories: tuple[str, ...]
    classes: tuple[str, ...]
    masks: np.ndarray
    sounding: np.ndarray
    moving: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Object per pixel, uint8 (T, H, W): 0 is background, ``k + 1`` object ``k``."""
        numbers = np.arange(1, 1 + len(self.roles), dtype=np.uint8)[:, None, None]
        return (self.masks * numbers).sum(axis=1, dtype=np.uint8)


def truth_path(root: str | os.PathLike, subset: str, split: str, name: str) -> Path:
    """Path of a clip's truth; ``name`` is S4's and MS3's name, AVSS's uid."""
    return Path(root, TRUTH_FOLDER, subset, split, f"{name}.npz")


def has_objects(root: str | os.PathLike, record: Mapping) -> bool:
    """Whether ``root`` is a synthetic release with the clip's objects."""
    return truth_path(root, record["subset"], record["split"], record["name"]).is_file()


def read_objects(root: str | os.PathLike, record: Mapping) -> ClipTruth:
    """Read a clip's objects.

    Args:
        root: of the synthetic release, as ``DATASETS.ROOT`` (``MetadataCatalog.get(name).root``).
        record: of ``load_records``; ``subset``, ``split``, ``name`` and ``clip_id`` are read.

    Raises:
        TruthError: the file is missing, damaged or belongs to another clip.
    """
    path = truth_path(root, record["subset"], record["split"], record["name"])
    try:
        arrays = read_npz(path, _TRUTH_ARRAYS)
        truth = ClipTruth(
            clip_id=str(arrays["clip_id"]),
            kind=str(arrays["kind"]),
            **{name: tuple(arrays[name].tolist()) for name in ("roles", "categories", "classes")},
            **{name: arrays[name].astype(bool) for name in ("masks", "sounding")},
            moving=(arrays["speed"] > 0).any(axis=1),
        )
        if truth.masks.ndim != 4 or truth.sounding.shape != truth.masks.shape[:2]:
            raise ArrayFileError("does not hold masks (T, K, H, W)")
    except (ArrayFileError, ValueError) as error:
        raise TruthError(
            f"The objects of clip '{record['clip_id']}' cannot be read from {path}: it {error}; they are known "
            "for synthetic clips only, which datasets/make_synth.py makes."
        ) from None
    if truth.clip_id != record["clip_id"]:
        raise TruthError(
            f"File {path} holds the objects of clip '{truth.clip_id[:80]}', not '{record['clip_id']}'; make the "
            "release again."
        )
    return truth


def read_clip_classes(root: str | os.PathLike, subset: str) -> dict[str, tuple[list[str], list[str]]]:
    """Clip id -> AVSS classes of all objects in view, and of all sounds; empty for a real release."""
    rows = _clip_rows(root, subset, "classes", "sounds")
    return {row["clip_id"]: (row["classes"].split(), row["sounds"].split()) for row in rows}


def read_clip_roles(root: str | os.PathLike, subset: str) -> dict[str, list[str]]:
    """Clip id -> ``scene.ROLES`` of all objects in view; empty for a real release."""
    return {row["clip_id"]: row["roles"].split() for row in _clip_rows(root, subset, "roles")}


def _clip_rows(root: str | os.PathLike, subset: str, *columns: str) -> list[dict[str, str]]:
    path = Path(root, TRUTH_FOLDER, f"{subset}_clips.csv")
    return read_table(os.fspath(path), ("clip_id", *columns)) if path.is_file() else []
