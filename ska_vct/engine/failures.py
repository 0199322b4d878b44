"""What ends a run from outside its code, said in one sentence: memory, workers, shared memory, other processes."""

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode

from ska_vct.utils.errors import SkaVctError

from .ranks import late_ranks

_LOGGER = logging.getLogger(__name__)
_GIB = 2**30
_LOST = (
    r"Connection (closed by peer|reset by peer|refused)|Broken pipe|communicator was aborted|remote process exited"
)
_SHARED = "/dev/shm"
_HELPS = (
    "a smaller SOLVER.IMS_PER_BATCH ({batch}), INPUT.SIZE ({size}) or INPUT.FRAMES_PER_CLIP ({frames}; 0 means "
    "all), MODEL.BACKBONE.CHECKPOINT and MODEL.PIXEL_DECODER.CHECKPOINT True, and on a GPU SOLVER.AMP.ENABLED True"
)
_HELPS_TESTING = "a smaller TEST.BATCH_SIZE ({test}) or INPUT.SIZE ({size})"


class FailedRunError(SkaVctError, RuntimeError):
    """Memory, a worker, shared memory or another process of a run has failed."""

    exit_status = 1


@contextmanager
def named_failures(
    cfg: CfgNode, *, training: bool, predict_memory: Callable[[CfgNode], float] | None = None
) -> Iterator[None]:
    """Turn what the machine does to a run into a sentence; the traceback goes to the log file.

    Args:
        cfg: of the run.
        training: whether it trains.
        predict_memory: config -> bytes that a training step needs, for the message.

    Raises:
        FailedRunError: memory, a worker, shared memory or another process failed.
    """
    try:
        yield
    except (SkaVctError, OSError) as error:
        _LOGGER.debug("The run ended with an error", exc_info=error)
        raise
    except Exception as error:
        sentence = explain(error, cfg, training=training, predict_memory=predict_memory)
        if not sentence:
            raise
        _LOGGER.error("The run failed", exc_info=error)
        raise FailedRunError(f"{sentence} The log file in {cfg.OUTPUT_DIR} has the traceback.") from error


def explain(
    error: BaseException,
    cfg: CfgNode,
    *,
    training: bool,
    predict_memory: Callable[[CfgNode], float] | None = None,
) -> str:
    """What a failure means, in one sentence or two; empty for other errors.

    Args, see :func:`named_failures`.
    """
    # The loader says in one error that a worker is gone, and in its cause by which signal.
    text = " ".join(f"{error.__cause__ or ''} {error}".split())
    workers = cfg.DATALOADER.NUM_WORKERS
    fewer = f"lower DATALOADER.NUM_WORKERS ({workers}); 0 loads in the main process."
    if re.search(r"Bus error|shared memory|/torch_|No space left on device.*shm", text):
        return f"Shared memory is full: {_shared_memory()}. Enlarge it (docker run --shm-size 8g), or {fewer}"
    if "DataLoader worker" in text and re.search(r"signal: Killed|exited unexpectedly|is killed by signal", text):
        signal = re.search(r"by signal: (\w+(?: \w+)?)", text)
        how = f"killed ({signal[1]})" if signal else "ended from outside"
        return f"A worker that loads clips was {how}, usually because the machine's memory ran out: {fewer}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or re.search(
        r"out of memory|can't allocate memory|Cannot allocate memory", text
    ):
        return _memory(error, text, cfg, training=training, predict_memory=predict_memory)
    if re.search(r"[Tt]imed out|[Tt]imeout", text) and torch.distributed.is_initialized():
        return f"Process {_rank()} has waited too long for the others (--rank-timeout): one hangs.{late_ranks()}"
    if re.search(_LOST, text):
        lost = f"Process {_rank()} has lost another process of the run, which has said why, or was killed."
        return f"{lost}{late_ranks()}"
    return ""


def hide_tracebacks(logger: logging.Logger) -> None:
    """Keep tracebacks out of the console, where the sentence is printed; log files keep them."""
    for handler in logger.handlers:
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
            handler.addFilter(lambda record: not record.exc_info)


def _memory(
    error: BaseException,
    text: str,
    cfg: CfgNode,
    *,
    training: bool,
    predict_memory: Callable[[CfgNode], float] | None,
) -> str:
    helps = (_HELPS if training else _HELPS_TESTING).format(
        batch=cfg.SOLVER.IMS_PER_BATCH, size=tuple(cfg.INPUT.SIZE), frames=cfg.INPUT.FRAMES_PER_CLIP,
        test=cfg.TEST.BATCH_SIZE,
    )  # fmt: skip
    need = ""
    if training and predict_memory is not None:
        try:
            need = f" A training step of this config needs about {predict_memory(cfg) / _GIB:.1f} GiB per process."
        except Exception as failed:
            _LOGGER.debug("The memory could not be predicted", exc_info=failed)
    if cfg.MODEL.DEVICE != "cpu" and not isinstance(error, MemoryError):
        free, total = torch.cuda.mem_get_info()
        has = f"the GPU has {total / _GIB:.1f} GiB, {free / _GIB:.1f} of them free"
    else:
        has = f"the machine has {_machine_memory():.1f} GiB"
    where = ", in a worker that loads clips" if "DataLoader worker" in text else ""
    return f"Out of memory{where}: {has}.{need} What helps: {helps}."


def _machine_memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB


def _shared_memory() -> str:
    try:
        usage = shutil.disk_usage(_SHARED)
    except OSError:
        return f"there is no {_SHARED}"
    return f"{_SHARED} has {usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free"


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
