"""A light page on which images are laid out in a grid with readable text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER = (255, 255, 255)
INK = (32, 32, 36)
FAINT = (90, 90, 98)
MARGIN = 16
GAP = 6
LABEL_WIDTH = 150
# Pages are shown about this wide; text of wider ones grows with them: shown, the smallest has 12 pixels.
SHOWN_WIDTH = 1000


@dataclass
class Row:
    """One row of a grid.

    Attributes:
        title: in the left column.
        cells: uint8 (H, W, 3), all of one size; the width is the same in all rows.
        subtitle: smaller, below the title; a line break starts a new line.
        notes: one per cell, printed into its upper left corner; empty strings for none.
        key: a small image below the row's title: colour wheel or scale.
        ticks: per cell, (share of the width, text) below the row.
    """

    title: str
    cells: Sequence[np.ndarray]
    subtitle: str = ""
    notes: Sequence[str] = ()
    key: np.ndarray | None = None
    ticks: Sequence[Sequence[tuple[float, str]]] = ()


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels of a page whose text is ``scale`` times as large as on a page of ``SHOWN_WIDTH``."""

    scale: float
    label_width: int

    def px(self, size: float) -> int:
        return round(self.scale * size)

    def font(self, size: float) -> ImageFont.FreeTypeFont:
        return font(self.px(size))

    def row_height(self, row: Row) -> int:
        return max(row.cells[0].shape[0], self._text_height(row)) + GAP + (self.px(20) if row.ticks else 0)

    def subtitle_top(self, row: Row) -> int:
        return self.px(26 + 20 * row.title.count("\n"))

    def key_top(self, row: Row) -> int:
        lines = row.subtitle.count("\n") + 1 if row.subtitle else 0
        return self.subtitle_top(row) + self.px(18 * lines + (6 if lines else 4))

    def _text_height(self, row: Row) -> int:
        return self.key_top(row) + (0 if row.key is None else self.px(row.key.shape[0]) + 4)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that images look the same everywhere."""
    return ImageFont.load_default(size)


def draw_grid(
    rows: Sequence[Row],
    *,
    title: str,
    subtitle: str = "",
    headings: Sequence[str] = (),
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
    label_width: int = LABEL_WIDTH,
) -> np.ndarray:
    """Lay rows of images out below a title.

    Args:
        rows: at least one; all have the same number of cells.
        title: large, first line; shortened in the middle where it does not fit.
        subtitle: below it; takes as many lines as it needs.
        headings: one per column.
        legend: names with their colours, below the grid.
        label_width: of the left column, before the page's scale.

    Returns:
        uint8 (H, W, 3).
    """
    columns = len(rows[0].cells)
    width = rows[0].cells[0].shape[1]
    grid_width = columns * (width + GAP) - GAP
    # The labels grow with the page, and the page with the labels.
    scale = max(1.0, (grid_width + 2 * MARGIN) / (SHOWN_WIDTH - label_width))
    layout = _Layout(scale=scale, label_width=round(scale * label_width))
    left = MARGIN + layout.label_width
    page_width = left + grid_width + MARGIN
    px = layout.px
    subtitle_lines = wrap(subtitle, layout.font(15), page_width - 2 * MARGIN)
    top = MARGIN + px(28) + px(22) * len(subtitle_lines) + (px(24) if headings else 6)
    heights = [layout.row_height(row) for row in rows]
    legend_lines = _wrap_legend(legend, page_width - left - MARGIN, layout)
    page = Image.new("RGB", (page_width, top + sum(heights) + px(24) * len(legend_lines) + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), shorten(title, layout.font(20), page_width - 2 * MARGIN), INK, layout.font(20))
    for index, line in enumerate(subtitle_lines):
        draw.text((MARGIN, MARGIN + px(27 + 22 * index)), line, FAINT, layout.font(15))
    for column, text in enumerate(headings):
        x = left + column * (width + GAP) + width // 2
        draw.text((x, top - 6), shorten(text, layout.font(14), width), FAINT, layout.font(14), anchor="ms")
    y = top
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(page, draw, row, left, y, layout)
        y += row_height
    for line in legend_lines:
        x = left
        for name, color in line:
            draw.rectangle((x, y + px(6), x + px(13), y + px(19)), fill=color, outline=FAINT)
            draw.text((x + px(20), y + px(12)), name, INK, layout.font(14), anchor="lm")
            x += _legend_width(name, layout)
        y += px(24)
    return np.asarray(page)


def shorten(text: str, with_font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut the middle out of ``text`` until it is at most ``width`` pixels wide."""
    if with_font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 2 and with_font.getlength(text) > width:
        kept -= 1
        text = text[: kept // 2] + "..." + text[-(kept // 2) :] if "..." not in text else _narrow(text)
    return text


def wrap(text: str, with_font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break ``text`` at blanks into lines of at most ``width`` pixels; longer words are shortened."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and with_font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        elif word:
            lines.append(shorten(word, with_font, width))
    return lines


def scale_bar(colors: np.ndarray, low: str, high: str) -> np.ndarray:
    """A colour scale with the values at its ends; ``colors`` is uint8 (n, 3), low to high."""
    bar = Image.fromarray(np.repeat(colors[None], 10, 0)).resize((96, 11))
    page = Image.new("RGB", (96, 30), PAPER)
    page.paste(bar, (0, 0))
    draw = ImageDraw.Draw(page)
    draw.text((0, 13), low, FAINT, font(13))
    draw.text((96, 13), high, FAINT, font(13), anchor="ra")
    return np.asarray(page)


def _narrow(text: str) -> str:
    """Take a letter off each side of the gap."""
    start, end = text.split("...", 1)
    return start[:-1] + "..." + end[1:]


def _draw_row(page: Image.Image, draw: ImageDraw.ImageDraw, row: Row, left: int, y: int, layout: _Layout) -> None:
    height, width = row.cells[0].shape[:2]
    px = layout.px
    room = layout.label_width - px(8)
    title = "\n".join(shorten(line, layout.font(16), room) for line in row.title.split("\n"))
    draw.multiline_text((MARGIN, y + px(4)), title, INK, layout.font(16), spacing=px(4))
    if row.subtitle:
        lines = "\n".join(shorten(line, layout.font(13), room) for line in row.subtitle.split("\n"))
        place = (MARGIN, y + layout.subtitle_top(row))
        draw.multiline_text(place, lines, FAINT, layout.font(13), spacing=px(4))
    if row.key is not None:
        key = Image.fromarray(row.key)
        page.paste(key.resize((px(key.width), px(key.height))), (MARGIN, y + layout.key_top(row)))
    for column, cell in enumerate(row.cells):
        corner = left + column * (width + GAP)
        page.paste(Image.fromarray(cell), (corner, y))
        draw.rectangle((corner, y, corner + width - 1, y + height - 1), outline=(205, 205, 210))
        if row.notes and row.notes[column]:
            place = (corner + 8, y + 6)
            box = draw.textbbox(place, row.notes[column], layout.font(14))
            draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill=PAPER)
            draw.text(place, row.notes[column], INK, layout.font(14))
        free = 0.0
        for share, text in row.ticks[column] if row.ticks else ():
            tick, anchor = corner + share * (width - 1), "la" if share == 0 else "ma"
            draw.line((tick, y + height, tick, y + height + 3), fill=FAINT)
            box = draw.textbbox((tick, y + height + 4), text, layout.font(12), anchor=anchor)
            # a text that would touch the one before it is left out
            if box[0] >= free and box[2] < corner + width + GAP:
                draw.text((tick, y + height + 4), text, FAINT, layout.font(12), anchor=anchor)
                free = box[2] + px(6)


def _legend_width(name: str, layout: _Layout) -> int:
    return layout.px(20 + 18) + round(layout.font(14).getlength(name))


def _wrap_legend(legend: Sequence[tuple[str, tuple[int, int, int]]], width: float, layout: _Layout) -> list[list]:
    lines, used = [], width + 1
    for name, color in legend:
        if used + _legend_width(name, layout) > width:
            lines.append([])
            used = 0
        lines[-1].append((name, color))
        used += _legend_width(name, layout)
    return lines
