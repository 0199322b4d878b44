"""Training and evaluation on Detectron2's engine, with this package's data, model, evaluator and checkpoints."""

import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader, get_detection_dataset_dicts
from detectron2.engine import DefaultTrainer, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import JSONWriter
from torch import nn

from ska_vct.checkpoint.checkpointer import StrictCheckpointer
from ska_vct.checkpoint.series import BEST_NAME, FINAL_NAME
from ska_vct.config_files import portable_config
from ska_vct.data.flow.online import build_mapper
from ska_vct.evaluation import AVSEvaluator
from ska_vct.utils.ranks import on_first_rank, share_buffers

from .amp import build_step
from .health import HealthHook
from .hooks import BestCheckpointer, EvaluationHook, ProgressPrinter, StepStatistics
from .optim import apply_schedule, build_lr_scheduler, build_optimizer, freeze_parameters
from .resume.changes import scored_by
from .resume.continuing import ContinueHook, unfinished_hooks
from .resume.folder import METRICS, check_room
from .resume.keep_last import PeriodicCheckpointer
from .resume.log_state import cut_metrics
from .resume.run_state import RunState
from .resume.stopping import ParentsWorker, StopHook
from .tensorboard import TensorBoardWriter, ValidationImages, spread_records
from .train_data import build_stream
from .wandb_run import start_wandb
from .weights import load_options, load_part_weights

