"""Every convention against slow loops over pixels, written from docs/scores.md alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ska_vct.evaluation import metrics
from ska_vct.evaluation.conventions import CONVENTIONS, reduce_binary, reduce_semantic

CASE = Path(__file__).parents[2].parent / "shared/cases/media/dataset_convention.npz"
THRESHOLDS = [float(t) for t in np.linspace(0, 1, 255, dtype=np.float32)]
CLASSES = 6


def f_of(hit: int, predicted: int, labelled: int) -> float:
    """F with beta squared 0.3 from counts; 0 where precision and recall are 0 or undefined."""
    if hit == 0:
        return 0.0
    precision, recall = hit / predicted, hit / labelled
    return 1.3 * precision * recall / (0.3 * precision + recall)


def count(called: list[bool], truth: list[bool]) -> tuple[int, int, int]:
    """Pixels in both, called so, labelled so."""
    hit = 0
    for one, other in zip(called, truth, strict=True):
        hit += one and other
    return hit, sum(called), sum(truth)


def iou_of(hit: int, predicted: int, labelled: int) -> float:
    union = predicted + labelled - hit
    return hit / union if union else 0.0


def frames_of(clip) -> list[tuple[list[float], list[bool]]]:
    """Probabilities and truth of a clip's frames, pixel by pixel."""
    prob, mask = clip
    return [
        ([float(p) for p in frame.ravel()], [bool(m) for m in labels.ravel()])
        for frame, labels in zip(prob, mask, strict=True)
    ]


def binary_by_frames(groups) -> tuple[float, float]:
    """M_J and M_F of groups of frames, each with a best threshold of its own; means over groups."""
    ious, fs = [], []
    for frames in groups:
        scores = []
        for prob, truth in frames:
            called = [p > 0.5 for p in prob]
            if any(truth):
                scores.append(iou_of(*count(called, truth)))
            else:
                scores.append(sum(not c for c in called) / len(called))
        ious.append(sum(scores) / len(scores))
        with_object = [(prob, truth) for prob, truth in frames if any(truth)]
        best = 0.0
        for threshold in THRESHOLDS:
            each = [f_of(*count([p >= threshold for p in prob], truth)) for prob, truth in with_object]
            best = max(best, sum(each) / len(each) if each else 0.0)
        fs.append(best)
    return sum(ious) / len(ious), sum(fs) / len(fs)


def slow_binary(clips, convention: str) -> tuple[float, float]:
    clips = [frames_of(clip) for clip in clips]
    if convention == "combo":
        return binary_by_frames(clips)
    if convention == "tpavi":
        return binary_by_frames([sum(clips[i : i + 4], []) for i in range(0, len(clips), 4)])
    prob = [p for clip in clips for frame, _ in clip for p in frame]
    truth = [t for clip in clips for _, labels in clip for t in labels]
    called = [p > 0.5 for p in prob]
    if convention == "pooled":
        fs = [f_of(*count([p >= threshold for p in prob], truth)) for threshold in THRESHOLDS]
        return iou_of(*count(called, truth)), max(fs)
    both = [count(called, truth), count([not c for c in called], [not t for t in truth])]
    present = [counts for counts in both if counts[1] + counts[2]]
    return sum(iou_of(*c) for c in both) / 2, sum(f_of(*c) for c in present) / len(present)


def slow_semantic(clips, convention: str) -> dict[str, float]:
    """``mIoU``, ``F`` and both without background, of clips of (prediction, labels, blank frames)."""
    ious, fs = [], []
    for k in range(CLASSES):
        frames = []
        for prediction, labels, blank in clips:
            for called, truth in zip(prediction, labels, strict=True):
                frames.append(count([c == k for c in called.ravel()], [t == k for t in truth.ravel()]))
            if convention == "tpavi":
                # a blank frame is background, and found to be so
                frames += [(36, 36, 36) if k == 0 else (0, 0, 0)] * blank
        if convention in ("dataset", "pooled"):
            total = tuple(sum(counts[i] for counts in frames) for i in range(3))
            absent = total[1] + total[2] == 0
            ious.append(iou_of(*total))
            fs.append(None if absent and convention == "dataset" else f_of(*total))
        else:
            frames = [counts for counts in frames if counts[1] + counts[2]]
            ious.append(sum(iou_of(*counts) for counts in frames) / max(len(frames), 1))
            fs.append(sum(f_of(*counts) for counts in frames) / max(len(frames), 1))

    def mean(values):
        kept = [value for value in values if value is not None]
        return sum(kept) / len(kept)

    return {"mIoU": mean(ious), "F": mean(fs), "mIoU_no_bg": mean(ious[1:]), "F_no_bg": mean(fs[1:])}


