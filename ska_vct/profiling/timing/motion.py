"""The share of the motion module, of features marked with its map and of auxiliary losses in a training step."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ska_vct.engine.trainer import Trainer
from ska_vct.modeling.losses.auxiliary import LossInputs, add_losses
from ska_vct.modeling.losses.targets import Targets
from ska_vct.structures import IGNORE_LABEL

from .clips import make_clips
from .subject import autocast, case_cfg
from .training import TrainingSubject, training_step
from .turns import Measurement
from .work import TOTAL, BenchmarkError, Case, Clock, Work

_MOTION = "motion alone"


class MotionSubject(TrainingSubject):
    name = "motion"

    def build(self, case: Case) -> Work:
        """
        Raises:
            BenchmarkError: the model has no motion module.
        """
        cfg = case_cfg(case)
        options = case.options
        clips = make_clips(
            cfg, clips=options["batch"], frames=options["frames"], annotated=options["annotated"], train=True
        )
        model = Trainer.build_model(cfg).train()
        if model.ska is None:
            raise BenchmarkError(f"{case.config_file} has no motion module: set MODEL.SKA.ENABLED True.")
        step = training_step(cfg, clips, options["amp"], model=model)
        batch = model.collate(clips)
        targets = Targets.from_label_maps(batch.labels, ignore_label=IGNORE_LABEL, device=model.device)
        with torch.no_grad(), autocast(case.device, options["amp"]):
            outputs = model.predict(batch, all_layers=True)

        def motion() -> None:
            with autocast(case.device, options["amp"]):
                prompt = model.motion_prompt(outputs.audio_grid, batch)
                results = [prompt.motion_map, prompt.retrieved]
                if model.map_features is not None:
                    features, keys = model.map_features(prompt, outputs.mask_features, outputs.scales)
                    results += [features, *(key for key in keys if key is not None)]
                losses: dict[str, torch.Tensor] = {}
                inputs = LossInputs(
                    clips=clips, batch=batch, targets=targets, outputs=replace(outputs, prompt=prompt)
                )
                add_losses(losses, model.losses, inputs)
                total = sum(x.float().sum() for x in [*results, *losses.values()])
            total.backward()

        def run(clock: Clock) -> None:
            with clock(TOTAL):
                step(Clock(torch.device(case.device)))
            with clock(_MOTION):
                motion()

        frames = sum(int(clip["mask_valid"].sum()) for clip in clips)
        return Work(run=run, clips=len(clips), frames=frames)

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        return [
            f"{found.case.name}: motion / training step = {found.median(_MOTION) / found.median():.2%}"
            for found in measurements
        ]
