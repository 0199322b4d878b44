"""One picture per clip: everything the model saw, should have found and found, frame by frame."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

from ska_vct.structures.clip import IGNORE_LABEL, ClipError
from ska_vct.utils.palette import voc_palette

from .canvas import Row, draw_grid, scale_bar
from .pictures import (
    flow_to_image,
    heat,
    label_palette,
    log_mel_picture,
    overlay_heat,
    overlay_labels,
    resize_picture,
    strongest_field,
)

SILENCE = float(np.log(0.01))  # log-mel of true silence
PATCH_SECONDS = 0.96  # 96 steps of 10 ms
MIN_SIDE, MAX_SIDE = 160, 224  # short side of a cell, pixels


def contact_sheet(
    clip: Mapping,
    prediction: Mapping,
    *,
    scores: Mapping[str, float] | None = None,
    frame_scores: Sequence[float] | None = None,
    class_names: Sequence[str] = (),
) -> np.ndarray:
    """Draw a clip's contact sheet; columns are frames, rows what is known of them.

    Rows without data (no masks, no flow, no extras of the model) are left out; frames that do not exist too.

    Args:
        clip: as ``structures/clip.py`` describes it.
        prediction: ``sem_seg`` float (T, K, h, w), or ``labels`` int (T, h, w) from saved predictions; with the
            model's extras ``motion_map`` (T, h', w') in [0, 1] and ``boundary`` (T, h', w') probability. Each has
            a row per frame, or for the frames that exist only.
        scores: shares in [0, 1] by name, printed below the title in percent.
        frame_scores: IoUs in [0, 1] of the frames that exist, NaN for none, printed on the predictions.
        class_names: for the legend of AVSS.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ClipError: the prediction has another number of frames.
    """
    rows_kept = clip["frame_valid"].cpu().numpy()
    images = clip["images"].cpu().numpy()[rows_kept].transpose(0, 2, 3, 1)
    labels = _rows(prediction_labels(prediction), rows_kept, clip, "prediction")
    seconds = _frame_index(clip)[rows_kept]
    size = _cell_size(*images.shape[1:3])
    frames = [resize_picture(np.ascontiguousarray(image), size) for image in images]
    binary = clip.get("subset") != "avss" and int(np.where(labels == IGNORE_LABEL, 0, labels).max()) < 2
    palette = label_palette(2) if binary else voc_palette(256)

    rows = [Row("Frames", frames, "one per second")]
    truth = None
    if clip.get("masks") is not None:
        truth = clip["masks"].cpu().numpy()[rows_kept]
        annotated = clip["mask_valid"].cpu().numpy()[rows_kept]
        rows.append(
            Row(
                "Ground truth",
                [overlay_labels(frame, mask, palette) for frame, mask in zip(frames, truth, strict=True)],
                notes=["" if known else "not annotated" for known in annotated],
            )
        )
    notes = ()
    if frame_scores is not None:
        notes = ["" if np.isnan(score) else f"IoU {100 * score:.0f}" for score in frame_scores]
    rows.append(
        Row(
            "Prediction",
            [overlay_labels(frame, mask, palette) for frame, mask in zip(frames, labels, strict=True)],
            notes=notes,
        )
    )
    rows += _evidence_rows(clip, prediction, rows_kept, frames, size)
    subtitle = "     ".join(f"{name} {100 * value:.1f}" for name, value in (scores or {}).items())
    return draw_grid(
        rows,
        title=str(clip["clip_id"]),
        subtitle=subtitle,
        headings=[f"second {second}" for second in seconds],
        legend=[] if binary else _legend([labels] if truth is None else [truth, labels], class_names, palette),
    )


def prediction_labels(prediction: Mapping) -> np.ndarray:
    """Class per pixel, int64 (T, h, w): ``labels`` where given, else the argmax of ``sem_seg``.

    For two classes that is p > 0.5 of their softmax, as the scores have it.
    """
    if prediction.get("labels") is not None:
        return np.asarray(prediction["labels"], np.int64)
    return prediction["sem_seg"].detach().argmax(1).cpu().numpy()


def index_sheet(sheets: Mapping[str, np.ndarray], *, width: int = 560, columns: int = 3) -> np.ndarray:
    """Small copies of many contact sheets on one page, uint8 (H, W, 3).

    Args:
        sheets: clip id -> contact sheet.
        width: of each copy, pixels.
        columns: copies side by side.
    """
    columns = min(columns, len(sheets))
    small = [
        resize_picture(sheet, (round(sheet.shape[0] * width / sheet.shape[1]), width)) for sheet in sheets.values()
    ]
    lines = [small[i : i + columns] for i in range(0, len(small), columns)]
    page = []
    for line in lines:
        height = max(sheet.shape[0] for sheet in line)
        filled = [np.pad(s, ((8, height - s.shape[0] + 8), (8, 8), (0, 0)), constant_values=255) for s in line]
        filled += [np.full_like(filled[0], 255)] * (columns - len(line))
        page.append(np.concatenate(filled, axis=1))
    return np.concatenate(page)


def _evidence_rows(
    clip: Mapping, prediction: Mapping, kept: np.ndarray, frames: Sequence[np.ndarray], size: tuple[int, int]
) -> list[Row]:
    """Rows below the prediction: what it was made from."""
    rows = []
    inferno = heat(np.linspace(0, 1, 84)[None])[0]
    if clip.get("flow") is not None:
        flow = strongest_field(clip["flow"].cpu().numpy()[kept])
        cells = [cv2.resize(cell, size[::-1], interpolation=cv2.INTER_LINEAR) for cell in flow_to_image(flow)]
        rows.append(Row("Flow", cells, "as fed to SKA;\nhue: direction,\nwhite: still", key=_wheel()))
    for name, title, subtitle in (
        ("motion_map", "Sound-activated\nmotion", "SKA"),
        ("boundary", "Boundary", "BRM"),
    ):
        if prediction.get(name) is not None:
            maps = _rows(prediction[name].detach().float().cpu().numpy(), kept, clip, name)
            cells = [overlay_heat(frame, values) for frame, values in zip(frames, maps, strict=True)]
            rows.append(Row(title, cells, subtitle, key=scale_bar(inferno, "0", "1")))
    log_mel = clip["log_mel"].cpu().numpy()[kept, 0]
    high = max(float(log_mel.max()), SILENCE + 1)
    strip = (max(size[0] // 2, 64), size[1])
    rows.append(
        Row(
            "Log-mel",
            [log_mel_picture(patch, strip, low=SILENCE, high=high) for patch in log_mel],
            "125-7500 Hz",
            ticks=[
                [(0.0, f"{PATCH_SECONDS * second:.2f} s"), (0.5, f"{PATCH_SECONDS * (second + 0.5):.2f}")]
                for second in _frame_index(clip)[kept]
            ],
        )
    )
    return rows


def _rows(values: np.ndarray, kept: np.ndarray, clip: Mapping, name: str) -> np.ndarray:
    """Rows of the frames that exist; ``values`` has one per frame, or these only."""
    if len(values) not in (len(kept), kept.sum()):
        raise ClipError(f"Clip '{clip['clip_id']}' has {len(kept)} frames but its {name} has {len(values)}.")
    return values[kept] if len(values) == len(kept) else values


def _frame_index(clip: Mapping) -> np.ndarray:
    index = clip.get("frame_index")
    return np.arange(len(clip["images"])) if index is None else torch.as_tensor(index).cpu().numpy()


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """Size of a cell: the picture's shape, with the short side between ``MIN_SIDE`` and ``MAX_SIDE``."""
    short = min(height, width)
    scale = min(max(short, MIN_SIDE), MAX_SIDE) / short
    return round(height * scale), round(width * scale)


def _wheel(radius: int = 22) -> np.ndarray:
    """The colour wheel itself, as a key: colour at a place is that of motion from the centre to there."""
    steps = np.linspace(-1, 1, 2 * radius + 1, dtype=np.float32)
    u, v = np.meshgrid(steps, steps)
    picture = flow_to_image(np.stack([u, v]), scale=1.0)
    picture[u**2 + v**2 > 1] = 255
    return picture


def _legend(maps: Sequence[np.ndarray], names: Sequence[str], palette: np.ndarray) -> list:
    present = sorted(set(np.concatenate([np.unique(m) for m in maps]).tolist()) - {0, IGNORE_LABEL})
    return [(names[k] if k < len(names) else f"class {k}", tuple(palette[k].tolist())) for k in present]
