"""Files of a segmented video: masks, run lengths, a table, a contact sheet and an overlay video."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ska_vct.data.stream.sources import ArraySource, Silence, Source, VideoSource
from ska_vct.evaluation.coco_files import encode_frames, write_coco
from ska_vct.evaluation.prediction_files import save_prediction
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_write
from ska_vct.visualization import contact_sheet, label_palette
from ska_vct.visualization.colors import OBJECT_NAME
from ska_vct.visualization.images import resize_labels
from ska_vct.visualization.panels import MAX_SINGLE, Panels
from ska_vct.visualization.video import write_stream_video

from .parts import PartStore, Rows
from .result import Segmentation

KINDS = ("masks", "overlay", "json", "sheet")
OVERLAY, SHEET, TABLE, REGIONS = "overlay.mp4", "sheet.jpg", "scores.csv", "masks.json"
# Columns of a contact sheet; longer videos are shown at even steps.
_COLUMNS = 10
_COLUMN_NAMES = ("begin", "end", "frame_time", "audio_dbfs", "motion", "class", "score", "area")
# Arrays of the rows that a contact sheet may show.
_SHEET = ("previews", "log_mel", "flow", "boundary")
# An area that rounds to zero percent is no mask to speak of.
_SEEN = 0.0005


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written besides the table and the page.

    Attributes:
        save: of ``KINDS``.
        heat: draw scores instead of masks in the overlay.
    """

    save: tuple[str, ...] = KINDS
    heat: bool = False

    def __post_init__(self):
        unknown = [kind for kind in self.save if kind not in KINDS]
        if unknown:
            raise InputError(f"'{unknown[0]}' cannot be saved; choose of {', '.join(KINDS)}.")


def store_part(store: PartStore, part: Segmentation, folder: Path, options: OutputOptions) -> None:
    """Write a clip's masks, and keep what the other files need of it."""
    binary = len(part.class_names) == 2
    frames = range(part.first, part.first + len(part.times))
    if "masks" in options.save:
        save_prediction(folder.parent, folder.name, part.labels, frames, binary=binary)
    arrays = {"times": part.times, "class_scores": part.class_scores, "class_areas": part.class_areas,
              "audio_level": part.audio_level}  # fmt: skip
    if part.motion_map is not None:
        arrays["motion_map"] = part.motion_map.astype(np.float16)
    scale = min(1.0, MAX_SINGLE / min(part.size))
    size = round(part.size[0] * scale), round(part.size[1] * scale)
    arrays["labels"] = np.stack([resize_labels(frame, size) for frame in part.labels]).astype(np.uint8)
    if options.heat or "sheet" in options.save:
        arrays["scores"] = (255 * part.scores.astype(np.float32)).round().astype(np.uint8)
    if "sheet" in options.save:
        arrays |= _sheet_arrays(part)
    values: dict[str, Any] = {"size": list(part.size)}
    if "json" in options.save:
        values["regions"] = encode_frames(folder.name, part.labels, frames, binary=binary)
    store.save(arrays, values)


