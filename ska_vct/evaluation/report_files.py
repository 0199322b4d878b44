"""Writes a dataset's scores as JSON, Markdown and CSV (docs/scores.md).

Files, below the evaluator's folder; all scores are in percent:

========================  ====================================================================================
``results.json``          ``sem_seg`` and ``classes`` in the chosen ``convention``, ``conventions`` with all of
                          them, and ``m_f_threshold``, the threshold of M_F in each convention
``results.md``            the same as tables, with an explanation of each convention
``per_clip.csv``          per clip: scores in convention ``combo``, also frame by frame, and the counts from
                          which the other conventions are computed: ``intersection`` and ``union`` of the object,
                          ``predicted_pixels`` (p > 0.5), ``labelled_pixels``, ``pixels``, ``tpavi_batch``;
                          AVSS: ``frames`` and ``blank_frames``
``precision_recall.csv``  binary masks: precision and recall at each threshold, means over frames, then over clips
``per_clip_class.csv``    AVSS: per clip and class that occurs in it: ``frames``, sums of IoU and F over them
                          (not in percent), and pixels
``confusion.csv``         AVSS: pixels by labelled class (rows) and predicted class (columns)
========================  ====================================================================================
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ska_vct.utils.files import atomic_write, write_json

from .conventions import TPAVI_BATCH, class_sums, clip_scores
from .metrics import SemanticStats, best_frame_fs, frame_ious, labelled_frame_scores, thresholds
from .report import ScoreReport, Stats
from .report_tables import to_markdown


def write_report(report: ScoreReport, clips: Mapping[str, Stats], folder: Path) -> None:
    """Write the files listed in the module docstring, each atomically."""
    summary = {
        "dataset": report.dataset,
        "convention": report.convention,
        "unit": "percent",
        "num_clips": report.num_clips,
        "sem_seg": report.scores,
        "conventions": report.conventions,
        "m_f_threshold": report.m_f_threshold,
        "classes": report.classes,
    }
    write_json(folder / "results.json", summary)
    with atomic_write(folder / "results.md", "w") as file:
        file.write(to_markdown(report))
    _write_table(folder / "per_clip.csv", [_clip_row(i, *item) for i, item in enumerate(clips.items())])
    if report.precision_recall is not None:
        _write_table(folder / "precision_recall.csv", _curve_rows(*report.precision_recall))
    if report.confusion is not None:
        names = [row["class"] for row in report.classes]
        _write_table(
            folder / "per_clip_class.csv",
            [
                row
                for name, stats in clips.items()
                if isinstance(stats, SemanticStats)
                for row in _class_rows(name, stats, names)
            ],
        )
        counts = zip(names, report.confusion.tolist(), strict=True)
        matrix = [{"labelled": name} | dict(zip(names, row, strict=True)) for name, row in counts]
        _write_table(folder / "confusion.csv", matrix)


def _curve_rows(precision: Tensor, recall: Tensor) -> list[dict]:
    columns = (thresholds().tolist(), precision.tolist(), recall.tolist())
    return [
        {"threshold": f"{t:.6f}", "precision": f"{p:.6f}", "recall": f"{r:.6f}"}
        for t, p, r in zip(*columns, strict=True)
    ]


def _clip_row(index: int, name: str, stats: Stats) -> dict:
    row: dict[str, str | int] = {"clip_id": name, "convention": "combo", "unit": "percent"}
    row |= {key: _percent(value) for key, value in clip_scores(stats).items()}
    if isinstance(stats, SemanticStats):
        iou, f = labelled_frame_scores(stats)
        row |= {"frames": len(stats.labelled), "blank_frames": stats.blank}
        return row | _frame_columns(stats, mIoU_labelled=iou, F_labelled=f)
    intersection, positive, labelled, pixels = (
        int(getattr(stats, name).sum()) for name in ("intersection", "positive", "labelled", "pixels")
    )
    f, threshold = best_frame_fs(stats)
    row |= {
        "M_F_threshold": "single" if stats.from_masks else _number(threshold),
        "frames": len(stats.labelled),
        "intersection": intersection,
        "union": positive + labelled - intersection,
        "predicted_pixels": positive,
        "labelled_pixels": labelled,
        "pixels": pixels,
        "tpavi_batch": index // TPAVI_BATCH,
    }
    return row | _frame_columns(stats, IoU=frame_ious(stats), F=f)


def _frame_columns(stats: Stats, **scores: Tensor) -> dict[str, str]:
    """``IoU_second_0`` and so on: one column per score and frame."""
    seconds = range(len(stats.labelled)) if stats.frame_index is None else stats.frame_index.tolist()
    return {
        f"{name}_second_{second}": _percent(value)
        for name, values in scores.items()
        for second, value in zip(seconds, values.tolist(), strict=True)
    }


def _class_rows(name: str, stats: SemanticStats, class_names: Sequence[str]) -> list[dict]:
    iou, f, frames = class_sums(stats)
    pixels = {key: getattr(stats, key).sum(0) for key in ("true_positive", "predicted", "labelled")}
    return [
        {
            "clip_id": name,
            "class": class_names[k],
            "frames": int(frames[k]),
            "IoU_sum": f"{float(iou[k]):.6f}",
            "F_sum": f"{float(f[k]):.6f}",
        }
        | {key: int(values[k]) for key, values in pixels.items()}
        for k in frames.nonzero().flatten().tolist()
    ]


def _percent(share: float) -> str:
    return _number(100 * share)


def _number(value: float) -> str:
    """Format with four decimals; empty if there is nothing to measure."""
    return "" if math.isnan(value) else f"{value:.4f}"


def _write_table(path: Path, rows: Sequence[Mapping]) -> None:
    with atomic_write(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=_columns(rows))
        writer.writeheader()
        writer.writerows(rows)


def _columns(rows: Iterable[Mapping]) -> list[str]:
    """Columns of all rows; per-frame columns come last, ordered by second."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    frames = [name for name in names if "_second_" in name]
    scores = list(dict.fromkeys(name.split("_second_")[0] for name in frames))
    frames.sort(key=lambda name: (scores.index(name.split("_second_")[0]), int(name.rsplit("_", 1)[1])))
    return [name for name in names if "_second_" not in name] + frames
