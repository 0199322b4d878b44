"""Scores of one dataset under several conditions, and their combinations (docs/scores.md)."""

from collections.abc import Mapping, Sequence

from detectron2.evaluation import DatasetEvaluator

from ska_vct.evaluation.avs_evaluator import AVSEvaluator
from ska_vct.evaluation.metrics import BinaryStats, SemanticStats, false_positive_share
from ska_vct.evaluation.objects import object_scores
from ska_vct.evaluation.report import ScoreReport
from ska_vct.structures.clip import TRUE_CONDITION

Stats = BinaryStats | SemanticStats


class ConditionEvaluator(DatasetEvaluator):
    """One ``AVSEvaluator`` per condition; a clip's ``condition`` says which one counts it.

    Args:
        evaluators: condition -> evaluator.
    """

    def __init__(self, evaluators: Mapping[str, AVSEvaluator]):
        self._evaluators = dict(evaluators)

    def reset(self) -> None:
        for evaluator in self._evaluators.values():
            evaluator.reset()

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Count a batch of clips, each under its condition; see ``AVSEvaluator.process``."""
        for clip, output in zip(inputs, outputs, strict=True):
            self._evaluators[clip["condition"]].process([clip], [output])

    def evaluate(self) -> dict[str, tuple[ScoreReport, Mapping[str, Stats]]] | None:
        """Condition -> its report and the counts of its clips; None on ranks other than the first."""
        found = {name: evaluator.report() for name, evaluator in self._evaluators.items()}
        return None if None in found.values() else found


def condition_scores(report: ScoreReport, clips: Sequence[Stats]) -> dict:
    """All scores of a dataset under one condition.

    Returns:
        percent, None where there is nothing to measure: ``M_J`` and ``M_F`` in the report's convention (AVSS:
        mIoU and F over all classes), ``conventions`` (all of them, by name), ``boundary_F`` (binary masks),
        ``FPR`` (mean share of pixels that are segmented; AVSS: not called background), and the scores of
        ``objects.object_scores``, with ``by_frame``.
    """
    known = [stats for stats in clips if stats.objects is not None]
    frames = [stats.frame_index for stats in known]
    objects = object_scores([stats.objects for stats in known], [stats.map_means for stats in known], frames)
    by_frame = objects.pop("by_frame", {})
    return {
        "M_J": report.scores["mIoU"],
        "M_F": report.scores["F"],
        "conventions": report.conventions,
        "boundary_F": report.scores.get("boundary_F"),
        "FPR": 100 * sum(map(false_positive_share, clips)) / len(clips),
        **_percent(objects),
        "by_frame": {second: _percent(scores) for second, scores in by_frame.items()},
    }


def _percent(scores: Mapping[str, float | int | None]) -> dict[str, float | int | None]:
    """Shares as percent; counts as they are."""
    return {
        name: value if value is None or name == "silent_frames" else 100 * value for name, value in scores.items()
    }


def g_miou(positive: float, negative: float) -> float:
    """Harmonic mean, in percent, of mIoU with the true audio and 100 - mIoU with negative audio.

    To our understanding this is G-mIoU of AVSBench-Robust (arXiv 2502.00358); print the parts beside it.
    """
    kept, refused = positive, 100 - negative
    return 2 * kept * refused / (kept + refused) if kept + refused > 0 else 0.0


def compare(splits: Mapping[str, Mapping], *, negatives: Sequence[str], plain: str = "plain") -> dict[str, dict]:
    """Add the scores that compare two conditions or two splits.

    Args:
        splits: name -> ``num_clips``, ``conditions`` (name -> ``condition_scores``) and whatever is to be kept.
        negatives: conditions whose audio comes from nothing in view.
        plain: the split that others are compared with.

    Returns:
        the splits with ``G_mIoU`` (by negative condition) and ``drop``, M_J of ``plain`` less the split's own, in
        points; None for ``plain`` itself, and without such a split or a true condition.
    """
    reference = splits.get(plain, {}).get("conditions", {}).get(TRUE_CONDITION)
    result = {}
    for name, split in splits.items():
        conditions = split["conditions"]
        own = conditions.get(TRUE_CONDITION)
        scores, drop = {}, None
        if own is not None:
            scores = {
                condition: g_miou(own["M_J"], conditions[condition]["M_J"])
                for condition in negatives
                if condition in conditions
            }
            if reference is not None and name != plain:
                drop = reference["M_J"] - own["M_J"]
        result[name] = {**split, "G_mIoU": scores, "drop": drop}
    return result