def write_outputs(
    store: PartStore,
    source: Source,
    folder: Path,
    options: OutputOptions,
    *,
    name: str,
    fps: float,
    class_names: Sequence[str],
    length: int,
    threshold: float | None,
    progress: Callable[[float], object],
) -> dict[str, Any]:
    """Write all files of a video but its masks, from what is stored of its clips.

    Args:
        store: of all clips.
        source: the video, read again for the overlay.
        folder: for the files.
        options: which.
        name: in titles.
        fps, class_names, length: frames per second, names of the classes, frames of a clip.
        threshold: of the score, which the masks exceed; None where they are the class with the highest score.
        progress: called with the seconds drawn.

    Returns:
        plain values: ``frames``, ``size``, ``files`` (kind to name) and ``classes`` (name to the share of the
        frames that show it).
    """
    table = _Table(class_names)
    size, count = [0, 0], 0
    for arrays, values in store:
        table.add(arrays, first=count, fps=fps)
        size, count = values["size"], count + len(arrays["times"])
    files = {"table": TABLE}
    table.write(folder / TABLE)
    if "masks" in options.save:
        files["masks"] = "."
    if "json" in options.save:
        write_coco(folder / REGIONS, _regions(store), class_names)
        files["json"] = REGIONS
    if "sheet" in options.save:
        with atomic_write(folder / SHEET) as file:
            image = _sheet(
                store, name=name, count=count, class_names=class_names, frame_size=tuple(size), threshold=threshold
            )
            Image.fromarray(image).save(file, format="JPEG", quality=88)
        files["sheet"] = SHEET
    if "overlay" in options.save:
        _overlay(
            store, source, folder / OVERLAY, options, fps, count, class_names, table.present, length, progress
        )
        files["overlay"] = OVERLAY
    return {"frames": count, "size": size, "files": files, "classes": table.shares(count)}


def _regions(store: PartStore) -> Iterator[dict]:
    """Frames of ``encode_frames``; JSON has made text of the classes' numbers."""
    for _, values in store:
        for frame in values["regions"]:
            yield frame | {"regions": {int(label): region for label, region in frame["regions"].items()}}


class _Table:
    """The rows of ``scores.csv``: per frame one for each class with a mask, or one for none."""

    def __init__(self, class_names: Sequence[str]):
        self._names = list(class_names) if len(class_names) > 2 else ["background", OBJECT_NAME]
        self._rows: list[list] = []
        self._frames = np.zeros(len(class_names), int)

    @property
    def present(self) -> list[int]:
        """Classes with a mask anywhere."""
        return [int(k) for k in np.flatnonzero(self._frames) if k]

    def shares(self, count: int) -> dict[str, float]:
        """Name of each class that is present to the share of frames that show it, the most frequent first."""
        order = sorted(self.present, key=lambda k: -self._frames[k])
        return {self._names[k]: round(float(self._frames[k] / count), 4) for k in order}

    def add(self, arrays: dict[str, np.ndarray], *, first: int, fps: float) -> None:
        binary = len(self._names) == 2
        for row, time in enumerate(arrays["times"]):
            scores, areas = arrays["class_scores"][row], arrays["class_areas"][row]
            self._frames += areas > 0
            motion = float(arrays["motion_map"][row].max()) if "motion_map" in arrays else ""
            begin = [
                f"{(first + row) / fps:.3f}", f"{(first + row + 1) / fps:.3f}", f"{time:.4f}",
                f"{arrays['audio_level'][row]:.1f}", f"{motion:.4f}" if motion != "" else "",
            ]  # fmt: skip
            shown = [1] if binary else [int(k) for k in np.argsort(-areas, kind="stable") if k and areas[k] > 0]
            for k in shown or [0]:
                self._rows.append([*begin, self._names[k], f"{scores[k]:.4f}", f"{areas[k]:.5f}"])

    def write(self, path: Path) -> None:
        with atomic_write(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMN_NAMES)
            writer.writerows(self._rows)


def _stride(count: int) -> int:
    """Power of two at which rows are shown on a sheet of at most ``_COLUMNS`` of ``count`` rows."""
    stride = 1
    while count > stride * _COLUMNS:
        stride *= 2
    return stride


def _sheet_arrays(part: Segmentation) -> dict[str, np.ndarray]:
    """What a sheet needs of the rows that it may show, whatever follows."""
    rows = [k for k in range(len(part.times)) if (part.first + k) % _stride(part.first + k + 1) == 0]
    values = {
        "previews": part.previews,
        "log_mel": part.clip["log_mel"].numpy(),  # type: ignore[index]
        "flow": part.clip["flow"].numpy() if "flow" in part.clip else None,  # type: ignore[index,operator]
        "boundary": part.boundary,
    }
    kept = {f"sheet_{key}": value[rows] for key, value in values.items() if value is not None}
    return kept | {"sheet_rows": np.array([part.first + k for k in rows], np.int64)}


