"""SKA-VCT, built as ``tools/train_net.py`` builds it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ska_vct.checkpoint.loading import load_into
from ska_vct.engine.optim import build_optimizer
from ska_vct.engine.setup import load_cfg
from ska_vct.engine.trainer import Trainer, build_step
from ska_vct.evaluation.metrics import f_measure
from ska_vct.modeling.layers import MSDeformAttn
from ska_vct.modeling.losses.criterion import SetCriterion
from ska_vct.modeling.losses.matcher import Assignment
from ska_vct.modeling.losses.targets import Targets
from ska_vct.modeling.predictions import Predictions
from ska_vct.structures import IGNORE_LABEL
from ska_vct.utils.cpu import compute_on_cpu

from . import inputs

_ROOT = Path(__file__).resolve().parents[2]
_AS_VCT = ("MODEL.SKA.ENABLED", "False", "MODEL.MPQG.MOTION", "False", "MODEL.BRM.ENABLED", "False")
# Parameters of ours without a counterpart in VCT.
_BEYOND_VCT = ("ska.", "mpqg.motion_gate", "mpqg.retrieved_proj.", "brm.")


@dataclass(frozen=True)
class FinishedMasks(Predictions):
    """Predictions with precomputed masks, (N, Q, h, w) each; embeddings and features have only sizes."""

    finished: list[Tensor]

    def masks(self, index: int) -> Tensor:
        """Mask logits of one prediction."""
        return self.finished[index]

    def matched_masks(self, pairs: Assignment) -> Tensor:
        """Mask logits of matched queries, in the order of the pairs and thus of the predictions."""
        parts = pairs.frame.chunk(len(self)), pairs.query.chunk(len(self))
        return torch.cat([mask[frame, query] for mask, frame, query in zip(self.finished, *parts, strict=True)])


class Ours:
    """SKA-VCT, which is VCT when its own modules are off."""

    def __init__(
        self, *, device: str, backbone: str, pre_mask: bool, full: bool, weights: str | None, overrides: list[str]
    ):
        """
        Args:
            device: cpu or cuda.
            backbone: key of ``inputs.BACKBONES``.
            pre_mask: whether the model has the siamese encoder of segment pictures.
            full: with SKA, motion prompt and BRM; without them the model is VCT.
            weights: file with the published model's state, which is loaded strictly.
            overrides: further changes to the config, pairs of key and value.
        """
        self.device = device
        self.backbone = backbone
        self.pre_mask = pre_mask
        self.full = full
        self.weights = weights
        self.overrides = overrides
        if device == "cpu":
            compute_on_cpu()  # as prepare_run does

    def _cfg(self, subset: str, *, amp: bool = False):
        overrides = ["MODEL.DEVICE", self.device, "MODEL.PRE_MASK.ENABLED", str(self.pre_mask)]
        overrides += [] if self.full else _AS_VCT
        for key, value in inputs.BACKBONES[self.backbone].items():
            overrides += [f"MODEL.SWIN.{key}", str(value)]
        overrides += ["SOLVER.AMP.ENABLED", str(amp)]
        return load_cfg(_ROOT / "configs" / subset / "swin_b_384.yaml", [*overrides, *self.overrides])

    def model(self, subset: str, *, amp: bool = False) -> tuple[nn.Module, Callable]:
        """The model of ``subset``'s config with the published weights, and its trainer."""
        cfg = self._cfg(subset, amp=amp)
        torch.manual_seed(inputs.SEED)
        model = Trainer.build_model(cfg)
        state = torch.load(self.weights, map_location="cpu", weights_only=True, mmap=True)
        load_into(model, state, path=self.weights, lacks=_BEYOND_VCT if self.full else ())
        return model, lambda batches: build_step(cfg, model, batches, build_optimizer(cfg, model))

    def batch(self, clips: list[dict]) -> list[dict]:
        """Clips as ``ska_vct.structures.clip`` describes them."""
        result = []
        for index, clip in enumerate(clips):
            annotated = len(clip["masks"])
            masks = torch.full((inputs.FRAMES, inputs.SIDE, inputs.SIDE), IGNORE_LABEL)
            masks[:annotated] = clip["masks"].long()
            result.append(
                {name: clip[name] for name in ("images", "pre_masks", "log_mel", "flow", "category")}
                | {
                    "masks": masks,
                    "frame_valid": torch.ones(inputs.FRAMES, dtype=torch.bool),
                    "mask_valid": torch.arange(inputs.FRAMES) < annotated,
                    "clip_id": f"random/{index}",
                    "height": inputs.EVAL_SIDE,
                    "width": inputs.EVAL_SIDE,
                }
            )
        return result

    def maps(self, model: nn.Module, batch: list[dict]) -> Tensor:
        """Semantic maps of all frames: (N, K, 224, 224)."""
        return torch.cat([result["sem_seg"] for result in model(batch)])

    def backbones(self, model: nn.Module, images: Tensor) -> None:
        """Every backbone's forward pass."""
        model.backbone(images)
        if self.pre_mask:
            model.pre_mask_encoder.backbone(images)

    def criterion(self, num_clips: int, *, makes_masks: bool) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """The sum of MS3's weighted losses, and the tensors that get a gradient.

        Args:
            num_clips: of five frames.
            makes_masks: whether masks are made of embeddings, as our criterion does, or there beforehand.
        """
        parts = inputs.make_predictions(num_clips)
        if makes_masks:
            leaves = [part.to(self.device).requires_grad_() for part in parts]
            predictions = Predictions(*leaves)
        else:
            given = [mask.to(self.device).requires_grad_() for mask in inputs.make_masks(parts)]
            logits = parts[0].to(self.device).requires_grad_()
            leaves = [logits, *given]
            predictions = FinishedMasks(logits, parts[1], parts[2], given)
        criterion = SetCriterion(self._cfg("ms3")).to(self.device)
        clips = self.batch(inputs.make_clips(num_clips, annotated=inputs.FRAMES))
        labels = torch.cat([clip["masks"] for clip in clips])
        device = torch.device(self.device)

        def total() -> Tensor:
            targets = Targets.from_label_maps(labels, ignore_label=IGNORE_LABEL, device=device)
            return sum(criterion.weigh(criterion(predictions, targets)).values())

        return total, leaves

    def f_score(self) -> Callable[[], float]:
        """M_F of one clip."""
        prob, mask = (part.to(self.device) for part in inputs.make_scored_clip())
        return lambda: f_measure(prob, mask).clip

    def attention(self, num_clips: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """One deformable attention, and the tensors that get a gradient."""
        given = inputs.make_attention(num_clips)
        module = MSDeformAttn(dim=256, num_levels=3, num_heads=8, num_points=4)
        module.load_state_dict(given["state"])
        module.to(self.device)
        query, memory, reference = (given[name].to(self.device) for name in ("query", "memory", "reference"))
        leaves = [query.requires_grad_(), memory.requires_grad_(), *module.parameters()]
        return lambda: module(query, reference, memory, inputs.LEVELS), leaves

    def facts(self) -> dict[str, str]:
        """No facts beyond the configs."""
        return {}
