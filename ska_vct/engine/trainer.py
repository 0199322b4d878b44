"""Training and evaluation on Detectron2's engine, with this package's data, model, evaluator and checkpoints."""

import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import DefaultTrainer, SimpleTrainer, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import JSONWriter
from torch import nn

from ska_vct.checkpoint.checkpointer import StrictCheckpointer
from ska_vct.config_files import portable_config
from ska_vct.data.flow.online import build_mapper
from ska_vct.evaluation import AVSEvaluator
from ska_vct.utils.errors import InputError

from .amp import MixedPrecisionTrainer, amp_dtype
from .data_check import check_datasets
from .hooks import BEST_NAME, BestCheckpointer, ProgressPrinter, StepStatistics
from .optim import apply_schedule, build_lr_scheduler, build_optimizer
from .recipe import batch_note
from .setup import chosen_keys, load_cfg, prepare_run, setup_cfg
from .tensorboard import TensorBoardWriter, ValidationImages, spread_records
from .unused_keys import unused_keys
from .weights import load_options, load_part_weights

_LOGGER = logging.getLogger(__name__)
METRIC = "sem_seg/mIoU"


class _ContinuedSampler(TrainingSampler):
    """Resumes the endless seeded shuffle at an offset, so that a resumed run sees the clips it would have seen."""

    def __init__(self, size: int, *, seed: int | None, skip: int):
        super().__init__(size, seed=seed)
        self._skip = skip

    def __iter__(self):
        yield from islice(self._infinite_indices(), self._skip + self._rank, None, self._world_size)


