"""A data set's scores in every convention, as text, JSON, Markdown and csv (spec: metrics.md).

Files, below the evaluator's folder:

======================  ======================================================================================
``results.json``        scores in percent: ``sem_seg`` and ``classes`` in the chosen ``convention``, and
                        ``conventions`` with all of them
``results.md``          the same as tables, with what each convention means
``per_clip.csv``        per clip: scores in percent, and what the conventions are made of: binary masks' pixels
                        (``intersection``, ``union``) and ``tpavi_batch``; AVSS's ``frames`` and ``blank_frames``
``per_clip_class.csv``  AVSS: per clip and class that occurs in it: ``frames``, sums of IoU and F over them
                        (shares), and pixels
======================  ======================================================================================
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from ska_vct.utils.files import atomic_write, write_json

from .conventions import (
    CONVENTIONS,
    MEANINGS,
    TPAVI_BATCH,
    class_sums,
    clip_scores,
    reduce_binary,
    reduce_semantic,
)
from .metrics import BinaryStats, SemanticStats

Stats = BinaryStats | SemanticStats


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """Scores of a data set, all in percent.

    Attributes:
        dataset: its name.
        num_clips: clips scored.
        convention: the one chosen.
        conventions: convention -> name of a score -> value.
        classes: AVSS, in the chosen convention: dicts of ``class``, ``IoU``, ``F`` and ``frames``, those in which
            the class is predicted or labelled; empty for binary masks.
    """

    dataset: str
    num_clips: int
    convention: str
    conventions: dict[str, dict[str, float]]
    classes: list[dict]

    @property
    def scores(self) -> dict[str, float]:
        """Those of the chosen convention."""
        return self.conventions[self.convention]

    @classmethod
    def of(
        cls, clips: Mapping[str, Stats], *, dataset: str, convention: str, class_names: Sequence[str]
    ) -> "ScoreReport":
        """Reduce the statistics of all clips, in their order."""
        stats = list(clips.values())
        conventions, classes = {}, []
        for name in CONVENTIONS:
            if isinstance(stats[0], BinaryStats):
                scores = reduce_binary(stats, name)
                scores = {"mIoU": scores["M_J"], "F": scores["M_F"], **scores}
            else:
                scores, iou, f = reduce_semantic(stats, name)
                if name == convention:
                    frames = sum(class_sums(clip)[2] for clip in stats)
                    columns = (class_names, iou.tolist(), f.tolist(), frames.tolist())
                    classes = [
                        {"class": label, "IoU": 100 * i, "F": 100 * f_score, "frames": int(count)}
                        for label, i, f_score, count in zip(*columns, strict=True)
                    ]
            conventions[name] = {key: 100 * value for key, value in scores.items()}
        return cls(
            dataset=dataset,
            num_clips=len(stats),
            convention=convention,
            conventions=conventions,
            classes=classes,
        )


def describe(report: ScoreReport) -> str:
    """Tables for the log; the line that counts comes last."""
    # classes first: what counts stays in sight
    parts = []
    if report.classes:
        parts.append(f"Classes of {report.dataset}, convention '{report.convention}', percent")
        parts.append(tabulate(report.classes, headers="keys", floatfmt=".2f", tablefmt="pipe"))
    parts.append(f"{report.dataset}: {report.num_clips} clips, percent")
    parts.append(_convention_table(report))
    chosen = ", ".join(f"{name} {value:.2f}" for name, value in report.scores.items())
    parts.append(f"Convention '{report.convention}': {chosen}")
    return "\n".join(parts)


def to_markdown(report: ScoreReport) -> str:
    """The report as a Markdown page."""
    lines = [f"# {report.dataset}", "", f"{report.num_clips} clips, percent.", "", _convention_table(report), ""]
    lines += [f"- `{name}`: {MEANINGS[name]}" for name in CONVENTIONS]
    if report.classes:
        lines += ["", f"## Classes, convention `{report.convention}`", ""]
        lines.append(tabulate(report.classes, headers="keys", floatfmt=".2f", tablefmt="pipe"))
    return "\n".join(lines) + "\n"


def write_report(report: ScoreReport, clips: Mapping[str, Stats], folder: Path) -> None:
    """Write the files that the module's head lists, each whole or not at all."""
    summary = {
        "dataset": report.dataset,
        "convention": report.convention,
        "unit": "percent",
        "num_clips": report.num_clips,
        "sem_seg": report.scores,
        "conventions": report.conventions,
        "classes": report.classes,
    }
    write_json(folder / "results.json", summary)
    with atomic_write(folder / "results.md", "w") as file:
        file.write(to_markdown(report))
    _write_table(folder / "per_clip.csv", [_clip_row(i, *item) for i, item in enumerate(clips.items())])
    if report.classes:
        names = [row["class"] for row in report.classes]
        rows = [row for name, stats in clips.items() for row in _class_rows(name, stats, names)]
        _write_table(folder / "per_clip_class.csv", rows)


def _convention_table(report: ScoreReport) -> str:
    rows = [{"convention": name} | scores for name, scores in report.conventions.items()]
    return tabulate(rows, headers="keys", floatfmt=".2f", tablefmt="pipe")


def _clip_row(index: int, name: str, stats: Stats) -> dict:
    row = {"clip_id": name} | {key: f"{100 * value:.4f}" for key, value in clip_scores(stats).items()}
    if isinstance(stats, SemanticStats):
        return row | {"frames": len(stats.labelled), "blank_frames": stats.blank}
    intersection = int(stats.intersection.sum())
    return row | {
        "frames": len(stats.labelled),
        "intersection": intersection,
        "union": int((stats.positive + stats.labelled).sum()) - intersection,
        "tpavi_batch": index // TPAVI_BATCH,
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


def _write_table(path: Path, rows: Sequence[Mapping]) -> None:
    with atomic_write(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
