"""Access to the stored cut-outs, recordings and photographs of one split."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ska_vct.synth.composites.prepare import CUTOUT, SOURCES, Source, read_sources
from ska_vct.utils.errors import InputError
from ska_vct.utils.media.audio import read_wav


@dataclass(frozen=True)
class Thing:
    """What the tables of a release say about an object: its name twice, since composites have no classes."""

    avss: str
    category: str


class Library:
    """The sources of one split.

    Attributes:
        sounding: group -> cut-outs with a recording.
        silent: cut-outs without one.
        photographs: backgrounds.
    """

    def __init__(self, root: str | os.PathLike, split: str):
        self._folder = Path(root, SOURCES)
        own = [source for source in read_sources(root) if source.split == split]
        self.sounding: dict[str, list[Source]] = {}
        for source in own:
            if source.sound:
                self.sounding.setdefault(source.group, []).append(source)
        # Others of a sounding group are left out: a silent pig among sounding ones is what twins are for.
        self.silent = [
            source for source in own
            if source.kind == CUTOUT and not source.sound and source.group not in self.sounding
        ]  # fmt: skip
        self.photographs = [source for source in own if source.kind != CUTOUT]

    def sprite(self, source: Source) -> np.ndarray:
        """The cut-out, uint8 (h, w, 4), RGBA."""
        return _read(str(self._folder / source.kind / f"{source.name}.png"))

    def photograph(self, source: Source) -> np.ndarray:
        """The photograph, uint8 (h, w, 3), RGB."""
        return _read(str(self._folder / source.kind / f"{source.name}.png"))

    def recording(self, source: Source) -> np.ndarray:
        """The recording, float64 (n,) at 16 kHz."""
        return _read_recording(str(self._folder / source.kind / f"{source.name}.wav"))


@lru_cache(maxsize=8)
def open_library(root: str, split: str) -> Library:
    """A library that is read once per process."""
    return Library(root, split)


@lru_cache(maxsize=256)
def _read(path: str) -> np.ndarray:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(
            f"The source {path} is missing or damaged; remove its folder and gather the sources again."
        )
    image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    image.flags.writeable = False
    return image


@lru_cache(maxsize=256)
def _read_recording(path: str) -> np.ndarray:
    return read_wav(path)[0].mean(axis=1)
