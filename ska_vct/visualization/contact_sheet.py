"""One image per clip, frame by frame: what the model saw and predicted, and the ground truth; a page of clips."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

from ska_vct.structures.clip import IGNORE_LABEL, ClipError
from ska_vct.utils.palette import voc_palette

from .canvas import Row, draw_grid, scale_bar
from .colors import BINARY_PALETTE, OBJECT_NAME, ORANGE, OUTCOMES
from .images import (
    flow_to_image,
    heat,
    letterbox,
    log_mel_image,
    outcome_map,
    overlay_heat,
    overlay_labels,
    overlay_outcomes,
    resize_image,
    strongest_field,
)

SILENCE = float(np.log(0.01))  # log-mel of true silence
PATCH_SECONDS = 0.96  # 96 steps of 10 ms
MIN_SIDE, MAX_SIDE = 160, 224  # short side of a cell, pixels
NO_TRUTH = "no ground truth"
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
) -> np.ndarray:
    """Draw a clip's contact sheet; columns are frames, rows what is known of them.

    Rows without data (no masks, no flow, no extras of the model) are left out; frames that do not exist too.

    Args:
        clip: as ``structures/clip.py`` describes it.
        prediction: ``sem_seg`` float (T, K, h, w), or ``labels`` int (T, h, w) from saved predictions; with the
            model's extras ``motion_map`` (T, h', w') in [0, 1] and ``boundary`` (T, h', w') probability. Each has
            a row per frame, or for the frames that exist only.
        scores: the clip's shares in [0, 1] by name, printed below the title in percent.
        scores_note: what the scores are, e.g. their convention; printed behind them.
        frame_scores: IoUs in [0, 1] of the frames that exist, NaN for none, printed on the predictions.
        class_names: for the legend of AVSS.
        frame_size: height and width of the clip's own frames, whose proportions are restored; those of
            ``images``, which may have been squeezed for the network, when None.
        evidence: also draw what the prediction was made from: flow, motion map, boundary and log-mel.
        max_side: largest short side of a frame, pixels.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ClipError: the prediction has another number of frames.
    """
    kept = clip["frame_valid"].cpu().numpy()
    labels = _rows(prediction_labels(prediction), kept, clip, "prediction")
    frames = _frames(clip, kept, frame_size, max_side)
    truth, annotated = _truth(clip, kept)
    binary = _is_binary(prediction, labels, truth)
    palette = BINARY_PALETTE if binary else voc_palette(256)
    no_truth = ["" if known else NO_TRUTH for known in annotated]

    def overlays(maps: np.ndarray) -> list[np.ndarray]:
        return [overlay_labels(frame, values, palette) for frame, values in zip(frames, maps, strict=True)]

    rows = [Row("Frames", frames, "one per second")]
    if truth is not None:
        rows.append(Row("Ground truth", overlays(truth), notes=no_truth))
    notes = ()
    if frame_scores is not None:
        notes = ["" if np.isnan(score) else f"IoU {100 * score:.0f} %" for score in frame_scores]
    rows.append(Row("Prediction", overlays(labels), "p > 0.5" if binary else "highest score", notes=notes))
    if prediction.get("sem_seg") is not None:
        rows.append(_probability_row(prediction["sem_seg"], kept, clip, frames, binary=binary))
    outcomes = []
    if truth is not None:
        cells = [overlay_outcomes(*triple) for triple in zip(frames, labels, truth, strict=True)]
        rows.append(Row("Errors", cells, "against the\nground truth", notes=no_truth))
        present = np.unique(outcome_map(labels, truth))
        outcomes = [OUTCOMES[k] for k in range(1, len(OUTCOMES)) if k < 4 or k in present]
    if evidence:
        rows += _evidence_rows(clip, prediction, kept, frames)
    return draw_grid(
        rows,
        title=str(clip["clip_id"]),
        subtitle=_describe_scores(scores, scores_note) if truth is not None else NO_TRUTH,
        headings=[f"second {second}" for second in _frame_index(clip)[kept]],
        legend=_legend([labels] if truth is None else [truth, labels], class_names, palette, binary) + outcomes,
    )


def overview_row(
    clip: Mapping,
    prediction: Mapping,
    *,
    scores: Mapping[str, float] | None = None,
    frame_size: tuple[int, int] | None = None,
) -> Row:
    """A clip as one row of ``index_sheet``: up to 5 frames with errors in colour, or with the prediction only."""
    kept = clip["frame_valid"].cpu().numpy()
    labels = _rows(prediction_labels(prediction), kept, clip, "prediction")
    frames = _frames(clip, kept, frame_size)
    truth, annotated = _truth(clip, kept)
    palette = BINARY_PALETTE if _is_binary(prediction, labels, truth) else voc_palette(256)
    shown = np.unique(np.linspace(0, len(frames) - 1, OVERVIEW_FRAMES).round().astype(int))
    cells = [
        overlay_labels(frames[k], labels[k], palette)
        if truth is None
        else overlay_outcomes(frames[k], labels[k], truth[k])
        for k in shown
    ]
    cells = [letterbox(cell, (OVERVIEW_SIDE, OVERVIEW_SIDE)) for cell in cells]
    cells += [np.full_like(cells[0], 255)] * (OVERVIEW_FRAMES - len(cells))
    name = str(clip["clip_id"])
    values = [f"{key} {100 * value:.1f} %" for key, value in (scores or {}).items()] or [NO_TRUTH]
    notes = ["" if truth is None or annotated[k] else NO_TRUTH for k in shown]
    notes += [""] * (OVERVIEW_FRAMES - len(notes))
    return Row("\n".join(name.split("/")), cells, "\n".join(values), notes=notes)


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


def prediction_labels(prediction: Mapping) -> np.ndarray:
    """Class per pixel, int64 (T, h, w): ``labels`` where given, else the argmax of ``sem_seg``.

    For two classes that is p > 0.5 of their softmax, as in the scores.
    """
    if prediction.get("labels") is not None:
        return np.asarray(prediction["labels"], np.int64)
    return prediction["sem_seg"].detach().argmax(1).cpu().numpy()


def _describe_scores(scores: Mapping[str, float] | None, note: str) -> str:
    """A clip's scores in one line, in percent; empty when there are none."""
    if not scores:
        return ""
    text = "   ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items())
    return f"{text}   ({note})" if note else text


