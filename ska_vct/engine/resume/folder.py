"""The folder of a run: one run at a time, never a second run over the first, and room for its checkpoints."""

import fcntl
import logging
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from detectron2.config import CfgNode
from torch import nn

from ska_vct.checkpoint.series import BEST_NAME, FINAL_NAME, has_checkpoint, numbered_checkpoints
from ska_vct.utils.files import remove_parts

from .changes import ResumeError

METRICS = "metrics.json"
_LOCK = ".lock"
_GIB = 2**30
_LOGGER = logging.getLogger(__name__)


class FolderLock:
    """Keeps other trainings out of a folder until it is released or this process ends, however it ends.

    It is a lock of the operating system on ``.lock``; the file itself means nothing and stays.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        """
        Args:
            folder: must exist.

        Raises:
            ResumeError: another process holds the lock.
            OSError: the file cannot be written.
        """
        # Opened for appending: the holder's name must survive our attempt.
        file = open(Path(folder) / _LOCK, "a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "unknown"
            file.close()
            raise ResumeError(
                f"Another training is writing to folder '{folder}' (process {holder}); wait until it ends, or "
                "choose another folder (OUTPUT_DIR)."
            ) from None
        except OSError as error:
            # Some network file systems have no locks; one training at a time is then up to the user.
            _LOGGER.warning(f"Folder '{folder}' cannot be locked against a second training ({error.strerror})")
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file: IO[str] | None = file
        # Workers of data loaders are forks; one that outlives a killed run must not keep the lock.
        os.register_at_fork(after_in_child=self._forget)

    def release(self) -> None:
        """Let others in."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def check_folder(folder: str | os.PathLike, *, resume: bool) -> None:
    """Refuse to train over another run.

    Args:
        folder: of the run to come.
        resume: whether it continues what is there.

    Raises:
        ResumeError: the folder holds a run, and this one does not continue it.
    """
    if resume:
        return
    folder = Path(folder)
    numbers = numbered_checkpoints(folder)
    if (folder / f"{FINAL_NAME}.pth").is_file():
        what = "a finished run"
    elif numbers:
        what = f"a run that has a checkpoint of iteration {max(numbers) + 1}"
    elif has_checkpoint(folder):
        what = "a run that has a checkpoint"
    elif (folder / METRICS).is_file() and (folder / METRICS).stat().st_size:
        what = f"the log of a run without a checkpoint ({METRICS})"
    else:
        return
    raise ResumeError(
        f"Folder '{folder}' holds {what}; add --resume to continue it, or choose another folder (OUTPUT_DIR)."
    )


def clean_folder(folder: str | os.PathLike, unusable: Sequence[str] = ()) -> list[str]:
    """Remove what killed writers have left, and rename unusable checkpoints, in a folder that is locked.

    Returns:
        sentences that say what was done.

    Raises:
        OSError: a file cannot be removed or renamed.
    """
    parts = remove_parts(folder)
    notes = [f"Removed what an interrupted run had not finished writing: {', '.join(parts)}"] if parts else []
    for path in unusable:
        os.replace(path, f"{path}.unusable")
        notes.append(f"Renamed '{path}' to '{os.path.basename(path)}.unusable'; delete it if you do not need it")
    return notes


def check_room(cfg: CfgNode, model: nn.Module, start_iter: int) -> str:
    """Check that the disk has room for the run's checkpoints.

    Args:
        cfg: the config.
        model: its weights and, twice, its trainable weights make up a checkpoint.
        start_iter: the run's next iteration, from 0.

    Returns:
        a sentence that says how much is needed.

    Raises:
        ResumeError: there is less room.
        OSError: the folder cannot be looked at.
    """
    folder = Path(cfg.OUTPUT_DIR)
    trainable = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values()) + 2 * trainable
    later = cfg.SOLVER.MAX_ITER // cfg.SOLVER.CHECKPOINT_PERIOD - start_iter // cfg.SOLVER.CHECKPOINT_PERIOD
    there = numbered_checkpoints(folder)
    keep = cfg.SOLVER.CHECKPOINTS_TO_KEEP
    periodic = max(0, min(later, keep - len(there)) if keep else later)
    names = [FINAL_NAME, *([BEST_NAME] if cfg.DATASETS.VAL else [])]
    others = sum(not (folder / f"{name}.pth").is_file() for name in names)
    # One more while a new file is written beside the old ones.
    needed = (periodic + others + 1) * size
    free = shutil.disk_usage(folder).free
    sizes = f"{needed / _GIB:.2f} GiB ({periodic + others + 1} files of {size / _GIB:.2f} GiB)"
    if free < needed:
        raise ResumeError(
            f"Folder '{folder}' has {free / _GIB:.2f} GiB free, and the run's checkpoints need {sizes}: make "
            "room, choose another folder (OUTPUT_DIR), or keep fewer checkpoints (SOLVER.CHECKPOINTS_TO_KEEP)."
        )
    return f"Checkpoints need up to {sizes} in {folder}; {free / _GIB:.1f} GiB are free"