def binary_clips(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Six clips of one to three frames: some empty, one clip without any object, sizes of objects that differ."""
    random = np.random.default_rng(seed)
    clips = []
    for index in range(6):
        shape = (1 + index % 3, 7, 9)
        mask = random.random(shape) < (0.0, 0.1, 0.3, 0.6, 0.8, 0.4)[index]
        mask[0] &= index != 4
        prob = np.clip(0.35 * mask + 0.65 * random.random(shape), 0, 1)
        clips.append((prob.astype(np.float32), mask))
    return clips


def all_empty() -> list[tuple[np.ndarray, np.ndarray]]:
    """Nothing is labelled or predicted: background is the only class that occurs."""
    return [(np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool))] * 2


def reduce(clips, convention: str) -> tuple[float, float]:
    stats = [metrics.binary_stats(torch.from_numpy(prob), torch.from_numpy(mask)) for prob, mask in clips]
    scores = reduce_binary(stats, convention)
    return scores["M_J"], scores["M_F"]


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("clips", [binary_clips(0), binary_clips(1), all_empty()], ids=["a", "b", "empty"])
def test_binary_scores_equal_the_loops(clips, convention):
    assert reduce(clips, convention) == pytest.approx(slow_binary(clips, convention), abs=1e-6)


# M_J and M_F of ``binary_clips(0)`` by the functions that docs/scores.md names; the first two compute in float32.
PUBLISHED = {
    "combo": (0.5792744805415472, 0.7339036564032236),
    "tpavi": (0.57477625, 0.8408466),
    "dataset": (0.6021171002905918, 0.7426421957671958),
}


@pytest.mark.parametrize("convention", PUBLISHED)
def test_binary_scores_equal_the_published_functions(convention):
    assert reduce(binary_clips(0), convention) == pytest.approx(PUBLISHED[convention], abs=1e-6)


def test_conventions_differ_on_the_clips_they_are_compared_on():
    scores = [slow_binary(binary_clips(0), convention) for convention in CONVENTIONS]
    for column in zip(*scores, strict=True):
        assert len({round(value, 4) for value in column}) == len(CONVENTIONS)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_class_scores_equal_the_loops(convention):
    """Class 4 is labelled and never predicted, class 5 occurs nowhere; the second clip is short."""
    random = np.random.default_rng(2)
    clips = []
    for frames, blank in ((3, 0), (2, 8)):
        labels = random.integers(0, 5, (frames, 6, 6))
        prediction = np.where(random.random(labels.shape) < 0.5, labels, random.integers(0, 4, labels.shape)) % 4
        clips.append((prediction, labels, blank))
    stats = []
    for prediction, labels, blank in clips:
        stats.append(metrics.semantic_stats(torch.from_numpy(prediction), torch.from_numpy(labels), CLASSES))
        stats[-1].blank = blank
    scores, iou, f = reduce_semantic(stats, convention)
    assert scores == pytest.approx(slow_semantic(clips, convention), abs=1e-9)
    assert iou[5] == f[5] == 0


def test_dataset_and_pooled_scores_are_told_apart_by_a_small_object():
    """By hand: of 4 object pixels 2 are found, 4 more are called object; background is right in 1016 of 1024."""
    mask = np.zeros((1, 32, 32), bool)
    mask[0, 0, :4] = True
    prob = np.zeros((1, 32, 32), np.float32)
    prob[0, 0, 2:8] = 0.8
    clips = [(prob, mask)] * 3
    assert reduce(clips, "pooled")[0] == pytest.approx(2 / 8, abs=1e-6)
    assert reduce(clips, "dataset")[0] == pytest.approx((2 / 8 + 1016 / 1022) / 2, abs=1e-6)
    background_f = 1.3 * (1016 / 1018) * (1016 / 1020) / (0.3 * 1016 / 1018 + 1016 / 1020)
    object_f = 1.3 * (2 / 6) * (2 / 4) / (0.3 * 2 / 6 + 2 / 4)
    assert reduce(clips, "dataset")[1] == pytest.approx((object_f + background_f) / 2, abs=1e-6)
    for convention in CONVENTIONS:
        assert reduce(clips, convention) == pytest.approx(slow_binary(clips, convention), abs=1e-6)


@pytest.mark.skipif(not CASE.is_file(), reason="the recorded case is not here")
def test_recorded_case_of_the_dataset_convention():
    case = np.load(CASE)
    clips = list(zip(case["prob"], case["truth"].astype(bool), strict=True))
    rounded = {name: tuple(round(100 * value, 1) for value in reduce(clips, name)) for name in CONVENTIONS}
    assert rounded["dataset"] == (68.8, 76.5) and rounded["pooled"] == (43.9, 62.9)
    for convention in ("dataset", "pooled"):
        assert reduce(clips, convention) == pytest.approx(slow_binary(clips, convention), abs=1e-6)
