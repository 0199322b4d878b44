"""How a training begins: alone in its folder, from the newest whole checkpoint, with a config that is true."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from ska_vct.checkpoint.series import LAST_NAME, Newest, find_newest
from ska_vct.utils.files import atomic_write
from ska_vct.utils.folders import make_folder
from ska_vct.utils.ranks import on_first_rank

from .changes import Change, check_changes, effective_config, find_changes
from .folder import FolderLock, check_folder, clean_folder

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class Start:
    """How a training begins.

    Attributes:
        cfg: what it really does, frozen: keys that have no effect have the run's values.
        newest: the checkpoint that it continues from; None: it starts anew.
        changes: keys that differ from the run so far.
        notes: sentences for the log about what was found in the folder.
        resume: whether it was asked to continue a run.
    """

    cfg: CfgNode
    newest: Newest | None
    changes: list[Change]
    notes: list[str]
    resume: bool

    def history(self) -> list[str]:
        """One sentence for each key that takes effect, for ``config.yaml`` and later checkpoints."""
        at = self.newest.iteration + 2 if self.newest is not None else 1
        return [f"{change} from iteration {at} on" for change in self.changes if not change.no_effect]

    def lines(self) -> list[str]:
        """All of it as sentences for the log."""
        changes = [*self.history(), *(change for change in self.changes if change.no_effect)]
        return [*self.notes, *(f"--resume: {change}" for change in changes)]


@contextmanager
def run_in_folder(cfg: CfgNode, *, resume: bool) -> Iterator[Start]:
    """Take ``OUTPUT_DIR`` for a training; other trainings are kept out of it inside the block.

    Args:
        cfg: frozen.
        resume: continue the run that is there, if there is one.

    Raises:
        ResumeError: another training is at work in the folder; it holds a run and ``resume`` is not set; or that
            run is of another model.
        CheckpointError: it holds checkpoints, and none can be used.
        OSError: it cannot be written.
    """
    locks: list[FolderLock] = []
    folder = Path(cfg.OUTPUT_DIR)

    def look() -> tuple[Newest | None, list[Change], list[str]]:
        locks.append(FolderLock(make_folder(folder)))
        check_folder(folder, resume=resume)
        newest = find_newest(folder, needs=("trainer",)) if resume else None
        if newest is None:
            return None, [], clean_folder(folder)
        changes = find_changes(cfg, newest.config, folder / CONFIG_FILE)
        check_changes(changes, newest.path)
        notes = [reason for _, reason in newest.unusable]
        if newest.missing:
            notes.append(f"The last checkpoint, '{newest.missing}', is missing")
        notes += clean_folder(folder, [path for path, _ in newest.unusable])
        if notes:
            notes.append(f"Continuing from '{os.path.basename(newest.path)}', the newest checkpoint that is whole")
        with atomic_write(folder / LAST_NAME, "w") as file:
            file.write(os.path.basename(newest.path))
        return newest, changes, notes

    try:
        newest, changes, notes = on_first_rank(look)
        yield Start(effective_config(cfg, changes), newest, changes, notes, resume)
    finally:
        for lock in locks:
            lock.release()