class Trainer(DefaultTrainer):
    """Trains the model of a config, validates it, and keeps the last and the best checkpoint.

    Attributes:
        best: (score, iteration) of the best validation; None before the first.
    """

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: frozen config as :func:`ska_vct.engine.setup.setup_cfg` returns it.

        Raises:
            ValueError: the config names a model, optimiser or schedule that does not exist.
        """
        # Not DefaultTrainer.__init__, which wraps the model for CUDA even on CPUs.
        super(DefaultTrainer, self).__init__()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        device_ids = None if cfg.MODEL.DEVICE == "cpu" else [torch.cuda.current_device()]
        wrapped = create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)
        self._trainer = build_step(cfg, wrapped, self.build_train_loader(cfg), optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = StrictCheckpointer(
            wrapped,
            cfg.OUTPUT_DIR,
            options=load_options(cfg, inference=False),
            config=portable_config(cfg),
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self._best_hook: BestCheckpointer | None = None
        self.register_hooks(self.build_hooks())

    @property
    def best(self) -> tuple[float, int] | None:
        return self._best_hook.best if self._best_hook else None

    @property
    def _score_unit(self) -> str:
        return f"% (convention '{self.cfg.TEST.CONVENTION}')"

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the output folder's last checkpoint, or start from the weights the config names.

        Args:
            resume: continue from a checkpoint if there is one.

        Raises:
            FileNotFoundError, CheckpointError: a file is missing, damaged or does not fit.
        """
        found = resume and self.checkpointer.has_checkpoint()
        super().resume_or_load(resume=resume)
        if not found:
            load_part_weights(self.cfg, self.checkpointer.model, self.checkpointer.report)
        if found:
            apply_schedule(self.optimizer, self.scheduler)
            _LOGGER.info(f"Continuing at iteration {self.start_iter + 1} of {self.max_iter}")
            if self.cfg.SEED >= 0:
                seed_all_rng(self.cfg.SEED + comm.get_rank() + self.start_iter)
            if self.start_iter < self.max_iter:
                self._trainer.reset_data_loader(lambda: self.build_train_loader(self.cfg, self.start_iter))
        elif resume:
            _LOGGER.info(f"Nothing to resume in {self.cfg.OUTPUT_DIR}: starting from iteration 1")

    def build_hooks(self) -> list[hooks.HookBase]:
        """Hooks in order: later ones read what earlier ones put into the event storage."""
        cfg = self.cfg
        period = cfg.TEST.EVAL_PERIOD
        result = [hooks.IterationTimer(), hooks.LRScheduler(), StepStatistics()]
        if comm.is_main_process():
            keep = cfg.SOLVER.CHECKPOINTS_TO_KEEP or None
            result.append(
                hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=keep)
            )
        if cfg.DATASETS.VAL:
            result.append(hooks.EvalHook(period, lambda: self.test(cfg, self.model, cfg.DATASETS.VAL, draw=True)))
            if comm.is_main_process():
                self._best_hook = BestCheckpointer(
                    checkpointer=self.checkpointer, metric=METRIC, period=period, unit=self._score_unit
                )
                result.append(self._best_hook)
        if comm.is_main_process():
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return result

    def build_writers(self) -> list:
        """Progress line, ``metrics.json`` (one JSON object per line) and TensorBoard events."""
        folder = self.cfg.OUTPUT_DIR
        return [
            ProgressPrinter(max_iter=self.max_iter),
            JSONWriter(os.path.join(folder, "metrics.json")),
            TensorBoardWriter(folder, config=self.cfg.dump()),
        ]

    def train(self) -> None:
        """Train to the last iteration, then log where the results are."""
        super().train()
        if not comm.is_main_process():
            return
        folder = self.cfg.OUTPUT_DIR
        weights = os.path.join(folder, f"{BEST_NAME}.pth" if self.best else "model_final.pth")
        if self.best:
            _LOGGER.info(
                f"Best validation {METRIC}: {self.best[0]:.2f} {self._score_unit} at iteration {self.best[1] + 1}"
            )
        _LOGGER.info(
            f"Weights: {weights}   logs: {os.path.join(folder, 'metrics.json')}, tensorboard --logdir {folder}"
        )

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of ``cfg`` on its device; parameters that ``SOLVER.FROZEN`` names are frozen.

        Raises:
            ValueError: an entry of ``SOLVER.FROZEN`` matches no parameter.
        """
        model = build_model(cfg)
        _freeze(model, cfg.SOLVER.FROZEN)
        total = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        _LOGGER.info(
            f"{type(model).__name__}: {total / 1e6:.2f} M parameters, {trained / 1e6:.2f} M of them trainable"
        )
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer):
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0):
        """Endless batches of ``SOLVER.IMS_PER_BATCH / ranks`` clips, beginning with that of ``start_iter``."""
        records = get_detection_dataset_dicts(list(cfg.DATASETS.TRAIN), filter_empty=False)
        sampler = _ContinuedSampler(
            len(records),
            seed=cfg.SEED if cfg.SEED >= 0 else None,
            skip=start_iter * cfg.SOLVER.IMS_PER_BATCH,
        )
        return build_detection_train_loader(
            records,
            mapper=build_mapper(cfg, is_train=True, donors=records),
            sampler=sampler,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=False,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @classmethod
    def build_test_loader(
        cls,
        cfg: CfgNode,
        dataset_name: str = "",
        *,
        records: Sequence[Mapping] | None = None,
        mapper: Callable | None = None,
        collate_fn: Callable | None = None,
    ):
        """Batches of ``TEST.BATCH_SIZE`` clips; each clip occurs once over all ranks.

        Args:
            cfg: the config.
            dataset_name: a registered dataset; not needed with ``records``.
            records: clips, instead.
            mapper: record -> item of a batch; None for the config's.
            collate_fn: list of items -> batch; None for the list itself.
        """
        if records is None:
            records = get_detection_dataset_dicts([dataset_name], filter_empty=False)
        return build_detection_test_loader(
            records,
            mapper=mapper or build_mapper(cfg, is_train=False),
            batch_size=cfg.TEST.BATCH_SIZE,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            collate_fn=collate_fn,
        )

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> AVSEvaluator:
        metadata = MetadataCatalog.get(dataset_name)
        return AVSEvaluator(
            cfg,
            dataset_name=dataset_name,
            class_names=metadata.get("stuff_classes", ()),
            output_dir=os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name),
        )

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, names: tuple[str, ...] | None = None, *, draw: bool = False
    ) -> dict:
        """Score ``model``.

        Args:
            cfg: the config.
            model: the model with its weights; left in the mode it was in.
            names: datasets; None for ``DATASETS.TEST``.
            draw: also put images of the evaluation into the event storage, see ``ValidationImages``.

        Returns:
            the evaluator's results, e.g. ``{"sem_seg": {"mIoU": ...}}``; a dict of those by dataset when there
            are several; empty on all ranks but the first.
        """
        _share_buffers(model)
        results = OrderedDict()
        for name in cfg.DATASETS.TEST if names is None else names:
            records = get_detection_dataset_dicts([name], filter_empty=False)
            evaluator = cls.build_evaluator(cfg, name)
            if draw and cfg.TEST.IMAGES:
                evaluator = ValidationImages(
                    evaluator, dataset_name=name, records=spread_records(records, cfg.TEST.IMAGES)
                )
            loader = cls.build_test_loader(cfg, name, records=records)
            results[name] = inference_on_dataset(model, loader, evaluator)
        return next(iter(results.values())) if len(results) == 1 else results


def build_step(
    cfg: CfgNode, model: nn.Module, loader: Iterable, optimizer: torch.optim.Optimizer
) -> SimpleTrainer:
    """Builds the train-step runner.

    Args:
        cfg: the config.
        model: in training mode it returns losses; may be wrapped for distributed training.
        loader: batches of clips.
        optimizer: of the model's parameters.
    """
    dtype = amp_dtype(cfg)
    if dtype is None:
        # Otherwise the previous step's gradients would be held while activations are at their peak.
        return SimpleTrainer(model, loader, optimizer, zero_grad_before_forward=True)
    device_type = torch.device(cfg.MODEL.DEVICE).type
    return MixedPrecisionTrainer(model, loader, optimizer, device_type=device_type, dtype=dtype)


def _freeze(model: nn.Module, prefixes: list[str]) -> None:
    for prefix in prefixes:
        found = [parameter for name, parameter in model.named_parameters() if name.startswith(prefix)]
        if not found:
            children = ", ".join(name for name, _ in model.named_children())
            raise InputError(
                f"SOLVER.FROZEN: no parameter's name starts with '{prefix}'; the parts are {children}."
            )
        for parameter in found:
            parameter.requires_grad_(False)


def _share_buffers(model: nn.Module) -> None:
    # BatchNorm statistics differ between ranks; scores must not.
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def train_or_evaluate(
    config_file: str | os.PathLike,
    overrides: Sequence[str] = (),
    *,
    eval_only: bool = False,
    resume: bool = False,
    num_gpus: int | None = None,
    check: bool = True,
    convention: str | None = None,
) -> nn.Module:
    """Train the model of a config, or score its weights; what each process of a run does.

    Args:
        config_file, overrides, eval_only, resume, num_gpus, convention: see
            :func:`ska_vct.engine.setup.setup_cfg`.
        check: look at the datasets' files first, see :func:`ska_vct.engine.data_check.check_datasets`.

    Returns:
        the model that was trained or scored.

    Raises:
        ConfigError, CheckError, CheckpointError, DatasetError, OSError: the input is wrong; see there.
    """
    cfg = setup_cfg(
        config_file, overrides, num_gpus=num_gpus, eval_only=eval_only, resume=resume, convention=convention
    )
    prepare_run(cfg, eval_only=eval_only)
    notes = unused_keys(cfg, chosen_keys(config_file, overrides))
    if not eval_only:
        notes = [*filter(None, [batch_note(cfg, load_cfg(config_file))]), *notes]
    for note in notes if comm.is_main_process() else ():
        _LOGGER.warning(note)
    if check:
        check_datasets(cfg, cfg.DATASETS.TEST if eval_only else (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL))
    if not eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return trainer.model
    model = Trainer.build_model(cfg)
    options = load_options(cfg, inference=True)
    StrictCheckpointer(model, cfg.OUTPUT_DIR, options=options).resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    Trainer.test(cfg, model)
    return model
