"""Clips in, semantic maps out; and how much of it is the backbone."""

import argparse
from collections.abc import Sequence
from itertools import product

import torch
from detectron2.modeling import build_model

from .clips import make_clips
from .subject import Subject, add_precision, add_sizes, autocast, case_cfg, precision_label
from .turns import Measurement
from .work import TOTAL, Case, Clock, Work

_BACKBONE = "backbones alone"
_MULTIPLE = 32


class InferenceSubject(Subject):
    name = "infer"
    help = "clips to semantic maps; total time over that of the backbones"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_sizes(parser, batch=1)
        add_precision(parser)
        parser.add_argument("--compile", action="store_true", help="torch.compile against eager")
        parser.add_argument(
            "--channels-last", action="store_true", help="weights in channels last, against as built"
        )

    def options(self, args: argparse.Namespace) -> Sequence[tuple[str, dict]]:
        result = []
        for amp, compiled, last in product(
            args.amp, (False, True)[: 1 + args.compile], (False, True)[: 1 + args.channels_last]
        ):
            words = [precision_label(amp, args.amp)]
            words += [("eager", "compiled")[compiled]] * args.compile
            words += [("as built", "channels last")[last]] * args.channels_last
            options = {"batch": args.batch, "frames": args.frames, "amp": amp}
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
