"""Side-by-side panels of one moment of a clip: prediction, ground truth and motion map, with captions and time."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ska_vct.structures.clip import IGNORE_LABEL

from .canvas import FAINT, INK, PAPER, SHOWN_WIDTH, font, shorten
from .colors import OBJECT_NAME
from .images import Layer, heat, heat_layer, label_layer, resize_image

MIN_SIDE, MAX_SIDE, MAX_SINGLE = 320, 480, 720
# Long side of a panel, however narrow the video is.
MAX_LONG = 1920
GAP = 6
TEXT, HEADER, LEGEND = 16, 28, 30
NO_TRUTH = "no ground truth"


class Panels:
    """Draws the moments of one clip; call ``fit`` once, then ``draw`` for each.

    What is drawn over the frames of a row is made once and kept until another row comes. Rows may be computed when
    they are asked for: a sequence needs ``__len__`` and ``__getitem__`` only.

    Args:
        labels: int (T, h, w), predicted classes.
        truth: int (T, h, w), 255 where there is no ground truth; or None.
        motion_map: float (T, h, w) in [0, 1], or None.
        scores: float (T, h, w) in [0, 1], drawn as heat in place of the labels; or None.
        palette: uint8 (K, 3).
        class_names: K names; "sounding object" alone when there are none.
        captions: write captions, time and legend around the images.
        present: classes of the legend; None for those in the labels and the truth.
    """

    def __init__(
        self,
        labels: Sequence[np.ndarray] | np.ndarray,
        truth: np.ndarray | None,
        motion_map: Sequence[np.ndarray] | np.ndarray | None,
        *,
        scores: Sequence[np.ndarray] | np.ndarray | None = None,
        palette: np.ndarray,
        class_names: Sequence[str],
        captions: bool,
        present: Iterable[int] | None = None,
    ) -> None:
        self._labels, self._truth, self._motion_map, self._scores = labels, truth, motion_map, scores
        self._palette = palette
        self._captions = captions
        self._names = list(class_names) if len(class_names) > 2 else ["background", OBJECT_NAME]
        score = "Score" if len(self._names) > 2 else "Probability"
        self._titles = ["Prediction" if scores is None else score]
        self._titles += [] if truth is None else ["Ground truth"]
        self._titles += [] if motion_map is None else ["Motion map"]
        if present is None:
            maps = [labels] if truth is None else [labels, truth]
            present = {int(k) for values in maps for k in np.unique(values)}
        self._present = sorted(set(present) - {0, IGNORE_LABEL})
        self.fit((MIN_SIDE, MIN_SIDE))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a panel."""
        return self._size

    def fit(self, frame_size: tuple[int, int]) -> None:
        """Give the panels the proportions of ``frame_size`` (height, width).

        The short side is at least ``MIN_SIDE``, at most ``MAX_SINGLE`` and of several panels ``MAX_SIDE``. Text
        grows with the width, because wide videos are shown smaller.
        """
        largest = MAX_SIDE if len(self._titles) > 1 else MAX_SINGLE
        scale = min(max(min(frame_size), MIN_SIDE), largest) / min(frame_size)
        scale = min(scale, MAX_LONG / max(frame_size))
        # yuv420p asks for even sizes
        self._size = tuple(max(2, 2 * round(side * scale / 2)) for side in frame_size)
        self._scale = max(1.0, self._width / SHOWN_WIDTH)
        self._row: int | None = None
        self._layers: list[Layer] = []
        self._caption = ("", True)
        legend = self._draw_legend()
        header = self._even(HEADER) if self._captions else 0
        below = len(legend) if self._captions else 0
        self._page = np.full((header + self._size[0] + below, self._width, 3), 255, np.uint8)
        self._top = header
        if self._captions:
            self._page[header + self._size[0] :] = legend

    def draw(self, image: np.ndarray, row: int, time: float) -> np.ndarray:
        """One moment.

        Args:
            image: uint8 (H, W, 3), the frame.
            row: of the labels, the truth and the map.
            time: seconds from the clip's start.

        Returns:
            uint8 (H', W', 3) of even height and width, the same for all moments; valid until the next call.
        """
        if image.shape[:2] != self._size:
            image = resize_image(image, self._size)
        if row != self._row:
            self._row, self._layers = row, self._draw_layers(row)
        height, width = self._size
        for index, layer in enumerate(self._layers):
            left = index * (width + GAP)
            self._page[self._top : self._top + height, left : left + width] = layer.over(image)
        if self._captions:
            known = self._truth is None or bool((self._truth[row] != IGNORE_LABEL).any())
            caption = (f"{time:.1f} s", known)
            if caption != self._caption:
                self._caption = caption
                self._page[: self._top] = self._header(*caption)
        return self._page

    def _draw_layers(self, row: int) -> list[Layer]:
        if self._scores is None:
            layers = [label_layer(self._labels[row], self._size, self._palette, contour=3)]
        else:
            layers = [heat_layer(self._scores[row], self._size)]
        if self._truth is not None:
            layers.append(label_layer(self._truth[row], self._size, self._palette, contour=3))
        if self._motion_map is not None:
            layers.append(heat_layer(self._motion_map[row], self._size))
        return layers

    def _header(self, time: str, known: bool) -> np.ndarray:
        page = Image.new("RGB", (self._width, self._top), PAPER)
        draw = ImageDraw.Draw(page)
        text_font = font(self._px(TEXT))
        for index, title in enumerate(self._titles):
            left = index * (self._size[1] + GAP)
            text = NO_TRUTH if title == "Ground truth" and not known else title
            draw.text((left + 6, self._top // 2), text, INK, text_font, anchor="lm")
        end = self._size[1] - 6
        draw.text((end, self._top // 2), time, FAINT, text_font, anchor="rm")
        return np.asarray(page)

    @property
    def _width(self) -> int:
        return len(self._titles) * (self._size[1] + GAP) - GAP

    def _px(self, size: float) -> int:
        return round(self._scale * size)

    def _even(self, size: float) -> int:
        return 2 * round(self._scale * size / 2)

    def _draw_legend(self) -> np.ndarray:
        """Names and colours of the classes that occur anywhere in the clip, and the map's scale."""
        px, text_font = self._px, font(self._px(TEXT))
        present = self._present if self._scores is None else []
        entries = [(self._name(k), tuple(self._palette[k].tolist())) for k in present]
        lines: list[list] = [[]]
        width = self._width
        has_scale = self._motion_map is not None or self._scores is not None
        room = self._size[1] * min(len(self._titles), 2) if has_scale and len(self._titles) > 1 else width
        used = 6.0
        for name, color in entries:
            length = px(26) + text_font.getlength(name) + px(14)
            if lines[-1] and used + length > room:
                lines.append([])
                used = 6.0
            lines[-1].append((used, name, color))
            used += length
        height = self._even(LEGEND)
        page = Image.new("RGB", (width, height * len(lines)), PAPER)
        draw = ImageDraw.Draw(page)
        half = px(8)
        for index, line in enumerate(lines):
            y = height * index + height // 2
            for left, name, color in line:
                draw.rectangle((left, y - half, left + 2 * half, y + half), fill=color, outline=FAINT)
                text = shorten(name, text_font, width - left - px(24))
                draw.text((left + px(24), y), text, INK, text_font, anchor="lm")
        if has_scale:
            left, y = width - self._size[1] + 6, height // 2
            bar = heat(np.linspace(0, 1, px(120))[None]).repeat(px(14), 0)
            draw.text((left, y), "0", FAINT, text_font, anchor="lm")
            page.paste(Image.fromarray(bar), (left + px(16), y - px(7)))
            draw.text((left + px(144), y), "1", FAINT, text_font, anchor="lm")
        return np.asarray(page)

    def _name(self, k: int) -> str:
        return self._names[k] if k < len(self._names) else f"class {k}"
