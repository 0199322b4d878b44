"""Compares the throughput of the data loader and of the training step."""

import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.catalog import load_records
from ska_vct.data.images.pre_masks import make_pre_masks
from ska_vct.engine.datasets import register_datasets, resolve_root
from ska_vct.engine.trainer import Trainer
from ska_vct.synth import SynthSettings, generate

from .clips import make_clips
from .subject import Subject, case_cfg, short_name
from .training import training_step
from .turns import Measurement
from .work import Case, Clock, Work

_STEP = "training step"
# Batches prefetched by each worker of PyTorch's loader.
_AHEAD = 2
# Minimum frame rate of synthetic videos.
_LEAST_FPS = 4


class LoaderSubject(Subject):
    name = "data"

    def __init__(self):
        self._folder: tempfile.TemporaryDirectory | None = None

    def options(
        self,
        *,
        device: str,
        workers: Sequence[int] = (0, 2),
        batch: int = 2,
        batches: int = 4,
        clips: int = 8,
        picture: int = 0,
        amp: str = "off",
        model: bool = True,
    ) -> Sequence[tuple[str, dict]]:
        """
        Args:
            workers: numbers of worker processes, one row each.
            batch: clips per batch.
            batches: batches per repetition.
            clips: clips in the synthetic dataset.
            picture: height of its images, pixels; 0 for that of ``INPUT.SIZE``.
            amp: precision of the training step, ``off``, ``bf16`` or ``fp16``.
            model: also time the training step.
        """
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ska_vct_benchmark_")
        shared = {
            "batch": batch, "batches": batches, "clips": clips, "picture": picture, "folder": self._folder.name,
        }  # fmt: skip
        rows = [(f"loader, {count} workers", {**shared, "workers": count}) for count in workers]
        return [*rows, (_STEP, {**shared, "amp": amp})] if model else rows

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        options = case.options
        cfg.SOLVER.IMS_PER_BATCH = options["batch"]
        if "workers" not in options:
            clips = make_clips(cfg, clips=options["batch"], train=True)
            frames = sum(len(clip["images"]) for clip in clips)
            return Work(run=training_step(cfg, clips, options["amp"]), clips=len(clips), frames=frames)
        cfg.DATALOADER.NUM_WORKERS = options["workers"]
        source = prepare_data(
            cfg, Path(options["folder"]), clips=options["clips"], size=options["picture"] or cfg.INPUT.SIZE[0]
        )

        def run(clock: Clock) -> None:
            batches = iter(Trainer.build_train_loader(cfg))
            # Discard prefetched batches, which would otherwise seem to take no time.
            for _ in range(1 + _AHEAD * options["workers"]):
                next(batches)
            with clock():
                for _ in range(options["batches"]):
                    next(batches)
            # Stop the workers, which would otherwise keep running while other rows are measured.
            del batches
            gc.collect()

        return Work(
            run=run, clips=options["batch"] * options["batches"], facts={"data": source}, whole_process=False
        )

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        loaders = [found for found in measurements if "workers" in found.case.options]
        lines = sorted({f"Data: {found.facts['data']}." for found in loaders})
        for step in (
            found for found in measurements if found.case.options not in [x.case.options for x in loaders]
        ):
            where = (step.case.config_file, step.case.opts)
            name = short_name(step.case.config_file)
            for loader in loaders:
                if (loader.case.config_file, loader.case.opts) != where:
                    continue
                loaded, trained = loader.clips_per_second, step.clips_per_second
                verdict = "limited by the model" if loaded >= trained else "limited by the loader"
                lines.append(
                    f"{name}, {loader.case.options['workers']} workers: {loaded:.2f} clips/s loaded, "
                    f"{trained:.2f} clips/s trained: {verdict} (ratio {loaded / trained:.2f})."
                )
        return lines


def prepare_data(cfg: CfgNode, folder: Path, *, clips: int, size: int) -> str:
    """Make ``cfg`` refer to an existing dataset: its own, else synthetic clips written to ``folder``.

    Returns:
        description of the dataset.
    """
    subset, split = cfg.DATASETS.SUBSET, "train"
    root = resolve_root(cfg)
    try:
        found = load_records(subset, split, root, pre_masks=cfg.MODEL.PRE_MASK.ENABLED)
    except (DatasetError, OSError):
        found = []
    source = f"{len(found)} clips of DATASETS.ROOT"
    if not found:
        size -= size % 2
        series = cfg.INPUT.FLOW.SERIES
        settings = SynthSettings(
            subset=subset, train=clips, val=0, test=0, size=size, series=series, fps=max(_LEAST_FPS, series)
        )
        # The processes of one benchmark share the dataset; they start one after another.
        generate(folder, settings, jobs=1, progress=False)
        source = f"{clips} synthetic clips of {size} x {size} pixels"
        root = folder
        if cfg.MODEL.PRE_MASK.ENABLED:
            out = folder / "segments"
            make_pre_masks(load_records(subset, split, root), _quarters, out)
            cfg.INPUT.PRE_MASK.ROOT = str(out)
    cfg.DATASETS.ROOT = str(root)
    register_datasets(cfg)
    cfg.DATASETS.TRAIN = (f"avsbench_{subset}_{split}",)
    return source


def _quarters(image: np.ndarray) -> list[np.ndarray]:
    """Split an image (H, W, 3) into four segments."""
    height, width = image.shape[:2]
    rows, columns = np.arange(height)[:, None] < height // 2, np.arange(width) < width // 2
    return [rows & columns, rows & ~columns, ~rows & columns, ~rows & ~columns]
