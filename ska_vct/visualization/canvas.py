"""A light page on which pictures are laid out in a grid with readable text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER = (255, 255, 255)
INK = (32, 32, 36)
FAINT = (110, 110, 118)
MARGIN = 16
GAP = 6


@dataclass
class Row:
    """One row of a grid.

    Attributes:
        title: in the left column.
        cells: uint8 (H, W, 3), all of one size; the width is the same in all rows.
        subtitle: smaller, below the title; a line break starts a new line.
        notes: one per cell, printed into its upper left corner; empty strings for none.
        key: a small picture below the row's title: colour wheel or scale.
        ticks: per cell, (share of the width, text) below the row.
    """

    title: str
    cells: Sequence[np.ndarray]
    subtitle: str = ""
    notes: Sequence[str] = ()
    key: np.ndarray | None = None
    ticks: Sequence[Sequence[tuple[float, str]]] = ()


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that pictures look the same everywhere."""
    return ImageFont.load_default(size)


def draw_grid(
    rows: Sequence[Row],
    *,
    title: str,
    subtitle: str = "",
    headings: Sequence[str] = (),
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
) -> np.ndarray:
    """Lay rows of pictures out below a title.

    Args:
        rows: at least one; all have the same number of cells.
        title: large, first line; shortened in the middle where it does not fit.
        subtitle: below it.
        headings: one per column.
        legend: names with their colours, below the grid.

    Returns:
        uint8 (H, W, 3).
    """
    columns = len(rows[0].cells)
    width = rows[0].cells[0].shape[1]
    label_width = 132
    left = MARGIN + label_width
    page_width = left + columns * (width + GAP) - GAP + MARGIN
    top = MARGIN + 28 + (20 if subtitle else 0) + (24 if headings else 6)
    heights = [row.cells[0].shape[0] + GAP + (18 if row.ticks else 0) for row in rows]
    legend_lines = _wrap_legend(legend, page_width - left - MARGIN)
    page = Image.new("RGB", (page_width, top + sum(heights) + 22 * len(legend_lines) + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), shorten(title, font(20), page_width - 2 * MARGIN), INK, font(20))
    if subtitle:
        draw.text((MARGIN, MARGIN + 26), shorten(subtitle, font(14), page_width - 2 * MARGIN), FAINT, font(14))
    for column, text in enumerate(headings):
        x = left + column * (width + GAP) + width // 2
        draw.text((x, top - 6), text, FAINT, font(13), anchor="ms")
    y = top
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(page, draw, row, MARGIN, left, y)
        y += row_height
    for line in legend_lines:
        x = left
        for name, color in line:
            draw.rectangle((x, y + 6, x + 12, y + 18), fill=color)
            draw.text((x + 18, y + 12), name, INK, font(13), anchor="lm")
            x += _legend_width(name)
        y += 22
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


def scale_bar(colors: np.ndarray, low: str, high: str) -> np.ndarray:
    """A colour scale with its ends' names; ``colors`` is uint8 (n, 3), low to high."""
    bar = Image.fromarray(np.repeat(colors[None], 10, 0)).resize((84, 10))
    page = Image.new("RGB", (84, 26), PAPER)
    page.paste(bar, (0, 0))
    draw = ImageDraw.Draw(page)
    draw.text((0, 13), low, FAINT, font(11))
    draw.text((84, 13), high, FAINT, font(11), anchor="ra")
    return np.asarray(page)


def _narrow(text: str) -> str:
    """Take a letter off each side of the gap."""
    start, end = text.split("...", 1)
    return start[:-1] + "..." + end[1:]


def _draw_row(page: Image.Image, draw: ImageDraw.ImageDraw, row: Row, x: int, left: int, y: int) -> None:
    height, width = row.cells[0].shape[:2]
    draw.text((x, y + 4), row.title, INK, font(16))
    offset = 26 + 19 * row.title.count("\n")
    if row.subtitle:
        draw.multiline_text((x, y + offset), row.subtitle, FAINT, font(12), spacing=3)
        offset += 17 * (row.subtitle.count("\n") + 1) + 2
    if row.key is not None:
        page.paste(Image.fromarray(row.key), (x, y + offset + 4))
    for column, cell in enumerate(row.cells):
        corner = left + column * (width + GAP)
        page.paste(Image.fromarray(cell), (corner, y))
        draw.rectangle((corner, y, corner + width - 1, y + height - 1), outline=(205, 205, 210))
        if row.notes and row.notes[column]:
            box = draw.textbbox((corner + 8, y + 6), row.notes[column], font(13))
            draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill=PAPER)
            draw.text((corner + 8, y + 6), row.notes[column], INK, font(13))
        for share, text in row.ticks[column] if row.ticks else ():
            tick = corner + share * (width - 1)
            draw.line((tick, y + height, tick, y + height + 3), fill=FAINT)
            draw.text((tick, y + height + 4), text, FAINT, font(11), anchor="la" if share == 0 else "ma")


def _legend_width(name: str) -> float:
    return 18 + font(13).getlength(name) + 16


def _wrap_legend(legend: Sequence[tuple[str, tuple[int, int, int]]], width: float) -> list[list]:
    lines, used = [], width + 1
    for name, color in legend:
        if used + _legend_width(name) > width:
            lines.append([])
            used = 0
        lines[-1].append((name, color))
        used += _legend_width(name)
    return lines
