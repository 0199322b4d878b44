"""Finds the AVSS clip that shows the same images as a clip of S4 or MS3: by name, then compared image by image."""

import threading
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ska_vct.data.avsbench.folders import DatasetError, FolderIndex
from ska_vct.data.avsbench.tables import Table
from ska_vct.data.facts import DatasetFacts, expand
from ska_vct.data.images.io import ImageError, read_image
from ska_vct.utils.threads import in_threads

# Images are compared as grey squares of this side.
_SIDE = 32
# Largest mean difference of images of one moment, of 255: in another size, compressed otherwise, or a neighbouring
# image. Clips of other scenes differ by several times as much.
MAX_DIFFERENCE = 20.0


class TwinFinder:
    """Finds AVSS's row of a clip; safe to call from several threads."""

    def __init__(
        self,
        *,
        facts: DatasetFacts,
        base: str,
        source: DatasetFacts,
        source_base: str,
        table: Table,
        index: FolderIndex,
        progress: bool = True,
    ):
        """
        Args:
            facts: of S4 or MS3; ``facts.twin_label`` is AVSS's folder of the same clips.
            base: its release, whose frames are compared; clips without frames there are matched by name alone.
            source: facts of AVSS.
            source_base: AVSS's release.
            table: AVSS's table.
            index: listings of folders.
            progress: whether to show a bar if all clips have to be compared.
        """
        self._facts, self._base, self._source, self._source_base = facts, base, source, source_base
        self._index, self._progress = index, progress
        self._rows = [row for rows in table.rows.values() for row in rows if row["label"] == facts.twin_label]
        self._by_name: dict[str, list[dict]] = {}
        for row in self._rows:
            self._by_name.setdefault(row["vid"], []).append(row)
        self._first_images: list[np.ndarray | None] | None = None
        self._lock = threading.Lock()

    def __call__(self, row: Mapping) -> dict:
        """AVSS's row of the clip of ``row``.

        Raises:
            DatasetError: AVSS has no clip of this name, or none that shows these images.
        """
        # If a name occurs twice, prefer the same split, then the last row, as VCT's scripts do.
        candidates = sorted(
            reversed(self._by_name.get(row["name"], [])), key=lambda twin: twin["split"] != row["split"]
        )
        own = self._images(self._facts, self._base, row)
        if not any(image is not None for image in own):
            if not candidates:
                raise DatasetError(f"{self._name(row)} is not in AVSS's table; its frames have no source.")
            return candidates[0]
        differences = [difference(own, self._twin_images(twin)) for twin in candidates]
        for twin, found in zip(candidates, differences, strict=True):
            # Unreadable images are reported when they are made.
            if found is None or found <= MAX_DIFFERENCE:
                return twin
        nearest = self._nearest(own)
        if nearest is not None:
            return nearest
        if not candidates:
            raise DatasetError(
                f"{self._name(row)} is not in AVSS's table, and no clip of AVSS's {self._facts.twin_label} shows "
                "the same images; its frames have no source."
            )
        raise DatasetError(
            f"{self._name(row)} has the name of AVSS's {candidates[0]['name']}, which shows other images (they "
            f"differ by {min(differences):.0f} of 255 on average), as do all its other clips; its frames have no "
            "source."
        )

    def _nearest(self, own: Sequence[np.ndarray | None]) -> dict | None:
        """The clip of any name that shows the same images, if there is one."""
        with self._lock:
            if self._first_images is None:
                title = f"Comparing AVSS's {self._facts.twin_label}"
                first = lambda twin: self._twin_images(twin, count=1)[0]  # noqa: E731
                self._first_images = list(in_threads(first, self._rows, title=title, progress=self._progress))
        found = [(difference(own[:1], [image]), number) for number, image in enumerate(self._first_images)]
        near = sorted((apart, number) for apart, number in found if apart is not None and apart <= MAX_DIFFERENCE)
        for _, number in near:
            apart = difference(own, self._twin_images(self._rows[number]))
            if apart is not None and apart <= MAX_DIFFERENCE:
                return self._rows[number]
        return None

    def _twin_images(self, twin: Mapping, count: int | None = None) -> list[np.ndarray | None]:
        return self._images(self._source, self._source_base, twin, count)

    def _images(
        self, facts: DatasetFacts, base: str, row: Mapping, count: int | None = None
    ) -> list[np.ndarray | None]:
        """Small grey copies of a clip's released frames; None where one is missing or damaged."""
        folder = self._index.folder(base, expand(facts.original.frames, row))
        images: list[np.ndarray | None] = []
        for second in range(count or facts.clip_frames(row.get("label"))):
            values = {**row, **facts.number(second)}
            names = [expand(file, values) + ending for file in facts.frame_files for ending in facts.endings]
            path = self._index.first(folder, names)
            images.append(_small(path) if path else None)
        return images

    def _name(self, row: Mapping) -> str:
        return f"Clip '{row['name']}' of {self._facts.title}"


def difference(one: Sequence[np.ndarray | None], other: Sequence[np.ndarray | None]) -> float | None:
    """Mean absolute difference of the images that both clips have, of 255; None if there are none."""
    pairs = [(a, b) for a, b in zip(one, other, strict=False) if a is not None and b is not None]
    return float(np.mean([np.abs(a - b).mean() for a, b in pairs])) if pairs else None


def _small(path: str) -> np.ndarray | None:
    try:
        grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    except ImageError:
        return None
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
