"""Inference from clips to semantic maps, and the share of the backbone."""

from collections.abc import Sequence
from itertools import product

import torch
from detectron2.modeling import build_model

from .clips import make_clips
from .subject import Subject, autocast, case_cfg, precision_label
from .turns import Measurement
from .work import TOTAL, Case, Clock, Work

_BACKBONE = "backbones alone"
_MULTIPLE = 32


class InferenceSubject(Subject):
    name = "infer"

    def options(
        self,
        *,
        device: str,
        batch: int = 1,
        frames: int = 0,
        amp: Sequence[str] = ("off",),
        compile: bool = False,
        channels_last: bool = False,
    ) -> Sequence[tuple[str, dict]]:
        """
        Args:
            batch: clips per call.
            frames: frames per clip; 0 for the subset's.
            amp: precisions, ``off``, ``bf16`` or ``fp16``.
            compile: also measure with ``torch.compile``.
            channels_last: also measure with channels-last weights.
        """
        precisions, result = amp, []
        for amp, compiled, last in product(
            precisions, (False, True)[: 1 + compile], (False, True)[: 1 + channels_last]
        ):
            words = [precision_label(amp, precisions)]
            words += [("eager", "compiled")[compiled]] * compile
            words += [("as built", "channels last")[last]] * channels_last
            options = {"batch": batch, "frames": frames, "amp": amp}
            result.append((" ".join(filter(None, words)), {**options, "compile": compiled, "channels_last": last}))
        return result

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        options = case.options
        clips = make_clips(cfg, clips=options["batch"], frames=options["frames"], train=False)
        frames = sum(len(clip["images"]) for clip in clips)
        model = build_model(cfg).eval()
        if options["channels_last"]:
            model = model.to(memory_format=torch.channels_last)
        backbones = [model.backbone]
        if model.pre_mask_encoder is not None:
            backbones.append(model.pre_mask_encoder.backbone)
        if options["compile"]:
            model, backbones = torch.compile(model), [torch.compile(backbone) for backbone in backbones]
        sides = [-(-side // _MULTIPLE) * _MULTIPLE for side in cfg.INPUT.SIZE]
        images = torch.randn(frames, 3, *sides, device=case.device)

        @torch.no_grad()
        def run(clock: Clock) -> None:
            with autocast(case.device, options["amp"]):
                with clock(TOTAL):
                    model(clips)
                with clock(_BACKBONE):
                    for backbone in backbones:
                        backbone(images)

        return Work(run=run, clips=len(clips), frames=frames, facts={"backbones": len(backbones)})

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        return [
            f"{found.case.name}: total / {'both backbones' if found.facts['backbones'] > 1 else 'backbone'} = "
            f"{found.median() / found.median(_BACKBONE):.2f}"
            for found in measurements
        ]
