"""Side-by-side panels of one moment of a clip: prediction, ground truth and motion map, with captions and time."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ska_vct.structures.clip import IGNORE_LABEL

from .canvas import FAINT, INK, PAPER, font, shorten
from .colors import OBJECT_NAME
from .images import heat, overlay_heat, overlay_labels, resize_image

MIN_SIDE, MAX_SIDE = 320, 480
GAP = 6
TEXT, HEADER, LEGEND = 16, 28, 30
NO_TRUTH = "no ground truth"


class Panels:
    """Draws the moments of one clip; call ``fit`` once, then ``draw`` for each.

    Args:
        labels: int (T, h, w), predicted classes.
        truth: int (T, h, w), 255 where there is no ground truth; or None.
        motion_map: float (T, h, w) in [0, 1], or None.
        palette: uint8 (K, 3).
        class_names: K names; "sounding object" alone when there are none.
        captions: write captions, time and legend around the images.
    """

    def __init__(
        self,
        labels: np.ndarray,
        truth: np.ndarray | None,
        motion_map: np.ndarray | None,
        *,
        palette: np.ndarray,
        class_names: Sequence[str],
        captions: bool,
    ) -> None:
        self._labels, self._truth, self._motion_map = labels, truth, motion_map
        self._palette = palette
        self._captions = captions
        self._names = list(class_names) if len(class_names) > 2 else ["background", OBJECT_NAME]
        self._titles = ["Prediction"]
        self._titles += [] if truth is None else ["Ground truth"]
        self._titles += [] if motion_map is None else ["Motion map"]
        self.fit((MIN_SIDE, MIN_SIDE))

    def fit(self, frame_size: tuple[int, int]) -> None:
        """Give the panels the proportions of ``frame_size`` (height, width).

        The short side is at least ``MIN_SIDE``, and of several panels at most ``MAX_SIDE``.
        """
        short = max(min(frame_size), MIN_SIDE)
        scale = (min(short, MAX_SIDE) if len(self._titles) > 1 else short) / min(frame_size)
        # yuv420p asks for even sizes
        self._size = (2 * round(frame_size[0] * scale / 2), 2 * round(frame_size[1] * scale / 2))
        self._legend = self._draw_legend()

    def draw(self, image: np.ndarray, row: int, time: float) -> np.ndarray:
        """One moment.

        Args:
            image: uint8 (H, W, 3), the frame.
            row: of the labels, the truth and the map.
            time: seconds from the clip's start.

        Returns:
            uint8 (H', W', 3) of even height and width, the same for all moments.
        """
        image = resize_image(image, self._size)
        cells = [overlay_labels(image, self._labels[row], self._palette, contour=3)]
        if self._truth is not None:
            cells.append(overlay_labels(image, self._truth[row], self._palette, contour=3))
        if self._motion_map is not None:
            cells.append(overlay_heat(image, self._motion_map[row]))
        gap = np.full((self._size[0], GAP, 3), 255, np.uint8)
        spaced = [part for cell in cells for part in (gap, cell)][1:]
        body = np.concatenate(spaced, axis=1)
        if not self._captions:
            return body
        known = self._truth is None or bool((self._truth[row] != IGNORE_LABEL).any())
        return np.concatenate([self._header(f"{time:.1f} s", known), body, self._legend])

    def _header(self, time: str, known: bool) -> np.ndarray:
        page = Image.new("RGB", (self._width, HEADER), PAPER)
        draw = ImageDraw.Draw(page)
        for index, title in enumerate(self._titles):
            left = index * (self._size[1] + GAP)
            text = NO_TRUTH if title == "Ground truth" and not known else title
            draw.text((left + 6, HEADER // 2), text, INK, font(TEXT), anchor="lm")
        end = self._size[1] - 6
        draw.text((end, HEADER // 2), time, FAINT, font(TEXT), anchor="rm")
        return np.asarray(page)

    @property
    def _width(self) -> int:
        return len(self._titles) * (self._size[1] + GAP) - GAP

    def _draw_legend(self) -> np.ndarray:
        """Names and colours of the classes that occur anywhere in the clip, and the map's scale."""
        maps = [self._labels] if self._truth is None else [self._labels, self._truth]
        present = sorted({int(k) for values in maps for k in np.unique(values)} - {0, IGNORE_LABEL})
        entries = [(self._name(k), tuple(self._palette[k].tolist())) for k in present]
        lines: list[list] = [[]]
        width = self._width
        room = self._size[1] * min(len(self._titles), 2) if self._motion_map is not None else width
        used = 6.0
        for name, color in entries:
            length = 26 + font(TEXT).getlength(name) + 14
            if lines[-1] and used + length > room:
                lines.append([])
                used = 6.0
            lines[-1].append((used, name, color))
            used += length
        page = Image.new("RGB", (width, LEGEND * len(lines)), PAPER)
        draw = ImageDraw.Draw(page)
        for index, line in enumerate(lines):
            y = LEGEND * index + LEGEND // 2
            for left, name, color in line:
                draw.rectangle((left, y - 8, left + 16, y + 8), fill=color, outline=FAINT)
                draw.text(
                    (left + 24, y), shorten(name, font(TEXT), width - left - 24), INK, font(TEXT), anchor="lm"
                )
        if self._motion_map is not None:
            left = width - self._size[1] + 6
            bar = heat(np.linspace(0, 1, 120)[None]).repeat(14, 0)
            draw.text((left, LEGEND // 2), "0", FAINT, font(TEXT), anchor="lm")
            page.paste(Image.fromarray(bar), (left + 16, LEGEND // 2 - 7))
            draw.text((left + 144, LEGEND // 2), "1", FAINT, font(TEXT), anchor="lm")
        return np.asarray(page)

    def _name(self, k: int) -> str:
        return self._names[k] if k < len(self._names) else f"class {k}"
