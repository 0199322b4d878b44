"""A clip as one HTML file that needs no server and no other file: images and audio are inside.

Clip ids and class names come from other people's datasets; the templates escape them.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from .canvas import Row
from .clip_rows import (
    ClipView,
    Legend,
    attention_rows,
    flow_row,
    frames_row,
    log_mel_row,
    map_rows,
    predicted_rows,
    query_rows,
    truth_row,
)

# Width of a cell on the page, pixels; an enlarged image is shown as large as the window allows.
CELL_WIDTH = 168
_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a model made of a clip.

    Attributes:
        title: what tells the model apart, e.g. the name of its checkpoint.
        prediction: as for ``contact_sheet``; also drawn are ``attention``, ``activation`` and ``queries`` of
            :func:`ska_vct.modeling.inspection.inspect`.
        scores: a line about the clip's scores.
        frame_scores: IoUs in [0, 1] of the frames that exist, NaN for none.
    """

    title: str
    prediction: Mapping
    scores: str = ""
    frame_scores: Sequence[float] | None = None


def clip_page(
    clip: Mapping,
    models: Sequence[Shown],
    *,
    subtitle: str = "",
    audio: bytes | None = None,
    class_names: Sequence[str] = (),
    frame_size: tuple[int, int] | None = None,
) -> str:
    """HTML of a clip's page: the input above, the models side by side below it.

    Args:
        clip: as ``structures/clip.py`` describes it.
        models: one, or several to compare.
        subtitle: below the clip's name.
        audio: an MP4 file, see :func:`ska_vct.visualization.audio.encode_audio`; None for a page without audio.
        class_names: for the legend of AVSS.
        frame_size: height and width of the clip's own frames, whose proportions are restored.

    Raises:
        ClipError: a prediction has another number of frames.
    """
    view = ClipView.of(clip, frame_size=frame_size)
    predicted = [
        predicted_rows(view, model.prediction, class_names=class_names, frame_scores=model.frame_scores)
        for model in models
    ]
    truth = truth_row(view, binary=predicted[0].binary)
    inputs = [frames_row(view), truth, log_mel_row(view), flow_row(view)]
    columns = []
    for model, rows in zip(models, predicted, strict=True):
        maps = [*map_rows(view, model.prediction), *attention_rows(view, model.prediction)]
        found = [*rows.prediction, rows.errors, *maps, *query_rows(view, model.prediction)]
        columns.append({row.title: row for row in found if row is not None})
    # Rows of the same name stand beside each other; names keep the order of the models.
    titles = list(dict.fromkeys(title for column in columns for title in column))
    legend: Legend = list(dict.fromkeys(entry for rows in predicted for entry in rows.legend))
    return template("clip.html").render(
        title=str(clip["clip_id"]),
        subtitle=subtitle,
        audio=None if audio is None else _data_uri(audio, "audio/mp4"),
        headings=view.headings,
        seconds=view.seconds.tolist(),
        legend=legend,
        has_truth=truth is not None,
        inputs=[_row(row) for row in inputs if row is not None],
        models=[
            {"title": model.title, "scores": model.scores, "rows": [_row(column.get(title)) for title in titles]}
            for model, column in zip(models, columns, strict=True)
        ],
        width=CELL_WIDTH,
    )


def template(name: str) -> jinja2.Template:
    """A template of this package; what is put into it is escaped."""
    return _environment().get_template(name)


def encode_image(image: np.ndarray, *, lossless: bool = False) -> bytes:
    """An image, uint8 (H, W, 3), as WebP."""
    file = BytesIO()
    Image.fromarray(image).save(file, format="WEBP", quality=_QUALITY, lossless=lossless)
    return file.getvalue()


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def _row(row: Row | None) -> dict | None:
    if row is None:
        return None
    notes = list(row.notes) or [""] * len(row.cells)
    if row.ticks:
        notes = [ticks[0][1] for ticks in row.ticks]
    cells = zip(row.cells, notes, strict=True)
    return {
        "title": row.title.split("\n"),
        "subtitle": row.subtitle.split("\n") if row.subtitle else [],
        "key": None if row.key is None else _data_uri(encode_image(row.key, lossless=True), "image/webp"),
        "cells": [{"image": _data_uri(encode_image(cell), "image/webp"), "note": note} for cell, note in cells],
    }


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
