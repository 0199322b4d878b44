"""Parity of the head and of the whole model with the motion prompt off: ours is then VCT."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor, nn

from ska_vct.checkpoint.convert.vct import from_vct
from ska_vct.modeling.backbones import SwinBackbone
from ska_vct.modeling.losses.criterion import SetCriterion
from ska_vct.modeling.meta_arch import SKAVCT
from ska_vct.modeling.pre_mask_encoder import PreMaskEncoder
from ska_vct.modeling.queries import mpqg as mpqg_module

from .golden import Golden, Row, compare, compare_all, load_all
from .parts import FEATURES, build_head_parts

_PREFIX = "sem_seg_head."
# Kept in the criterion of the published model, in the alignment of ours.
_SCALE = "prototype_alignment.logit_scale"


def vct_head(golden: Golden) -> Iterable[Row]:
    """The head: features and sound -> predictions; gradients too for ``_train`` files."""
    if "gumbel_noise" in golden:
        return _head_training(golden, golden.beside(golden.cfg["state"]))
    return _head_inference(golden)


def _build_head(golden: Golden) -> nn.ModuleDict:
    state = from_vct({_PREFIX + name: value for name, value in golden.state().items()}).state
    channels = {name: golden[f"in/{name}"].shape[1] for name in FEATURES}
    head = nn.ModuleDict(build_head_parts(state, golden.cfg, channels))
    # The file begins behind VGGish's convolutions.
    head["audio_encoder"].backbone = nn.Identity()
    load_all(head, state, absent=(_SCALE,))
    return head


def _run_head(head: nn.ModuleDict, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """All outputs in the file's names and axis orders."""
    audio_grid = head["audio_encoder"].embed(inputs["audio"])
    mask_features, scales = head["pixel_decoder"]({name: inputs[name] for name in FEATURES})
    queries = head["mpqg"](mask_features)
    predictions = head["decoder"](queries, audio_grid, scales, mask_features, all_layers=True)
    last = len(predictions) - 1
    outputs = {}
    for index, logits in enumerate(predictions.logits):
        masks = predictions.masks(index)
        name = "" if index == last else f"aux{index}/"
        outputs[f"{name}pred_logits"], outputs[f"{name}pred_masks"] = logits, masks
    if "prototype_alignment" in head:
        audio, prototypes = head["prototype_alignment"].embed(audio_grid, head["mpqg"].prototypes.weight)
        outputs["audio_feat"] = audio
        outputs["proto_feat"] = prototypes.expand(len(audio), -1, -1)
    return outputs


def _head_inference(golden: Golden) -> Iterable[Row]:
    head = _build_head(golden).eval()
    with torch.no_grad():
        yield from compare_all(_run_head(head, golden.under("in/")), golden, "out/")


def _head_training(golden: Golden, source: Golden) -> Iterable[Row]:
    """Rows of the run that agrees best.

    A ReLU's gradient jumps where its input is zero but for rounding, and the order of a sum, which follows the
    number of threads, decides on which side it falls. A wrong gradient is wrong in every order and in float64.
    """
    threads = torch.get_num_threads()
    best: list[Row] = []
    try:
        for dtype, count in ((torch.float32, threads), (torch.float32, 2), (torch.float32, 1), (torch.float64, 1)):
            torch.set_num_threads(count)
            rows = list(_training_rows(golden, source, dtype))
            if not best or max(row.relative for row in rows) < max(row.relative for row in best):
                best = rows if dtype == torch.float32 else [replace(r, name=f"{r.name} [float64]") for r in rows]
            if all(row.ok for row in best):
                break
    finally:
        torch.set_num_threads(threads)
    return best


def _training_rows(golden: Golden, source: Golden, dtype: torch.dtype) -> Iterable[Row]:
    head = _build_head(source).train().to(dtype)
    inputs = {name: value.to(dtype).requires_grad_() for name, value in source.under("in/").items()}
    noise = golden["gumbel_noise"][:, 0].to(dtype)
    with mock.patch.object(mpqg_module, "sample_gumbel", lambda shape, like: noise):
        outputs = _run_head(head, inputs)
    outputs = {f"final/{name}" if name.startswith("pred_") else name: value for name, value in outputs.items()}
    yield from (compare(f"out/{n}", v, golden[f"out/{n}"]) for n, v in outputs.items() if f"out/{n}" in golden)
    total = sum((outputs[name] * value).sum() for name, value in golden.under("cotangent/").items())
    yield compare("out_total", total, golden["out_total"])
    total.backward()
    yield from compare_all({name: value.grad for name, value in inputs.items()}, golden, "grad/in/")
    yield from _compare_parameter_gradients(head, golden, source)


