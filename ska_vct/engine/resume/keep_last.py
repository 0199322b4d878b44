"""Periodic checkpoints of which the newest are kept, over all continuations of a run."""

import os
from pathlib import Path

from detectron2.engine import hooks
from detectron2.utils import comm

from ska_vct.checkpoint.checkpointer import StrictCheckpointer
from ska_vct.checkpoint.series import numbered_checkpoints


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's hook, which also counts the checkpoints that were there before; register it in every process.

    Args:
        checkpointer: writes in the first process.
        period: iterations between checkpoints.
        max_to_keep: how many are kept; None: all.
    """

    def __init__(self, checkpointer: StrictCheckpointer, period: int, *, max_to_keep: int | None) -> None:
        # Deleting is up to the first process; the others only take part in gathering the state.
        super().__init__(checkpointer, period, max_to_keep=max_to_keep if comm.is_main_process() else None)
        self._saved = -1

    def before_train(self) -> None:
        super().before_train()
        folder = self.checkpointer.save_dir
        self.recent_checkpoints = [
            self._path(number)
            for number in numbered_checkpoints(folder)
            if number < self.trainer.start_iter and self.max_to_keep is not None
        ]
        # More than are kept, if the run was stopped between two or kept more before.
        while self.max_to_keep is not None and len(self.recent_checkpoints) > self.max_to_keep:
            os.remove(self.recent_checkpoints.pop(0))

    def step(self, iteration: int, **kwargs) -> None:
        """As Detectron2's; a checkpoint that is written again, after an interruption, counts once."""
        is_due = (iteration + 1) % self.period == 0
        path = self._path(iteration)
        if is_due and path in self.recent_checkpoints:
            self.recent_checkpoints.remove(path)
        super().step(iteration, **kwargs)
        if is_due:
            self._saved = iteration

    def save_now(self, iteration: int) -> str:
        """Write the checkpoint of ``iteration`` outside the schedule, unless it has just been written.

        Returns:
            its path.
        """
        if self._saved != iteration:
            self.checkpointer.save(Path(self._path(iteration)).stem, iteration=iteration)
            self._saved = iteration
        return self._path(iteration)

    def _path(self, iteration: int) -> str:
        return os.path.join(self.checkpointer.save_dir, f"{self.file_prefix}_{iteration:07d}.pth")
