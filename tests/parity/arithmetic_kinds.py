"""Parity of matcher, criterion, scores and semantic inference."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ska_vct.evaluation import conventions, metrics
from ska_vct.modeling.inference import segment
from ska_vct.modeling.inference import semantic_inference as semantic_maps
from ska_vct.modeling.losses import mask_losses as loss_functions
from ska_vct.modeling.losses.criterion import SetCriterion
from ska_vct.modeling.losses.mask_losses import most_uncertain_points, sample_points
from ska_vct.modeling.losses.matcher import Assignment, MatchingCost, assign
from ska_vct.modeling.losses.prototypes import PrototypeAlignment
from ska_vct.modeling.losses.targets import Targets

from .golden import Golden, Row, compare

OVERSAMPLE, IMPORTANCE, NO_OBJECT = 3.0, 0.75, 0.1


def read_targets(golden: Golden, prefix: str) -> Targets:
    """``in/target{i}/labels`` and ``masks`` of a case, padded to a block."""
    frames = sum(name.endswith("/labels") for name in golden.names(f"{prefix}in/target"))
    labels = [golden[f"{prefix}in/target{i}/labels"] for i in range(frames)]
    masks = [golden[f"{prefix}in/target{i}/masks"].bool() for i in range(frames)]
    most = max(1, *map(len, labels)) if frames > 1 else max(1, len(labels[0]))
    classes = torch.zeros(frames, most, dtype=torch.int64)
    block = torch.zeros(frames, most, *masks[0].shape[-2:], dtype=torch.bool)
    for i, (label, mask) in enumerate(zip(labels, masks, strict=True)):
        classes[i, : len(label)], block[i, : len(label)] = label, mask
    return Targets(classes=classes, masks=block, counts=[len(label) for label in labels])


def cases(golden: Golden, marker: str) -> list[str]:
    """Names of the cases that hold an array ``{case}/{marker}``, in the file's order."""
    return list(dict.fromkeys(name.split("/")[0] for name in golden.names() if f"/{marker}" in name))


def matcher(golden: Golden) -> Iterable[Row]:
    """Costs and assignment of every frame of every case."""
    cost_of = MatchingCost(**{f"{part}_weight": golden.cfg[f"cost_{part}"] for part in ("class", "mask", "dice")})
    for case in cases(golden, "in/pred_logits"):
        prefix = f"{case}/"
        logits, masks = golden[f"{prefix}in/pred_logits"], golden[f"{prefix}in/pred_masks"]
        targets = read_targets(golden, prefix)
        coords = torch.cat([golden[f"{prefix}rand/coords{i}"] for i in range(len(logits))])
        predicted, truth = sample_points(masks, coords), sample_points(targets.masks.float(), coords)
        costs = {
            "cost_mask": loss_functions.pairwise_mask_cost(predicted, truth),
            "cost_dice": loss_functions.pairwise_dice_cost(predicted, truth),
            "cost_class": loss_functions.pairwise_class_cost(logits, targets.classes),
            "cost": cost_of(logits, predicted, targets.classes, truth),
        }
        pairs = assign(costs["cost"][None], targets.counts)
        for i, count in enumerate(targets.counts):
            for name, cost in costs.items():
                yield compare(f"{prefix}out/{name}{i}", cost[i, :, :count], golden[f"{prefix}out/{name}{i}"])
            here = pairs.frame == i
            yield compare(f"{prefix}out/src{i}", pairs.query[here], golden[f"{prefix}out/src{i}"])
            yield compare(f"{prefix}out/tgt{i}", pairs.target[here], golden[f"{prefix}out/tgt{i}"])


@dataclass(frozen=True)
class DensePredictions:
    """Predictions of a file that holds masks rather than what they are made of."""

    logits: Tensor
    dense: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def mask_size(self) -> tuple[int, int]:
        return tuple(self.dense[0].shape[-2:])

    def masks(self, index: int) -> Tensor:
        return self.dense[index]

    def matched_masks(self, pairs: Assignment) -> Tensor:
        return torch.stack(self.dense)[pairs.prediction, pairs.frame, pairs.query]