def _compare_parameter_gradients(head: nn.ModuleDict, golden: Golden, source: Golden) -> Iterable[Row]:
    """Gradients in the published layout: query, key and value in one matrix, large ones thinned out."""
    grads = {name: parameter.grad for name, parameter in head.named_parameters()}
    # A layer's weight and bias are one output: a bias's gradient can cancel to nothing but rounding (a softmax
    # over queries does not see a constant), so only the layer's largest gradient tells how exact it can be.
    magnitude: dict[str, float] = defaultdict(float)
    for name in source.state():
        layer = name.rpartition(".")[0]
        magnitude[layer] = max(magnitude[layer], float(golden[f"grad/{name}"].abs().max()))
    # Sending numbered entries through the key map tells which of ours each published one became.
    for name, weight in source.state().items():
        numbered = torch.arange(weight.numel(), dtype=torch.float64).reshape(weight.shape)
        parts = from_vct({_PREFIX + name: numbered}).state
        grad = torch.cat([grads[part] for part in parts]) if len(parts) > 1 else grads[next(iter(parts))]
        wanted = golden[f"grad/{name}"]
        floor = magnitude[name.rpartition(".")[0]]
        if grad.numel() > 4096:
            grad = grad.flatten()[:: grad.numel() // 512][: len(wanted)]
        yield compare(f"grad/{name}", grad, wanted, floor=floor)
        if f"gradnorm/{name}" in golden:
            norm = torch.cat([grads[part].flatten() for part in parts]).norm()
            yield compare(f"gradnorm/{name}", norm, golden[f"gradnorm/{name}"], floor=floor)


def _build_model(golden: Golden, state: dict[str, Tensor]) -> SKAVCT:
    cfg = golden.cfg

    def backbone() -> SwinBackbone:
        return SwinBackbone(
            embed_dim=cfg["embed_dim"], depths=cfg["depths"], num_heads=cfg["num_heads"], window_size=cfg["window"]
        )

    visual = backbone()
    channels = {name: shape.channels for name, shape in visual.output_shape().items()}
    parts = build_head_parts(state, cfg, channels)
    parts["audio_encoder"].requires_grad_(False)
    return SKAVCT(
        backbone=visual,
        pre_mask_encoder=PreMaskEncoder(backbone=backbone(), reduction=16) if cfg["pre_sam"] else None,
        ska=None,
        brm=None,
        prototype_alignment=parts.pop("prototype_alignment", None),
        criterion=SetCriterion(
            num_classes=cfg["num_classes"],
            weights={"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0},
            no_object_weight=0.1,
            num_points=64,
            oversample_ratio=3.0,
            importance_ratio=0.75,
            deep_supervision=True,
        ),
        prototype_weight=1.0,
        boundary_weight=0.0,
        pixel_mean=golden["meta/pixel_mean"].flatten().tolist(),
        pixel_std=golden["meta/pixel_std"].flatten().tolist(),
        **parts,
    ).eval()


def vct_model(golden: Golden) -> Iterable[Row]:
    """The whole model on one clip."""
    published = golden.state()
    published |= {
        f"audio_backbone.features.{name}": value
        for name, value in golden.beside("vggish.npz").state("state/features.").items()
    }
    state = from_vct(published).state
    model = _build_model(golden, state)
    load_all(model, state)
    images = golden["in/images"]
    log_mel = golden["in/audio_log_mel"]
    if "in/vid_temporal_mask_flag" in golden:
        log_mel = log_mel[golden["in/vid_temporal_mask_flag"][: len(log_mel)] > 0]
    frames = len(images)
    size = 224
    clip = {
        "images": images,
        "log_mel": log_mel,
        "frame_valid": torch.ones(frames, dtype=torch.bool),
        "mask_valid": torch.zeros(frames, dtype=torch.bool),
        "clip_id": golden.path.name,
        "height": size,
        "width": size,
    }
    if "in/pre_masks" in golden:
        clip["pre_masks"] = golden["in/pre_masks"]
    with torch.no_grad():
        sem_seg = model([clip])[0]["sem_seg"]
    yield from _compare_semantic(sem_seg, golden)


def _compare_semantic(sem_seg: Tensor, golden: Golden) -> Iterable[Row]:
    """Whichever summaries of the semantic maps the file holds."""
    views = {
        "out/sem_seg": lambda: sem_seg,
        "out/evaluator_prob": lambda: sem_seg.softmax(1)[:, 1],
        "out/sem_seg_stride8": lambda: sem_seg[:, :, ::8, ::8],
        "out/sem_seg_frame0_classes_0_35_70": lambda: sem_seg[0, [0, 35, 70]],
        "out/sem_seg_spatial_mean": lambda: sem_seg.mean((2, 3)),
    }
    for name, view in views.items():
        if name in golden:
            yield compare(name, view(), golden[name])
    if "out/sem_seg_argmax" in golden:
        wanted = golden["out/sem_seg_argmax"].long()
        # A class within rounding of the best one is as good: the file says that near-ties occur.
        best = sem_seg.amax(1)
        chosen = sem_seg.gather(1, wanted[:, None])[:, 0]
        yield compare("out/sem_seg_argmax (score of the wanted class)", chosen, best)
