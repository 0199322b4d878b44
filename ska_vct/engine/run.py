"""What each process of a training or evaluation does, from the config to the end."""

import logging
import os
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from ska_vct.checkpoint.checkpointer import StrictCheckpointer

from .data_check import check_datasets
from .failures import named_failures
from .recipe import batch_note
from .resume.start import Start, run_in_folder
from .setup import chosen_keys, load_cfg, prepare_run, setup_cfg, write_config_file
from .trainer import Trainer
from .unused_keys import unused_keys
from .weights import load_options

_LOGGER = logging.getLogger(__name__)


def train_or_evaluate(
    config_file: str | os.PathLike,
    overrides: Sequence[str] = (),
    *,
    eval_only: bool = False,
    resume: bool = False,
    num_gpus: int | None = None,
    check: bool = True,
    convention: str | None = None,
    predict_memory: Callable[[CfgNode], float] | None = None,
) -> nn.Module:
    """Train the model of a config, or score its weights, and return it; what each process of a run does.

    Args:
        config_file, overrides, eval_only, resume, num_gpus, convention: see
            :func:`ska_vct.engine.setup.setup_cfg`.
        check: look at the datasets' files first, see :func:`ska_vct.engine.data_check.check_datasets`.
        predict_memory: config -> bytes that a training step needs, for a message when memory runs out.

    Raises:
        ConfigError, CheckError, CheckpointError, DatasetError, OSError: the input is wrong; see there.
        SickRunError, FailedRunError: the training became sick, or the machine failed.
        ResumeError: the folder holds another run, or one that this config cannot continue.
        SystemExit: the process was asked to stop, and has written a checkpoint (docs/reliability.md).
    """
    cfg = setup_cfg(
        config_file, overrides, num_gpus=num_gpus, eval_only=eval_only, resume=resume, convention=convention
    )
    notes = unused_keys(cfg, chosen_keys(config_file, overrides))
    if not eval_only:
        notes = [*filter(None, [batch_note(cfg, load_cfg(config_file))]), *notes]
        named = named_failures(cfg, training=True, predict_memory=predict_memory)
        with run_in_folder(cfg, resume=resume) as start, named:
            return _train(start, notes, check=check)
    with named_failures(cfg, training=False):
        return _evaluate(cfg, notes, check=check, resume=resume)


def _evaluate(cfg: CfgNode, notes: Sequence[str], *, check: bool, resume: bool) -> nn.Module:
    prepare_run(cfg, eval_only=True)
    _warn(notes)
    if check:
        check_datasets(cfg, cfg.DATASETS.TEST)
    model = Trainer.build_model(cfg)
    options = load_options(cfg, inference=True)
    StrictCheckpointer(model, cfg.OUTPUT_DIR, options=options).resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    Trainer.test(cfg, model)
    return model


def _train(start: Start, notes: Sequence[str], *, check: bool) -> nn.Module:
    cfg, resume = start.cfg, start.newest is not None
    prepare_run(cfg, write_config=not resume)
    _warn([*notes, *start.lines()])
    if check:
        check_datasets(cfg, (*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=start.resume)
    if resume:
        # Only now: a continuation that could not begin has changed nothing.
        trainer.changes.extend(start.history())
        write_config_file(cfg, trainer.changes)
    trainer.train()
    return trainer.model


def _warn(notes: Sequence[str]) -> None:
    for note in notes if comm.is_main_process() else ():
        _LOGGER.warning(note)
