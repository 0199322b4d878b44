"""Chooses, while a video is decoded, the two neighbouring images about each wanted moment."""

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Moments closer than this are the same: times are sums of fractions.
_SAME = 1e-6


@dataclass(eq=False)
class Shown:
    """An image of a video and the moment it is shown at.

    Attributes:
        number: of the image, from 0.
        time: seconds from the first image; increases from one image to the next.
        size: height and width, upright.
        read: converts it to uint8 (h, w, 3), RGB, upright, at a given height and width.
        luminance: its bytes, by which repeated images are found.
    """

    number: int
    time: float
    size: tuple[int, int]
    read: Callable[[tuple[int, int]], np.ndarray]
    luminance: Callable[[], bytes]


@dataclass(eq=False)
class Kept:
    """An image that some field needs, small enough to be kept: uint8 (h, w, 3), RGB."""

    number: int
    time: float
    image: np.ndarray


class PairSearch:
    """Finds for each wanted moment the pair of neighbours whose middle is nearest, the earlier of two.

    An image that repeats the one before (videos whose rate was raised have them) is passed over, but never two in
    a row: a video may be still. Images that no pair needs are not converted.

    Attributes:
        found: key -> the two images, for all moments that are decided.
    """

    def __init__(self, size: Callable[[tuple[int, int]], tuple[int, int]]):
        """
        Args:
            size: from the images' size to that at which they are kept.
        """
        self.found: dict[Hashable, tuple[Kept, Kept]] = {}
        self._size = size
        self._wanted: list[tuple[float, int, Hashable]] = []
        self._count = 0
        self._before: _Candidate | None = None
        self._last: _Candidate | None = None
        self._luminance = b""
        self._skipped = False

    @property
    def num_wanted(self) -> int:
        """Moments that are not decided yet."""
        return len(self._wanted)

    @property
    def num_images(self) -> int:
        """Images seen, repeats left out; 2 stands for more."""
        return (self._last is not None) + (self._before is not None)

    @property
    def end(self) -> float:
        """Time of the last image, seconds."""
        return self._last.shown.time if self._last else 0.0

    def want(self, moment: float, key: Hashable) -> None:
        """Ask for the pair about ``moment``, seconds, which lies after the last image added but one."""
        heapq.heappush(self._wanted, (float(moment), self._count, key))
        self._count += 1

    def add(self, shown: Shown) -> None:
        """Take the next image."""
        luminance = shown.luminance()
        self._skipped = luminance == self._luminance and not self._skipped and self._last is not None
        self._luminance = luminance
        if self._skipped:
            return
        now = _Candidate(shown, self._size(shown.size))
        before, last = self._before, self._last
        while last and self._wanted and self._wanted[0][0] <= _middle(last, now) + _SAME:
            moment, _, key = heapq.heappop(self._wanted)
            is_earlier = before and moment - _middle(before, last) <= _middle(last, now) - moment + _SAME
            pair = (before, last) if is_earlier else (last, now)
            self.found[key] = pair[0].kept, pair[1].kept  # type: ignore[union-attr]
        self._before, self._last = last, now

    def finish(self) -> None:
        """There are no further images: what is still wanted gets the last pair, if there is one."""
        if self._before and self._last:
            for _, _, key in self._wanted:
                self.found[key] = self._before.kept, self._last.kept
            self._wanted.clear()


@dataclass(eq=False)
class _Candidate:
    shown: Shown
    size: tuple[int, int]

    @cached_property
    def kept(self) -> Kept:
        return Kept(self.shown.number, self.shown.time, self.shown.read(self.size))


def _middle(one: _Candidate, other: _Candidate) -> float:
    return (one.shown.time + other.shown.time) / 2