class _FixedCriterion(SetCriterion):
    """A criterion that draws the file's points; layers in our order, the last prediction last."""

    def __init__(self, golden: Golden, prefix: str, layers: list[str], frames: int, **kwargs):
        super().__init__(**kwargs)
        stored = {"oversample": "sampler_over", "random": "sampler_random"}
        self.draws = {
            purpose: iter([torch.cat([golden[f"{prefix}rand/{layer}/{name}"] for layer in layers])])
            for purpose, name in stored.items()
        }
        self.draws["match"] = iter(
            [torch.cat([golden[f"{prefix}rand/{layer}/matcher{i}"] for i in range(frames)]) for layer in layers]
        )

    def uniform(self, purpose: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        drawn = next(self.draws[purpose])
        if tuple(drawn.shape) != tuple(shape):
            raise ValueError(
                f"The file holds {tuple(drawn.shape)} points for '{purpose}', ours needs {tuple(shape)}."
            )
        return drawn


def criterion(golden: Golden) -> Iterable[Row]:
    """Losses, their weighted sum and its gradients; the point sampler alone."""
    yield from _sampler(golden)
    for case in cases(golden, "in/final/pred_logits"):
        # A case in which the published code raises has nothing to compare.
        if f"{case}/out/loss_ce" in golden:
            yield from _criterion_case(golden, f"{case}/")


def _sampler(golden: Golden) -> Iterable[Row]:
    if "sampler/in/logits" not in golden:
        return
    maps, random = golden["sampler/in/logits"], golden["sampler/rand/random"]
    wanted = golden["sampler/out/coords"]
    chosen = most_uncertain_points(maps[:, 0], golden["sampler/rand/over"], wanted.shape[1] - random.shape[1])
    coords = torch.cat((chosen, random), 1)
    yield compare("sampler/out/coords (as a set)", _left_to_right(coords), _left_to_right(wanted))
    yield compare("sampler/out/point_sample", sample_points(maps, wanted), golden["sampler/out/point_sample"])


def _left_to_right(coords: Tensor) -> Tensor:
    return coords.gather(1, coords[..., :1].argsort(1).expand_as(coords))


def _supervised_rows(golden: Golden, prefix: str, frames: int, targets: int) -> Tensor:
    """Frames that carry ground truth: by flag where there is one, else the first of every clip."""
    flag = f"{prefix}in/gt_temporal_mask_flag"
    if flag in golden:
        return (golden[flag] > 0).nonzero()[:, 0]
    return torch.arange(0, frames, frames // targets)


def _criterion_case(golden: Golden, prefix: str) -> Iterable[Row]:
    count = len({name.split("/")[2] for name in golden.names(f"{prefix}in/aux")})
    layers = [*(f"aux{i}" for i in range(count)), "final"]
    leaves = {
        f"{layer}/{kind}": golden[f"{prefix}in/{layer}/{kind}"].requires_grad_()
        for layer in layers
        for kind in ("pred_logits", "pred_masks")
    }
    targets = read_targets(golden, prefix)
    frames, _, classes = leaves["final/pred_logits"].shape
    rows = _supervised_rows(golden, prefix, frames, len(targets.counts))
    weights = json.loads(golden.text(f"{prefix}weight_dict"))
    ours = _FixedCriterion(
        golden,
        prefix,
        layers,
        len(targets.counts),
        num_classes=classes - 1,
        weights={name: weights[name] for name in ("loss_ce", "loss_mask", "loss_dice")},
        no_object_weight=NO_OBJECT,
        num_points=int(golden[f"{prefix}num_points"]),
        oversample_ratio=OVERSAMPLE,
        importance_ratio=IMPORTANCE,
        deep_supervision=True,
    )
    predictions = DensePredictions(
        logits=torch.stack([leaves[f"{layer}/pred_logits"][rows] for layer in layers]),
        dense=tuple(leaves[f"{layer}/pred_masks"][rows] for layer in layers),
    )
    values = ours(predictions, targets)
    total = sum(ours.weigh(values).values())
    if f"{prefix}in/audio_feat" in golden:
        values["loss_proto"], more = _prototype_loss(golden, prefix, rows, targets)
        leaves |= more
        total = total + weights["loss_proto"] * values["loss_proto"]
    yield from (
        compare(f"{prefix}out/{name}", value, golden[f"{prefix}out/{name}"]) for name, value in values.items()
    )
    total.backward()
    # The consistency of neighbouring frames has weight 0 in the published recipes and is no part of ours.
    if not any("loss_cosine" in name for name in golden.names(f"{prefix}out/")):
        yield compare(f"{prefix}out_total_weighted", total, golden[f"{prefix}out_total_weighted"])
    for name, leaf in leaves.items():
        grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        yield compare(f"{prefix}grad/{name}", grad, golden[f"{prefix}grad/{name}"])


def _prototype_loss(
    golden: Golden, prefix: str, rows: Tensor, targets: Targets
) -> tuple[Tensor, dict[str, Tensor]]:
    audio, prototypes = (golden[f"{prefix}in/{name}"].requires_grad_() for name in ("audio_feat", "proto_feat"))
    sounding = torch.zeros(len(rows), prototypes.shape[1])
    if f"{prefix}in/category_labels" in golden:
        sounding[torch.arange(len(rows)), golden[f"{prefix}in/category_labels"] - 1] = 1
    else:
        for i, frame_count in enumerate(targets.counts):
            sounding[i, targets.classes[i, :frame_count]] = 1
    alignment = PrototypeAlignment(dim=audio.shape[-1])
    with torch.no_grad():
        alignment.logit_scale.copy_(golden[f"{prefix}state/logit_scale"])
    loss = alignment.loss(audio[rows], prototypes[rows], sounding)
    return loss, {"audio_feat": audio, "proto_feat": prototypes, "logit_scale": alignment.logit_scale}


def metrics_kind(golden: Golden) -> Iterable[Row]:
    """Binary and semantic scores."""
    yield compare("thresholds", metrics.thresholds(), golden["thresholds"])
    binary = sorted({name.split("/")[1] for name in golden.names("binary/")})
    for case in binary:
        prefix = f"binary/{case}/"
        prob, mask = golden[f"{prefix}pred"], golden[f"{prefix}gt"]
        measure = metrics.f_measure(prob, mask)
        scores = {
            "vct_mask_iou": metrics.mask_iou(prob, mask).clip,
            "vct_Eval_Fmeasure": measure.clip,
            "prec": measure.precision,
            "recall": measure.recall,
        }
        for name, value in scores.items():
            yield compare(prefix + name, value, golden[prefix + name])
    yield from _evaluator(golden)
    yield from _semantic(golden)


def _evaluator(golden: Golden) -> Iterable[Row]:
    videos = len(golden.names("evaluator/sem_seg_"))
    stats = []
    for i in range(videos):
        prob = golden[f"evaluator/sem_seg_{i}"].softmax(1)[:, 1]
        yield compare(f"evaluator/probs_{i}", prob, golden[f"evaluator/probs_{i}"])
        stats.append(metrics.binary_stats(prob, golden[f"evaluator/gt_{i}"]))
    if stats:
        scores = conventions.reduce_binary(stats)
        yield compare("evaluator/mIoU", scores["M_J"], golden["evaluator/mIoU"])
        yield compare("evaluator/F", scores["M_F"], golden["evaluator/F"])


def _semantic(golden: Golden) -> Iterable[Row]:
    names = dict.fromkeys(name.split("/")[1] for name in golden.names("color/") if name.endswith("/pred"))
    everything = []
    for case in names:
        prefix = f"color/{case}/"
        scores = golden[f"{prefix}pred"]
        prediction = scores.argmax(1)
        yield compare(f"{prefix}argmax", prediction, golden[f"{prefix}argmax"])
        stats = metrics.semantic_stats(prediction, golden[f"{prefix}gt"].long(), scores.shape[1])
        everything.append(stats)
        for name, value in zip(("iou_sum", "fscore_sum", "cls_count"), conventions.class_sums(stats), strict=True):
            yield compare(f"{prefix}vct_{name}", value, golden[f"{prefix}vct_{name}"])
        table, iou, f = conventions.reduce_semantic([stats])
        finals = {
            "final_miou": table["mIoU"],
            "final_fscore": table["F"],
            "final_miou_noBg_last_dropped": iou[:-1].mean(),
            "final_fscore_noBg_last_dropped": f[:-1].mean(),
        }
        for name, value in finals.items():
            yield compare(prefix + name, value, golden[prefix + name])
    if "color/dataset/miou" in golden:
        table, _, _ = conventions.reduce_semantic(everything)
        yield compare("color/dataset/miou", table["mIoU"], golden["color/dataset/miou"])
        yield compare("color/dataset/fscore", table["F"], golden["color/dataset/fscore"])


def semantic_inference(golden: Golden) -> Iterable[Row]:
    """Queries -> semantic maps, and the way from mask features to 224 x 224."""
    for case in cases(golden, "in/logits"):
        logits, masks = golden[f"{case}/in/logits"][None], golden[f"{case}/in/masks"][None]
        maps = semantic_maps(logits, masks)[0]
        yield compare(f"{case}/out/semantic_inference", maps, golden[f"{case}/out/semantic_inference"])
        # Frames that do not exist are multiplied by 0 in the published code and never computed in ours.
        kept = f"{case}/out/semantic_inference_ss_flag1"
        if kept in golden:
            yield compare(kept, maps, golden[kept])
        for name in golden.names(f"{case}/out/tail_crop"):
            # e.g. tail_crop90x100_224: image of 90 x 100 inside the padding, result of 224 x 224
            size, output = name.rsplit("tail_crop", 1)[1].split("_")
            result = segment(
                logits,
                masks,
                padded_size=tuple(4 * side for side in masks.shape[-2:]),
                image_size=tuple(map(int, size.split("x"))),
                output_size=(int(output), int(output)),
            )
            yield compare(name, result[0, :, ::4, ::4], golden[name])