_LOGGER = logging.getLogger(__name__)
METRIC = "sem_seg/mIoU"


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
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        self._run = RunState(seed=seed, batch=cfg.SOLVER.IMS_PER_BATCH)
        self._trainer = build_step(cfg, wrapped, self.build_train_loader(cfg, seed=seed), optimizer)
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
        self._metrics_writer: JSONWriter | None = None
        self.register_hooks(self.build_hooks())

    @property
    def best(self) -> tuple[float, int] | None:
        return self._best_hook.best if self._best_hook else None

    @property
    def _score_unit(self) -> str:
        return f"% (convention '{self.cfg.TEST.CONVENTION}')"

    @property
    def changes(self) -> list[str]:
        """Config keys that continuations of this run have changed, one sentence each; plain data."""
        return self._run.changes

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the output folder's newest whole checkpoint, or start from the weights the config names.

        Args:
            resume: continue from a checkpoint if there is one.

        Raises:
            FileNotFoundError, CheckpointError: a file is missing, damaged or does not fit.
            ResumeError: there is no room for checkpoints, or ``model_best.pth`` is of another run.
        """
        metrics = os.path.join(self.cfg.OUTPUT_DIR, METRICS)
        extra = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        found = resume and self.checkpointer.resumed
        if found:
            # Checkpoints hold the iteration that was complete.
            self.start_iter = int(extra.get("iteration", self.iter)) + 1
            apply_schedule(self.optimizer, self.scheduler)
            _LOGGER.info(f"Continuing at iteration {self.start_iter + 1} of {self.max_iter}")
            place = self._run.resume(self.start_iter)
            if self.start_iter < self.max_iter:
                self._trainer.reset_data_loader(
                    lambda: self.build_train_loader(self.cfg, self.start_iter, seed=self._run.seed, place=place)
                )
        else:
            load_part_weights(self.cfg, self.checkpointer.model, self.checkpointer.report)
            if resume:
                _LOGGER.info(f"Nothing to resume in {self.cfg.OUTPUT_DIR}: starting from iteration 1")
        if resume:
            removed = on_first_rank(lambda: cut_metrics(metrics, self._run.last_line(self.start_iter)))
            if removed:
                _LOGGER.info(f"Removed {removed} lines of {METRICS} that were written after the checkpoint")
        if self.start_iter < self.max_iter:
            model = self.checkpointer.model
            _LOGGER.info(on_first_rank(lambda: check_room(self.cfg, model, self.start_iter)))
        best_hook = self._best_hook
        if found and best_hook is not None:
            note = on_first_rank(lambda: best_hook.agree_with_file(self._run.id))
            if note:
                _LOGGER.warning(note)

    def build_hooks(self) -> list[hooks.HookBase]:
        """Hooks in order: later ones read what earlier ones put into the event storage.

        Checkpoints come last, so that they know the evaluation of their iteration and what was logged of it.
        """
        cfg = self.cfg
        keep = cfg.SOLVER.CHECKPOINTS_TO_KEEP or None
        checkpoints = PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=keep)
        stop = StopHook(checkpoints.save_now)
        skips, every = cfg.SOLVER.SKIP_SICK_STEPS, cfg.SOLVER.CHECKPOINT_PERIOD
        self._health = HealthHook(model=self.model, save=checkpoints.save_now, skips=skips, period=every)
        result = [hooks.IterationTimer(), hooks.LRScheduler(), StepStatistics(), self._health]
        if cfg.DATASETS.VAL:
            period = cfg.TEST.EVAL_PERIOD
            evaluate = partial(self.test, cfg, self.model, cfg.DATASETS.VAL, draw=True)
            evaluation = EvaluationHook(period, evaluate, model=self.model, stop=stop)
            result.append(evaluation)
        if comm.is_main_process():
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        if cfg.DATASETS.VAL:
            self._best_hook = BestCheckpointer(
                checkpointer=self.checkpointer,
                metric=METRIC,
                unit=self._score_unit,
                evaluation=evaluation,
                scored_by=scored_by(cfg),
            )
            result.append(self._best_hook)
        return [*result, checkpoints, stop, ContinueHook(self._run, self._metrics_writer)]

    def build_writers(self) -> list:
        """Progress line, ``metrics.json`` (one JSON object per line) and TensorBoard events."""
        folder = self.cfg.OUTPUT_DIR
        start_wandb(self.cfg)
        self._metrics_writer = JSONWriter(os.path.join(folder, METRICS))
        return [
            ProgressPrinter(max_iter=self.max_iter),
            self._metrics_writer,
            TensorBoardWriter(
                folder, config=self.cfg.dump(), start=lambda: self._run.last_line(self.start_iter) + 1
            ),
        ]

    def run_step(self) -> None:
        """One iteration; it may be skipped, see :class:`ska_vct.engine.health.HealthHook`."""
        self._trainer.iter = self.iter
        self._health.take(self._trainer)

    def train(self) -> None:
        """Train to the last iteration, then log where the results are; nothing more is done in a finished run."""
        if self.start_iter < self.max_iter or unfinished_hooks(self):
            super().train()
        else:
            _LOGGER.info(
                f"The run is finished: its checkpoint is of iteration {self.start_iter}, SOLVER.MAX_ITER is "
                f"{self.max_iter}; a larger SOLVER.MAX_ITER continues it"
            )
        if not comm.is_main_process():
            return
        folder = self.cfg.OUTPUT_DIR
        weights = os.path.join(folder, f"{BEST_NAME if self.best else FINAL_NAME}.pth")
        if self.best:
            _LOGGER.info(
                f"Best validation {METRIC}: {self.best[0]:.2f} {self._score_unit} at iteration {self.best[1] + 1}"
            )
        _LOGGER.info(f"Weights: {weights}   logs: {os.path.join(folder, METRICS)}, tensorboard --logdir {folder}")

    def state_dict(self) -> dict:
        """Everything that the rest of the run depends on, of all processes; call it in all of them."""
        return super().state_dict() | self._run.state_dict(self, self._metrics_writer)

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned; learning rates are those of the config."""
        base_lrs = list(self.scheduler.base_lrs)
        super().load_state_dict(state_dict)
        self.scheduler.base_lrs = base_lrs
        self._run.load_state_dict(state_dict)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of ``cfg`` on its device; parameters that ``SOLVER.FROZEN`` names are frozen.

        Raises:
            ValueError: an entry of ``SOLVER.FROZEN`` matches no parameter.
        """
        model = build_model(cfg)
        freeze_parameters(model, cfg.SOLVER.FROZEN)
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
    def build_train_loader(
        cls, cfg: CfgNode, start_iter: int = 0, *, seed: int | None = None, place: int | None = None
    ):
        """Endless batches of ``SOLVER.IMS_PER_BATCH / ranks`` clips, beginning with that of ``start_iter``.

        Args:
            cfg: the config.
            start_iter: next iteration, from 0.
            seed: of the shuffle and all draws; None: ``SEED``.
            place: how many clips the run has had; None: as many as iterations of this config have.
        """
        if seed is None:
            seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        if place is None:
            place = start_iter * cfg.SOLVER.IMS_PER_BATCH
        records = get_detection_dataset_dicts(list(cfg.DATASETS.TRAIN), filter_empty=False)
        mapper = build_mapper(cfg, is_train=True, donors=records)
        return build_stream(cfg, records, mapper, seed=seed, start=place)

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
            mapper=ParentsWorker(mapper or build_mapper(cfg, is_train=False)),
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
        share_buffers(model)
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
