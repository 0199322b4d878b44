"""Scores against the published code's own results (goldens), slow loops, and numbers worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ska_vct.evaluation import conventions, metrics
from ska_vct.evaluation.boundary import _dilate, boundary_f, contour

GOLDEN = Path(__file__).parents[2].parent / "shared/goldens/metrics.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="golden data are not here")
# goldens are float32 quotients of exact counts; ours are float64
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN, allow_pickle=False)


def cases(group: str) -> list[str]:
    if not GOLDEN.is_file():
        return []
    names = {name.split("/")[1] for name in np.load(GOLDEN).files if name.startswith(group + "/")}
    return sorted(names - {"dataset"})


@needs_golden
def test_thresholds_are_the_published_float32_values(golden):
    assert torch.equal(metrics.thresholds(), torch.from_numpy(golden["thresholds"]))


@needs_golden
@pytest.mark.parametrize("case", cases("binary"))
def test_binary_scores_equal_the_goldens(golden, case):
    prob, mask = (torch.from_numpy(golden[f"binary/{case}/{key}"]) for key in ("pred", "gt"))
    iou, f = metrics.mask_iou(prob, mask), metrics.f_measure(prob, mask)
    assert iou.clip == pytest.approx(float(golden[f"binary/{case}/vct_mask_iou"]), abs=TOLERANCE)
    assert f.clip == pytest.approx(float(golden[f"binary/{case}/vct_Eval_Fmeasure"]), abs=TOLERANCE)
    np.testing.assert_allclose(f.precision, golden[f"binary/{case}/prec"], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(f.recall, golden[f"binary/{case}/recall"], atol=TOLERANCE, rtol=0)


@needs_golden
@pytest.mark.parametrize("case", cases("binary"))
def test_tpavi_pools_the_frames_of_a_batch(golden, case):
    """One clip is a batch; the script of AVSBench was run on the logits of the same probabilities."""
    prob, mask = (torch.from_numpy(golden[f"binary/{case}/{key}"]) for key in ("pred", "gt"))
    scores = conventions.reduce_binary([metrics.binary_stats(prob, mask)], "tpavi")
    want_iou = float(golden[f"binary/{case}/avsbench_mask_iou_on_logits"])
    want_f = float(golden[f"binary/{case}/avsbench_Eval_Fmeasure_on_logits"])
    assert scores["M_J"] == pytest.approx(want_iou, abs=TOLERANCE)
    assert scores["M_F"] == pytest.approx(want_f, abs=TOLERANCE)


@needs_golden
@pytest.mark.parametrize("case", cases("color"))
def test_semantic_sums_equal_the_goldens(golden, case):
    want = {key: golden[f"color/{case}/{key}"] for key in ("argmax", "gt", "vct_iou_sum", "vct_fscore_sum")}
    prediction = torch.from_numpy(golden[f"color/{case}/pred"]).float().argmax(1)
    assert torch.equal(prediction, torch.from_numpy(want["argmax"]).long())
    stats = metrics.semantic_stats(prediction, torch.from_numpy(want["gt"]), 71)
    iou, f, count = conventions.class_sums(stats)
    np.testing.assert_allclose(iou, want["vct_iou_sum"], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(f, want["vct_fscore_sum"], atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(count, golden[f"color/{case}/vct_cls_count"])
    # The published per-frame mean is over the classes with a right pixel, so missed classes do not count.
    frames = metrics.class_scores(stats)[0].sum(1) / (stats.true_positive > 0).sum(1)
    np.testing.assert_allclose(frames, golden[f"color/{case}/vct_vid_miou"], atol=TOLERANCE, rtol=0)
    scores, class_iou, class_f = conventions.reduce_semantic([stats])
    assert scores["mIoU"] == pytest.approx(float(golden[f"color/{case}/final_miou"]), abs=TOLERANCE)
    assert scores["F"] == pytest.approx(float(golden[f"color/{case}/final_fscore"]), abs=TOLERANCE)
    # the published "no background" mean drops the last class; the same class scores must give it
    dropped = float(golden[f"color/{case}/final_miou_noBg_last_dropped"])
    assert float(class_iou[:-1].mean()) == pytest.approx(dropped, abs=TOLERANCE)
    dropped = float(golden[f"color/{case}/final_fscore_noBg_last_dropped"])
    assert float(class_f[:-1].mean()) == pytest.approx(dropped, abs=TOLERANCE)


@needs_golden
def test_semantic_scores_of_a_data_set_equal_the_golden(golden):
    clips = [
        metrics.semantic_stats(*(torch.from_numpy(golden[f"color/{case}/{key}"]) for key in ("argmax", "gt")), 71)
        for case in cases("color")
    ]
    scores, _, _ = conventions.reduce_semantic(clips)
    assert scores["mIoU"] == pytest.approx(float(golden["color/dataset/miou"]), abs=TOLERANCE)
    assert scores["F"] == pytest.approx(float(golden["color/dataset/fscore"]), abs=TOLERANCE)


def test_histogram_equals_the_loop_over_thresholds_with_ties():
    """All values lie on a threshold or one float32 step beside it."""
    generator = torch.Generator().manual_seed(0)
    levels = metrics.thresholds()
    near = torch.cat([levels, torch.nextafter(levels, torch.zeros(())), torch.nextafter(levels, torch.ones(()))])
    prob = near[torch.randint(len(near), (3, 17, 23), generator=generator)]
    mask = (torch.rand(3, 17, 23, generator=generator) < 0.4).float()
    stats = metrics.binary_stats(prob, mask)
    predicted = torch.stack([(prob >= t).flatten(1).sum(1) for t in levels], 1)
    true_positive = torch.stack([((prob >= t) * mask).flatten(1).sum(1) for t in levels], 1)
    assert torch.equal(stats.predicted, predicted)
    assert torch.equal(stats.true_positive, true_positive.long())


def test_binary_scores_worked_by_hand():
    # frame 0: mask 2 px, p > 0.5 on 2 px, 1 shared: IoU 1/3; frame 1: empty mask, 1 of 4 px predicted: 3/4
    prob = torch.tensor([[[0.9, 0.9], [0.1, 0.1]], [[0.9, 0.1], [0.5, 0.1]]])
    mask = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]]])
    iou = metrics.mask_iou(prob, mask)
    assert iou.frames.tolist() == pytest.approx([1 / 3, 3 / 4], abs=1e-6)
    # only frame 0 counts; t <= 0.1: P = 2/4, R = 1, F = 1.3 * .5 / (.15 + 1); t in (0.1, 0.9]: P = R = F = 1/2
    assert metrics.f_measure(prob, mask).clip == pytest.approx(0.65 / 1.15, abs=1e-9)
    # 2 of 4 and 1 of 4 pixels
    assert metrics.false_positive_share(metrics.binary_stats(prob, mask)) == pytest.approx(3 / 8)


def test_ignored_pixels_leave_no_trace():
    generator = torch.Generator().manual_seed(1)
    prob = torch.rand(2, 8, 8, generator=generator)
    mask = torch.randint(0, 2, (2, 8, 8), generator=generator)
    padded_prob = torch.nn.functional.pad(prob, (0, 3), value=0.8)
    padded_mask = torch.nn.functional.pad(mask, (0, 3), value=255)
    want, got = metrics.binary_stats(prob, mask), metrics.binary_stats(padded_prob, padded_mask, ignore_label=255)
    for key, value in vars(want).items():
        assert (
            torch.equal(value, vars(got)[key]) if isinstance(value, torch.Tensor) else value == vars(got)[key]
        ), key
    want = metrics.semantic_stats(mask, mask, 3)
    got = metrics.semantic_stats(padded_mask.clamp(max=2), padded_mask, 3, ignore_label=255)
    assert all(np.array_equal(value, vars(got)[key]) for key, value in vars(want).items())


def test_conventions_differ_as_described():
    """Clip a: 1 of 1 px right; clip b: mask 4 px, 2 predicted, both inside. One px wide frames of 8."""
    row = lambda *values: torch.tensor(values, dtype=torch.float32).view(1, 1, -1)  # noqa: E731
    a = metrics.binary_stats(row(0.9, 0, 0, 0, 0, 0, 0, 0), row(1, 0, 0, 0, 0, 0, 0, 0))
    b = metrics.binary_stats(row(0.6, 0.6, 0, 0, 0, 0, 0, 0), row(1, 1, 1, 1, 0, 0, 0, 0))
    combo, tpavi, dataset, pooled = (
        conventions.reduce_binary([a, b], name) for name in ("combo", "tpavi", "dataset", "pooled")
    )
    assert combo["M_J"] == pytest.approx((1 + 1 / 2) / 2, abs=1e-6)
    assert tpavi["M_J"] == pytest.approx((1 + 1 / 2) / 2, abs=1e-6)
    assert pooled["M_J"] == pytest.approx(3 / 5, abs=1e-6)
    f_half = 1.3 * 0.5 / (0.3 + 0.5)  # clip b at t in (0, 0.6]: P = 1, R = 1/2
    assert combo["M_F"] == pytest.approx((1 + f_half) / 2)
    assert tpavi["M_F"] == pytest.approx((1 + f_half) / 2)  # both are best at the same threshold
    assert pooled["M_F"] == pytest.approx(1.3 * 0.6 / (0.3 + 0.6))  # P = 1, R = 3/5
    assert dataset["M_J"] == pytest.approx((3 / 5 + 11 / 13) / 2)  # background: 7 + 4 shared px, 2 called so too
    background_f = 1.3 * (11 / 13) / (0.3 * 11 / 13 + 1)  # P = 11/13, R = 1
    assert dataset["M_F"] == pytest.approx((1.3 * 0.6 / (0.3 + 0.6) + background_f) / 2)
    # five clips are a batch of 4 and a batch of 1: M_J = mean(mean(1, 1/2, 1/2, 1/2), 1/2)
    assert conventions.reduce_binary([a, b, b, b, b], "tpavi")["M_J"] == pytest.approx(
        (2.5 / 4 + 0.5) / 2, abs=1e-6
    )
    with pytest.raises(ValueError, match="combo, tpavi, dataset, pooled"):
        conventions.reduce_binary([a], "coco")


def test_semantic_conventions_worked_by_hand():
    """Class 1: IoU 1/2 in a frame of two px, 1/4 in a frame of four; pooled 2/6."""
    first = metrics.semantic_stats(torch.tensor([[[1, 1]]]), torch.tensor([[[1, 0]]]), 3)
    second = metrics.semantic_stats(torch.tensor([[[1, 1, 1, 1]]]), torch.tensor([[[1, 0, 0, 0]]]), 3)
    scores, iou, _ = conventions.reduce_semantic([first, second])
    assert iou.tolist() == pytest.approx([0, 3 / 8, 0])
    assert scores["mIoU"] == pytest.approx(1 / 8) and scores["mIoU_no_bg"] == pytest.approx(3 / 16)
    # background and class 1 are labelled: (0 + 1/2) / 2 and (0 + 1/4) / 2
    assert metrics.labelled_frame_scores(first)[0].tolist() == pytest.approx([1 / 4])
    assert metrics.labelled_frame_scores(second)[0].tolist() == pytest.approx([1 / 8])
    # F of class 1: P = 1/2, R = 1 and P = 1/4, R = 1
    assert metrics.labelled_frame_scores(first)[1].tolist() == pytest.approx([1.3 / 2 / (0.3 / 2 + 1) / 2])
    assert metrics.labelled_frame_scores(second)[1].tolist() == pytest.approx([1.3 / 4 / (0.3 / 4 + 1) / 2])
    scores, iou, f = conventions.reduce_semantic([first, second], "dataset")
    # class 2 occurs nowhere: it counts as 0 in IoU and is left out of F
    assert scores["mIoU"] == pytest.approx(2 / 6 / 3) and scores["F"] == pytest.approx(float(f[1]) / 2)
    assert conventions.reduce_semantic([first, second], "pooled")[0]["F"] == pytest.approx(float(f[1]) / 3)
    assert iou.tolist() == pytest.approx([0, 2 / 6, 0])
    assert f[1] == pytest.approx(1.3 * (2 / 6) / (0.3 * 2 / 6 + 1))


def test_tpavi_counts_the_blank_frames_of_short_clips_as_background():
    """The published script pads to 10 frames, labels them background and silences the network on them."""
    generator = torch.Generator().manual_seed(3)
    prediction, labels = torch.randint(0, 4, (2, 5, 6, 6), generator=generator)
    short = metrics.semantic_stats(prediction, labels, 71)
    short.blank = 5
    long = metrics.semantic_stats(*torch.randint(0, 4, (2, 10, 6, 6), generator=generator), 71)
    # The oracle: frames that are there, predicted and labelled 0.
    blank = torch.zeros(5, 6, 6, dtype=torch.long)
    padded = metrics.semantic_stats(torch.cat([prediction, blank]), torch.cat([labels, blank]), 71)
    want, want_iou, want_f = conventions.reduce_semantic([padded, long], "combo")
    scores, iou, f = conventions.reduce_semantic([short, long], "tpavi")
    assert scores == pytest.approx(want, abs=1e-12)
    assert torch.allclose(iou, want_iou) and torch.allclose(f, want_f)
    combo, combo_iou, _ = conventions.reduce_semantic([short, long], "combo")
    assert iou[0] > combo_iou[0] and torch.equal(iou[1:], combo_iou[1:])
    assert combo["mIoU_no_bg"] == scores["mIoU_no_bg"]


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metrics.binary_stats(torch.full((1, 2, 2), bad), torch.zeros(1, 2, 2))


def test_boundary_f_against_distances():
    """Precision and recall from explicit distances between contour pixels."""
    generator = torch.Generator().manual_seed(2)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 1, 5, 5, generator=generator), (60, 80), mode="bicubic")
    other = smooth + 0.1 * torch.rand(smooth.shape, generator=generator)
    prediction, mask = smooth[:, 0] > 0.5, other[:, 0] > 0.55
    radius = 3
    want = []
    for ours, theirs in zip(contour(prediction), contour(mask), strict=True):
        distance = torch.cdist(ours.nonzero().double(), theirs.nonzero().double())
        precision = (distance.min(1).values <= radius + 1e-6).double().mean()
        recall = (distance.min(0).values <= radius + 1e-6).double().mean()
        want.append(float(2 * precision * recall / (precision + recall)))
    assert min(want) < 0.95, "the case must not be trivial"
    np.testing.assert_allclose(boundary_f(prediction, mask, tolerance=radius), want, atol=1e-12)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 30])
def test_a_disk_reaches_what_is_within_its_radius(radius):
    """Sparse points, some on the rim, against explicit distances; the last disk is larger than the image."""
    generator = torch.Generator().manual_seed(4)
    mask = torch.rand(3, 24, 17, generator=generator) < 0.01
    mask[0, 0, 0] = mask[1, 23, 16] = True
    mask[2] = False
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(17), indexing="ij")
    for frame, found in zip(mask, _dilate(mask, radius), strict=True):
        want = torch.zeros_like(frame)
        for y, x in frame.nonzero().tolist():
            want |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        assert torch.equal(found, want)


def test_boundary_f_tolerance_and_empty_frames():
    mask = torch.zeros(4, 224, 224, dtype=torch.bool)
    mask[:2, 50:150, 50:150] = True
    prediction = torch.zeros_like(mask)
    prediction[0, 53:153, 53:153] = True  # within 3 px = ceil(0.008 * 316.8)
    prediction[1, 54:154, 54:154] = True  # 4 px off: sides that lie on the moved square's own sides remain apart
    prediction[3, 50:150, 50:150] = True
    assert math.ceil(0.008 * math.hypot(224, 224)) == 3
    near, far, empty, spurious = boundary_f(prediction, mask).tolist()
    assert near > 0.97 and far < 0.1 and empty == 1 and spurious == 0
    # a mask that fills the image has no contour: the image's rim is none
    assert not contour(torch.ones(1, 6, 6, dtype=torch.bool)).any()
