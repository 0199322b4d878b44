"""A training step as in the trainer: forward pass, losses, backward pass, AdamW."""

from collections.abc import Callable, Sequence

import torch
from detectron2.config import CfgNode
from torch import nn

from ska_vct.engine.trainer import Trainer

from .clips import make_clips
from .subject import Subject, autocast, case_cfg, precision_label
from .work import Case, Clock, Work


class TrainingSubject(Subject):
    name = "train"

    def options(
        self, *, device: str, batch: int = 1, frames: int = 0, annotated: int = 0, amp: Sequence[str] = ("off",)
    ) -> Sequence[tuple[str, dict]]:
        """
        Args:
            batch: clips per step.
            frames: frames per clip; 0 for the subset's.
            annotated: frames with ground truth; 0 for the subset's.
            amp: precisions, ``off``, ``bf16`` or ``fp16``.
        """
        sizes = {"batch": batch, "frames": frames, "annotated": annotated}
        return [(precision_label(precision, amp), {**sizes, "amp": precision}) for precision in amp]

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        options = case.options
        clips = make_clips(
            cfg, clips=options["batch"], frames=options["frames"], annotated=options["annotated"], train=True
        )
        frames = sum(int(clip["mask_valid"].sum()) for clip in clips)
        return Work(run=training_step(cfg, clips, options["amp"]), clips=len(clips), frames=frames)


def training_step(
    cfg: CfgNode, clips: list[dict], amp: str = "off", *, model: nn.Module | None = None
) -> Callable[[Clock], None]:
    """Create a function that trains a model on ``clips`` for one step per call.

    Args:
        cfg: the config; its weights are not loaded.
        clips: the batch.
        amp: ``off``, ``bf16`` or ``fp16`` (with a gradient scaler).
        model: of ``cfg``; None for a new one.
    """
    model = Trainer.build_model(cfg).train() if model is None else model
    optimizer = Trainer.build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler(cfg.MODEL.DEVICE, enabled=amp == "fp16")

    def step(clock: Clock) -> None:
        with clock("forward"), autocast(cfg.MODEL.DEVICE, amp):
            loss = sum(model(clips).values())
        with clock("backward"):
            # After the forward pass, as in Detectron2's trainer.
            optimizer.zero_grad()
            scaler.scale(loss).backward()
        with clock("optimizer"):
            scaler.step(optimizer)
            scaler.update()

    return step
