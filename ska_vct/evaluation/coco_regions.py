"""Decodes COCO's three region formats: compressed and uncompressed run lengths, and polygons.

Run lengths (Lin et al., "Microsoft COCO", ECCV 2014; the code of ``pycocotools``) count pixels column by column,
starting outside the region. In compressed form each number is a sequence of five-bit groups, the lowest first;
from the third number on, the difference to the number two positions earlier is stored. Run lengths are decoded
here with bounds checks; ``pycocotools`` draws polygons.
"""

from typing import Any

import numpy as np

from ska_vct.utils.errors import InputError

# Rounding in annotation tools may put polygon points slightly outside the image, pixels.
_BEYOND = 2.0


class RegionError(InputError):
    """A region cannot be decoded; the message completes a sentence about it."""


def decode_region(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Pixels of a region, bool (h, w).

    Args:
        segmentation: as COCO's ``segmentation``.
        size: (h, w) of its image.

    Raises:
        RegionError: the format is unknown, the size differs, or the run lengths do not cover the image exactly.
    """
    if isinstance(segmentation, dict):
        stated, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(stated, list) or [*stated] != [*size] or any(type(side) is not int for side in stated):
            raise RegionError(f"has size {str(stated)[:40]}, but its image has {[*size]}")
        runs = _uncompress(counts, size[0] * size[1]) if isinstance(counts, str) else counts
        return _from_runs(runs, size)
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, size)
    raise RegionError("is neither run lengths nor polygons")


def _uncompress(text: str, limit: int) -> list[int]:
    runs: list[int] = []
    at, data = 0, text.encode("ascii", "replace")
    while at < len(data):
        value = shift = 0
        while True:
            if at >= len(data) or not 48 <= data[at] < 112 or shift > 60:
                raise RegionError("has damaged run lengths")
            group = data[at] - 48
            value |= (group & 31) << shift
            shift += 5
            at += 1
            if not group & 32:
                if group & 16:
                    value -= 1 << shift
                break
        value += runs[-2] if len(runs) > 2 else 0
        if not 0 <= value <= limit:
            raise RegionError("has run lengths beyond its image")
        runs.append(value)
    return runs


def _from_runs(runs: Any, size: tuple[int, int]) -> np.ndarray:
    limit = size[0] * size[1]
    if not isinstance(runs, list) or any(type(run) is not int or not 0 <= run <= limit for run in runs):
        raise RegionError("has run lengths that are not counts of its pixels")
    if sum(runs) != limit:
        raise RegionError(f"has run lengths of {sum(runs)} pixels in total, but its image has {limit}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size, order="F")


def _from_polygons(polygons: list, size: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco_mask

    if not polygons:
        return np.zeros(size, bool)
    most = (size[1] + _BEYOND, size[0] + _BEYOND)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise RegionError("has a polygon with fewer than three points")
        for index, value in enumerate(polygon):
            if type(value) not in (int, float) or not -_BEYOND <= value <= most[index % 2]:
                raise RegionError(f"has a polygon with a point at {str(value)[:20]}, outside its image")
    parts = coco_mask.frPyObjects([[float(value) for value in polygon] for polygon in polygons], *size)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)
