"""The criterion against a slow, plain oracle; targets; what must not matter."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from ska_vct.modeling.losses.criterion import SetCriterion
from ska_vct.modeling.losses.mask_losses import sample_all_queries, sample_points
from ska_vct.modeling.losses.targets import Targets
from ska_vct.modeling.predictions import Predictions

IGNORE = 255
WEIGHTS = {"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}


def make_criterion(num_points=0, num_classes=3):
    return SetCriterion(
        num_classes=num_classes,
        weights=WEIGHTS,
        no_object_weight=0.1,
        num_points=num_points,
        oversample_ratio=3.0,
        importance_ratio=0.75,
        deep_supervision=True,
    )


def make_predictions(frames, queries=4, num_classes=3, layers=2, size=8):
    torch.manual_seed(0)
    return Predictions(
        logits=torch.randn(layers, frames, queries, num_classes + 1),
        mask_embeds=torch.randn(layers, frames, queries, 6),
        mask_features=torch.randn(frames, 6, size, size),
    )


def label_maps():
    labels = torch.zeros(3, 16, 16, dtype=torch.int64)
    labels[0, 4:12, 2:9] = 1
    labels[0, 12:, 12:] = 2
    labels[1] = 2
    labels[2] = IGNORE
    labels[2, :8] = 1
    return labels


def oracle(predictions, labels):
    """Every permutation tried, every frame on its own."""
    frames = []
    for label in labels:
        classes = [c for c in label.unique().tolist() if c != IGNORE]
        masks = torch.stack([F.avg_pool2d((label == c).float()[None], 2)[0] for c in classes])
        frames.append((classes, masks))
    num_masks = sum(len(classes) for classes, _ in frames)
    result = {}
    for layer, logits in enumerate(predictions.logits):
        masks = predictions.masks(layer)
        ce, weight, bce, dice = 0.0, 0.0, 0.0, 0.0
        for n, (classes, truth) in enumerate(frames):

            def pair(q, m, n=n, masks=masks, truth=truth):
                p, t = masks[n, q].flatten(), truth[m].flatten()
                s = p.sigmoid()
                b = F.binary_cross_entropy_with_logits(p, t)
                return b, 1 - (2 * (s * t).sum() + 1) / (s.sum() + t.sum() + 1)

            def cost(order, n=n, logits=logits, classes=classes, pair=pair):
                total = 0.0
                for m, q in enumerate(order):
                    b, d = pair(q, m)
                    total += -2 * logits[n, q].softmax(-1)[classes[m]] + 5 * b + 5 * d
                return total

            order = min(itertools.permutations(range(logits.shape[1]), len(classes)), key=cost)
            wanted = [3] * logits.shape[1]
            for m, q in enumerate(order):
                wanted[q] = classes[m]
                b, d = pair(q, m)
                bce, dice = bce + b, dice + d
            for q, c in enumerate(wanted):
                w = 0.1 if c == 3 else 1.0
                ce, weight = ce + w * -logits[n, q].log_softmax(-1)[c], weight + w
        suffix = "" if layer == len(predictions) - 1 else f"_{layer}"
        result[f"loss_ce{suffix}"] = ce / weight
        result[f"loss_mask{suffix}"] = bce / num_masks
        result[f"loss_dice{suffix}"] = dice / num_masks
    return result


def test_losses_on_all_cells_equal_the_oracle():
    predictions, labels = make_predictions(3), label_maps()
    targets = Targets.from_label_maps(labels, ignore_label=IGNORE, device=torch.device("cpu"))
    ours, wanted = make_criterion()(predictions, targets), oracle(predictions, labels)
    assert ours.keys() == wanted.keys()
    for name in wanted:
        assert torch.allclose(ours[name], wanted[name], rtol=1e-5), name


def test_many_points_approach_all_cells():
    coarse, labels = make_predictions(3, size=3), label_maps()
    # Smooth masks: between cells points see interpolated logits.
    smooth = F.interpolate(coarse.mask_features, size=(64, 64), mode="bilinear")
    predictions = Predictions(logits=coarse.logits, mask_embeds=coarse.mask_embeds, mask_features=smooth)
    targets = Targets.from_label_maps(
        labels.repeat_interleave(4, 1).repeat_interleave(4, 2), ignore_label=IGNORE, device=torch.device("cpu")
    )
    criterion = make_criterion(num_points=20000)
    criterion.importance_ratio = 0.0  # uniform points estimate the mean over the image
    grid = targets.on_grid((64, 64)).flatten(2)
    pairs = criterion.match(predictions, targets, grid)
    ours = criterion._mask_losses(predictions, pairs, targets, None)
    wanted = criterion._mask_losses(predictions, pairs, targets, grid)
    for name in wanted:
        # 20000 random points: about 1 % of noise
        assert torch.allclose(ours[name], wanted[name], rtol=0.03), name


def test_targets_hold_one_mask_per_class_present():
    targets = Targets.from_label_maps(label_maps(), ignore_label=IGNORE, device=torch.device("cpu"))
    assert targets.counts == [3, 1, 1]
    assert targets.classes.tolist() == [[0, 1, 2], [2, 0, 0], [1, 0, 0]]
    assert targets.masks[0, 1].sum() == 56 and targets.masks[1, 1:].sum() == 0


def test_matched_masks_are_rows_of_all_masks_with_the_same_gradient():
    predictions = make_predictions(3)
    features = predictions.mask_features.requires_grad_()
    targets = Targets.from_label_maps(label_maps(), ignore_label=IGNORE, device=torch.device("cpu"))
    pairs = make_criterion().match(predictions, targets, targets.on_grid((8, 8)).flatten(2))
    weight = torch.randn(len(pairs.query), 8, 8)
    dense = torch.stack([predictions.masks(i) for i in range(2)])[pairs.prediction, pairs.frame, pairs.query]
    ours = predictions.matched_masks(pairs)
    # float32 rounding of a sum over 6 products
    assert torch.allclose(ours, dense, atol=1e-5)
    (wanted,) = torch.autograd.grad((dense * weight).sum(), features)
    (grad,) = torch.autograd.grad((ours * weight).sum(), features)
    assert torch.allclose(grad, wanted, atol=1e-5)


def test_sampling_many_queries_equals_sampling_each():
    coords = torch.cat(
        (torch.rand(2, 300, 2), torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).expand(2, -1, -1)), 1
    )
    masks = torch.randn(2, 5, 7, 9)
    for stored in (masks, masks.to(memory_format=torch.channels_last)):
        # float32 rounding of a sum of four products of numbers below 5
        assert torch.allclose(sample_all_queries(stored, coords), sample_points(masks, coords), atol=2e-6)


def test_targets_are_read_at_the_points_of_their_own_pair():
    targets = Targets.from_label_maps(label_maps(), ignore_label=IGNORE, device=torch.device("cpu"))
    # Two queries only, so that one of the three targets of the first frame stays without one.
    predictions = make_predictions(3, queries=2)
    pairs = make_criterion().match(predictions, targets, targets.on_grid((8, 8)).flatten(2))
    coords = torch.rand(len(pairs.query), 11, 2)
    ours = targets.at_points(pairs, coords, len(predictions))
    for row, (frame, target) in enumerate(zip(pairs.frame, pairs.target, strict=True)):
        mask = targets.masks[frame, target].float()[None, None]
        assert torch.equal(ours[row : row + 1], sample_points(mask, coords[row : row + 1])[0])


def test_a_frame_without_classes_only_teaches_no_object():
    labels = torch.full((1, 16, 16), IGNORE)
    targets = Targets.from_label_maps(labels, ignore_label=IGNORE, device=torch.device("cpu"))
    for points in (0, 50):
        losses = make_criterion(points)(make_predictions(1), targets)
        assert losses["loss_mask"] == 0 and losses["loss_dice"] == 0 and losses["loss_ce"] > 0


def test_weigh_multiplies_by_the_weight_of_its_kind():
    values = make_criterion().weigh({"loss_ce_0": torch.tensor(1.0), "loss_mask": torch.tensor(1.0)})
    assert {name: value.item() for name, value in values.items()} == {"loss_ce_0": 2.0, "loss_mask": 5.0}


def test_predictions_that_are_not_finite_stop_with_a_reason():
    predictions = make_predictions(1)
    predictions.mask_features[0, 0, 0, 0] = float("nan")
    targets = Targets.from_label_maps(label_maps()[:1], ignore_label=IGNORE, device=torch.device("cpu"))
    with pytest.raises(FloatingPointError, match="SOLVER.BASE_LR"):
        make_criterion()(predictions, targets)