def _probability_row(
    sem_seg: torch.Tensor, kept: np.ndarray, clip: Mapping, frames: Sequence[np.ndarray], *, binary: bool
) -> Row:
    """The object's probability, or the score of the class that is shown."""
    scores = sem_seg.detach().float()
    values = scores.softmax(1)[:, 1] if binary else scores[:, 1:].amax(1).clamp(0, 1)
    values = _rows(values.cpu().numpy(), kept, clip, "prediction")
    cells = [overlay_heat(frame, value, opacity=0.8) for frame, value in zip(frames, values, strict=True)]
    title, subtitle = ("Probability", "of the object") if binary else ("Score", "highest of all\nbut background")
    return Row(title, cells, subtitle, key=_heat_scale())


def _evidence_rows(
    clip: Mapping, prediction: Mapping, kept: np.ndarray, frames: Sequence[np.ndarray]
) -> list[Row]:
    """Rows below the prediction: what it was made from."""
    rows = []
    size = frames[0].shape[:2]
    if clip.get("flow") is not None:
        flow = strongest_field(clip["flow"].cpu().numpy()[kept])
        cells = [cv2.resize(cell, size[::-1], interpolation=cv2.INTER_LINEAR) for cell in flow_to_image(flow)]
        rows.append(Row("Flow", cells, "hue: direction,\nwhite: still", key=_wheel()))
    for name, title, subtitle in (("motion_map", "Motion map", "of SKA"), ("boundary", "Boundary", "of BRM")):
        if prediction.get(name) is not None:
            maps = _rows(prediction[name].detach().float().cpu().numpy(), kept, clip, name)
            cells = [overlay_heat(frame, values) for frame, values in zip(frames, maps, strict=True)]
            rows.append(Row(title, cells, subtitle, key=_heat_scale()))
    log_mel = clip["log_mel"].cpu().numpy()[kept, 0]
    high = max(float(log_mel.max()), SILENCE + 1)
    strip = (max(size[0] // 2, 64), size[1])
    rows.append(
        Row(
            "Log-mel",
            [log_mel_image(patch, strip, low=SILENCE, high=high) for patch in log_mel],
            "125-7500 Hz",
            ticks=[
                [(0.0, f"{PATCH_SECONDS * second:.2f} s"), (0.5, f"{PATCH_SECONDS * (second + 0.5):.2f}")]
                for second in _frame_index(clip)[kept]
            ],
        )
    )
    return rows


def _frames(
    clip: Mapping, kept: np.ndarray, frame_size: tuple[int, int] | None, max_side: int = MAX_SIDE
) -> list[np.ndarray]:
    """The frames that exist, in the proportions of ``frame_size``, at the size of a cell."""
    images = clip["images"].cpu().numpy()[kept].transpose(0, 2, 3, 1)
    height, width = frame_size or images.shape[1:3]
    short = min(height, width)
    scale = min(max(min(images.shape[1:3]), MIN_SIDE), max_side) / short
    size = round(height * scale), round(width * scale)
    return [resize_image(np.ascontiguousarray(image), size) for image in images]


def _truth(clip: Mapping, kept: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Ground truth of the frames that exist, 255 where there is none, or None; and which frames have it."""
    annotated = clip["mask_valid"].cpu().numpy()[kept]
    if clip.get("masks") is None or not annotated.any():
        return None, annotated
    masks = clip["masks"].cpu().numpy()[kept]
    return np.where(annotated[:, None, None], masks, IGNORE_LABEL), annotated


def _is_binary(prediction: Mapping, *labels: np.ndarray | None) -> bool:
    """Whether there are two classes; of saved labels that is known by what they and the ground truth hold."""
    if prediction.get("sem_seg") is not None:
        return prediction["sem_seg"].shape[1] == 2
    return all((values < 2).sum() == (values != IGNORE_LABEL).sum() for values in labels if values is not None)


def _rows(values: np.ndarray, kept: np.ndarray, clip: Mapping, name: str) -> np.ndarray:
    """Rows of the frames that exist; ``values`` has one per frame, or these only."""
    if len(values) not in (len(kept), kept.sum()):
        raise ClipError(f"Clip '{clip['clip_id']}' has {len(kept)} frames but its {name} has {len(values)}.")
    return values[kept] if len(values) == len(kept) else values


def _frame_index(clip: Mapping) -> np.ndarray:
    index = clip.get("frame_index")
    return np.arange(len(clip["images"])) if index is None else torch.as_tensor(index).cpu().numpy()


def _heat_scale() -> np.ndarray:
    return scale_bar(heat(np.linspace(0, 1, 96)[None])[0], "0", "1")


def _wheel(radius: int = 22) -> np.ndarray:
    """The colour wheel itself, as a key: a pixel's colour is that of motion from the centre towards it."""
    steps = np.linspace(-1, 1, 2 * radius + 1, dtype=np.float32)
    u, v = np.meshgrid(steps, steps)
    image = flow_to_image(np.stack([u, v]), scale=1.0)
    image[u**2 + v**2 > 1] = 255
    return image


def _legend(maps: Sequence[np.ndarray], names: Sequence[str], palette: np.ndarray, binary: bool) -> list:
    present = sorted(set(np.concatenate([np.unique(m) for m in maps]).tolist()) - {0, IGNORE_LABEL})
    if binary:
        names = ("background", OBJECT_NAME)
    return [(names[k] if k < len(names) else f"class {k}", tuple(palette[k].tolist())) for k in present]
