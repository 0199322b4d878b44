"""One image per clip, frame by frame: what the model saw and predicted, and the ground truth; a page of clips."""

from collections.abc import Mapping, Sequence

import numpy as np

from .canvas import Row, draw_grid
from .clip_rows import (
    MAX_SIDE,
    NO_TRUTH,
    ClipView,
    flow_row,
    frames_row,
    is_binary,
    log_mel_row,
    map_rows,
    palette_of,
    predicted_rows,
    prediction_labels,
    truth_row,
)
from .colors import OBJECT_NAME, ORANGE, OUTCOMES
from .images import letterbox, overlay_labels, overlay_outcomes

OVERVIEW_FRAMES, OVERVIEW_SIDE = 5, 168


def contact_sheet(
    clip: Mapping,
    prediction: Mapping,
    *,
    scores: Mapping[str, float] | None = None,
    scores_note: str = "",
    frame_scores: Sequence[float] | None = None,
    class_names: Sequence[str] = (),
    frame_size: tuple[int, int] | None = None,
    evidence: bool = True,
    max_side: int = MAX_SIDE,
    times: Sequence[float] | None = None,
) -> np.ndarray:
    """Draw a clip's contact sheet; columns are frames, rows what is known of them.

    Rows without data (no masks, no flow, no extras of the model) are left out; frames that do not exist too.

    Args:
        clip: as ``structures/clip.py`` describes it.
        prediction: ``sem_seg`` float (T, K, h, w), or ``labels`` int (T, h, w) from saved predictions, and for
            these ``scores`` float (T, h, w) in [0, 1], of the class that is shown, and the ``threshold`` that
            they exceed in the masks, if known (None: the class with the highest score); with the model's
            extras ``motion_map`` (T, h', w') in [0, 1] and ``boundary`` (T, h', w') probability. Each has
            a row per frame, or for the frames that exist only.
        scores: the clip's shares in [0, 1] by name, printed below the title in percent.
        scores_note: what the scores are, e.g. their convention; printed behind them.
        frame_scores: IoUs in [0, 1] of the frames that exist, NaN for none, printed on the predictions.
        class_names: for the legend of AVSS.
        frame_size: height and width of the clip's own frames, whose proportions are restored; those of
            ``images``, which may have been squeezed for the network, when None.
        evidence: also draw what the prediction was made from: flow, motion map, boundary and log-mel.
        max_side: largest short side of a frame, pixels.
        times: when the frames are shown, seconds, for videos of any length; None: one frame per second.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ClipError: the prediction has another number of frames.
    """
    view = ClipView.of(clip, frame_size=frame_size, max_side=max_side, times=times)
    predicted = predicted_rows(view, prediction, class_names=class_names, frame_scores=frame_scores)
    rows = [frames_row(view), truth_row(view, binary=predicted.binary), *predicted.prediction, predicted.errors]
    if evidence:
        rows += [flow_row(view), *map_rows(view, prediction), log_mel_row(view)]
    return draw_grid(
        [row for row in rows if row is not None],
        title=str(clip["clip_id"]),
        subtitle=describe_scores(scores, scores_note) if view.truth is not None else view.subtitle,
        headings=view.headings,
        legend=predicted.legend,
    )


def overview_row(
    clip: Mapping,
    prediction: Mapping,
    *,
    scores: Mapping[str, float] | None = None,
    frame_size: tuple[int, int] | None = None,
) -> Row:
    """A clip as one row of ``index_sheet``: up to 5 frames with errors in colour, or with the prediction only."""
    view = ClipView.of(clip, frame_size=frame_size)
    cells, shown = overview_cells(view, prediction)
    cells = [letterbox(cell, (OVERVIEW_SIDE, OVERVIEW_SIDE)) for cell in cells]
    cells += [np.full_like(cells[0], 255)] * (OVERVIEW_FRAMES - len(cells))
    name = str(clip["clip_id"])
    values = [f"{key} {100 * value:.1f} %" for key, value in (scores or {}).items()] or [NO_TRUTH]
    notes = ["" if view.truth is None or view.annotated[k] else NO_TRUTH for k in shown]
    notes += [""] * (OVERVIEW_FRAMES - len(notes))
    return Row("\n".join(name.split("/")), cells, "\n".join(values), notes=notes)


def overview_cells(view: ClipView, prediction: Mapping) -> tuple[list[np.ndarray], np.ndarray]:
    """Up to 5 frames with errors in colour, or without ground truth with the prediction; and which frames."""
    labels = view.rows_of(prediction_labels(prediction), "prediction")
    palette = palette_of(is_binary(prediction, labels, view.truth))
    shown = np.unique(np.linspace(0, len(view.frames) - 1, OVERVIEW_FRAMES).round().astype(int))
    cells = [
        overlay_labels(view.frames[k], labels[k], palette)
        if view.truth is None
        else overlay_outcomes(view.frames[k], labels[k], view.truth[k])
        for k in shown
    ]
    return cells, shown


def index_sheet(rows: Sequence[Row], *, title: str, subtitle: str = "", binary: bool = True) -> np.ndarray:
    """One page with a row per clip, uint8 (H, W, 3).

    Args:
        rows: of ``overview_row``.
        title: of the page.
        subtitle: what the scores are.
        binary: masks have one class, so that none can be the wrong one.
    """
    legend = [*OUTCOMES[1:4], (f"{OBJECT_NAME}, {NO_TRUTH}", ORANGE)] if binary else OUTCOMES[1:]
    return draw_grid(rows, title=title, subtitle=subtitle, legend=legend, label_width=220)


def describe_scores(scores: Mapping[str, float] | None, note: str) -> str:
    """A clip's scores in one line, in percent; empty when there are none."""
    if not scores:
        return ""
    text = "   ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items())
    return f"{text}   ({note})" if note else text
