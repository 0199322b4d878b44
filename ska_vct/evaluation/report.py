"""A dataset's scores in every convention (docs/scores.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from .conventions import CONVENTIONS, class_sums, m_f_threshold, reduce_binary, reduce_semantic
from .metrics import BinaryStats, SemanticStats, confusion_matrix, mean_precision_recall

Stats = BinaryStats | SemanticStats


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """Scores of a dataset, all in percent.

    Attributes:
        dataset: name of the dataset.
        num_clips: number of scored clips.
        convention: the chosen convention.
        conventions: convention -> name of a score -> value. Binary masks have ``M_J`` and ``M_F``, also under the
            names ``mIoU`` and ``F`` that all subsets share.
        classes: AVSS, in the chosen convention: one dict per class with ``class``, ``IoU``, ``F`` and ``frames``
            (number of frames in which the class is predicted or labelled); empty for binary masks.
        m_f_threshold: binary masks: convention -> description of the threshold of M_F; empty for AVSS.
        precision_recall: binary masks: precision and recall in [0, 1], float64 (N,) each, see
            ``metrics.mean_precision_recall``; None for AVSS and for masks without probabilities.
        confusion: AVSS: int64 (K, K), see ``metrics.confusion_matrix``; None for binary masks.
    """

    dataset: str
    num_clips: int
    convention: str
    conventions: dict[str, dict[str, float]]
    classes: list[dict]
    m_f_threshold: dict[str, str]
    precision_recall: tuple[Tensor, Tensor] | None = None
    confusion: Tensor | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Scores in the chosen convention."""
        return self.conventions[self.convention]

    @classmethod
    def of(
        cls, clips: Mapping[str, Stats], *, dataset: str, convention: str, class_names: Sequence[str]
    ) -> "ScoreReport":
        """Create a report from the statistics of all clips, in their order."""
        stats = list(clips.values())
        conventions, classes, details = {}, [], {}
        binary = isinstance(stats[0], BinaryStats)
        for name in CONVENTIONS:
            if binary:
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
        from_masks = binary and any(clip.from_masks for clip in stats)
        if not binary:
            details["confusion"] = confusion_matrix(stats, len(class_names))
        elif not from_masks:
            details["precision_recall"] = mean_precision_recall(stats)
        return cls(
            dataset=dataset,
            num_clips=len(stats),
            convention=convention,
            conventions=conventions,
            classes=classes,
            m_f_threshold={name: m_f_threshold(name, from_masks=from_masks) for name in CONVENTIONS}
            if binary
            else {},
            **details,
        )
