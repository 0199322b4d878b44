"""Compares the F-score computed by histogram with the published loop over thresholds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ska_vct.data.registry import get_facts
from ska_vct.evaluation.metrics import BinaryStats, best_f, binary_stats, thresholds

from .clips import blob_masks
from .subject import Subject, case_cfg
from .turns import Measurement
from .work import Case, Clock, Work

_HISTOGRAM, _LOOP = "histogram", "loop over thresholds"


class MetricsSubject(Subject):
    name = "metrics"

    def options(self, *, device: str, frames: int = 0) -> Sequence[tuple[str, dict]]:
        """
        Args:
            frames: frames per clip; 0 for the subset's.
        """
        return [(name, {"way": name, "frames": frames}) for name in (_LOOP, _HISTOGRAM)]

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        frames = case.options["frames"] or get_facts(cfg.DATASETS.SUBSET).clip_frames()
        generator = torch.Generator().manual_seed(0)
        size = tuple(cfg.INPUT.EVAL_SIZE)
        mask = blob_masks(frames, size, 2, generator).to(case.device)
        prob = torch.rand(frames, *size, generator=generator).to(case.device)
        # The two could differ for probabilities equal to a threshold, so include many of these.
        levels = thresholds().to(case.device)
        prob[:, ::2] = levels[(prob[:, ::2] * (len(levels) - 1)).round().long()]
        function = {_HISTOGRAM: binary_stats, _LOOP: threshold_loop}[case.options["way"]]

        def run(clock: Clock) -> None:
            with clock():
                best_f(function(prob, mask))

        # Both run in this process, so its memory belongs to neither.
        return Work(run=run, clips=1, frames=frames, facts={"equal": same_scores(prob, mask)}, whole_process=False)

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        equal = all(found.facts["equal"] for found in measurements)
        return [
            "Counts at all thresholds and the score are identical."
            if equal
            else "THE TWO DISAGREE: the histogram is wrong."
        ]


def threshold_loop(prob: Tensor, mask: Tensor) -> BinaryStats:
    """``binary_stats`` as in published code: one comparison of all pixels per frame and threshold.

    Args:
        prob: float32 (T, H, W).
        mask: (T, H, W), 1 is foreground.
    """
    foreground = (mask == 1).float()
    levels = thresholds().tolist()
    predicted = prob.new_zeros(len(prob), len(levels))
    true_positive = torch.zeros_like(predicted)
    for frame in range(len(prob)):
        for index, level in enumerate(levels):
            above = (prob[frame] >= level).float()
            true_positive[frame, index] = (above * foreground[frame]).sum()
            predicted[frame, index] = above.sum()
    positive = (prob > 0.5).float()
    labelled = foreground.sum((1, 2)).long()
    return BinaryStats(
        predicted=predicted.long(),
        true_positive=true_positive.long(),
        labelled=labelled,
        pixels=torch.full_like(labelled, foreground[0].numel()),
        positive=positive.sum((1, 2)).long(),
        intersection=(positive * foreground).sum((1, 2)).long(),
    )


def same_scores(prob: Tensor, mask: Tensor) -> bool:
    """Whether both implementations agree on all counts and on the score."""
    fast, slow = binary_stats(prob, mask), threshold_loop(prob, mask)
    counts = ("predicted", "true_positive", "labelled", "pixels", "positive", "intersection")
    same = all(torch.equal(getattr(fast, name), getattr(slow, name)) for name in counts)
    return same and best_f(fast) == best_f(slow)