def _sheet(
    store: PartStore,
    *,
    name: str,
    count: int,
    class_names: Sequence[str],
    frame_size: tuple[int, int],
    threshold: float | None,
) -> np.ndarray:
    stride, first = _stride(count), 0
    found: dict[str, list] = {}
    for arrays, _ in store:
        for index, row in enumerate(arrays["sheet_rows"]):
            if row % stride == 0:
                for key in (*(f"sheet_{key}" for key in _SHEET), "times", "labels", "scores", "motion_map"):
                    if key in arrays:
                        at = index if key.startswith("sheet_") else int(row) - first
                        found.setdefault(key.removeprefix("sheet_"), []).append(arrays[key][at])
        first += len(arrays["times"])
    stacked = {key: np.stack(values) for key, values in found.items()}
    total = len(stacked["times"])
    clip = {
        "images": torch.from_numpy(np.ascontiguousarray(stacked["previews"].transpose(0, 3, 1, 2))),
        "log_mel": torch.from_numpy(stacked["log_mel"]),
        "frame_valid": torch.ones(total, dtype=torch.bool),
        "mask_valid": torch.zeros(total, dtype=torch.bool),
        "frame_index": torch.arange(total),
        "clip_id": name,
    }
    if "flow" in stacked:
        clip["flow"] = torch.from_numpy(stacked["flow"])
    prediction = {
        "labels": stacked["labels"],
        "scores": stacked["scores"].astype(np.float32) / 255,
        "threshold": threshold,
    }
    prediction |= {
        key: torch.from_numpy(stacked[key].astype(np.float32))
        for key in ("motion_map", "boundary")
        if key in stacked
    }
    return contact_sheet(
        clip, prediction, class_names=class_names, frame_size=frame_size, times=stacked["times"].tolist()
    )


def _overlay(
    store: PartStore,
    source: Source,
    path: Path,
    options: OutputOptions,
    fps: float,
    count: int,
    class_names: Sequence[str],
    present: Sequence[int],
    length: int,
    progress: Callable[[float], object],
) -> None:
    def rows(name: str) -> Rows:
        return Rows(store, name, length=length, count=count)

    has_map = "motion_map" in store.arrays(0)
    panels = Panels(
        rows("labels"),  # type: ignore[arg-type]
        None,
        rows("motion_map") if has_map else None,  # type: ignore[arg-type]
        scores=_Shares(rows("scores")) if options.heat else None,  # type: ignore[arg-type]
        palette=label_palette(len(class_names)),
        class_names=class_names,
        captions=True,
        present=present,
    )
    with closing(source.audio()) as audio:
        silent = isinstance(audio, Silence)
        write_stream_video(
            path,
            panels,
            fps=fps,
            count=count,
            video=source.path if isinstance(source, VideoSource) else None,
            frames=source.images if isinstance(source, ArraySource) else None,
            audio=None if silent else _blocks(audio, count / fps),
            sample_rate=audio.rate,
            progress=progress,
        )


class _Shares:
    """Rows of scores from 0 to 255, as shares."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._rows[row].astype(np.float32) / 255


def _blocks(audio: Any, duration: float) -> Iterator[np.ndarray]:
    """Seconds of audio, float32 (channels, n), one or two channels, padded with silence to the duration."""
    start = 0.0
    while start < duration:
        seconds = min(1.0, duration - start)
        wanted = round(seconds * audio.rate)
        samples = np.asarray(audio.window(start, seconds))
        if samples.dtype.kind == "i":
            samples = samples / -float(np.iinfo(samples.dtype).min)
        samples = samples.reshape(len(samples), -1)
        if samples.shape[1] > 2:
            samples = samples.mean(1, keepdims=True)
        block = np.zeros((samples.shape[1], wanted), np.float32)
        block[:, : len(samples)] = np.clip(np.nan_to_num(samples[:wanted].T), -1, 1)
        yield block
        start += seconds
