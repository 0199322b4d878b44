"""A training step: forward, losses, backward, AdamW, as the trainer does them."""

import argparse
from collections.abc import Callable, Sequence

import torch
from detectron2.config import CfgNode

from ska_vct.engine.trainer import Trainer

from .clips import make_clips
from .subject import Subject, add_precision, add_sizes, autocast, case_cfg, precision_label
from .work import Case, Clock, Work


class TrainingSubject(Subject):
    name = "train"
    help = "a training step, and its peak memory"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_sizes(parser, batch=1)
        parser.add_argument(
            "--annotated", type=int, default=0, metavar="N", help="frames with ground truth; default: the subset's"
        )
        add_precision(parser)

    def options(self, args: argparse.Namespace) -> Sequence[tuple[str, dict]]:
        sizes = {"batch": args.batch, "frames": args.frames, "annotated": args.annotated}
        return [(precision_label(amp, args.amp), {**sizes, "amp": amp}) for amp in args.amp]

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        options = case.options
        clips = make_clips(
            cfg, clips=options["batch"], frames=options["frames"], annotated=options["annotated"], train=True
        )
        frames = sum(int(clip["mask_valid"].sum()) for clip in clips)
        return Work(run=training_step(cfg, clips, options["amp"]), clips=len(clips), frames=frames)


def training_step(cfg: CfgNode, clips: list[dict], amp: str = "off") -> Callable[[Clock], None]:
    """A function that trains a new model of ``cfg`` on ``clips`` by one step per call.

    Args:
        cfg: the config; its weights are not loaded.
        clips: the batch.
        amp: ``off``, ``bf16`` or ``fp16``; the last with a gradient scaler.
    """
    model = Trainer.build_model(cfg).train()
    optimizer = Trainer.build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler(cfg.MODEL.DEVICE, enabled=amp == "fp16")

    def step(clock: Clock) -> None:
        with clock("forward"), autocast(cfg.MODEL.DEVICE, amp):
            loss = sum(model(clips).values())
        with clock("backward"):
            # After the forward pass, as Detectron2's trainer does it.
            optimizer.zero_grad()
            scaler.scale(loss).backward()
        with clock("optimizer"):
            scaler.step(optimizer)
            scaler.update()

    return step
