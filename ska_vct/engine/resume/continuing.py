"""The first moments of a resumed run: it becomes what the interrupted one was at the end of its iteration."""

from pathlib import Path

from detectron2.engine import DefaultTrainer, HookBase
from detectron2.utils.events import JSONWriter

from ska_vct.checkpoint.files import CheckpointError
from ska_vct.checkpoint.series import FINAL_NAME, read_state
from ska_vct.utils.ranks import on_first_rank

from ..hooks import EvaluationHook
from .keep_last import PeriodicCheckpointer
from .run_state import RunState


class ContinueHook(HookBase):
    """Before training: restores log and random numbers, and runs the hooks that had not run. Register it last."""

    def __init__(self, run: RunState, writer: JSONWriter | None) -> None:
        """
        Args:
            run: holds what was loaded.
            writer: of ``metrics.json``; None where this process has none.
        """
        self._run = run
        self._writer = writer

    def before_train(self) -> None:
        if not self._run.is_resumed:
            return
        trainer = self.trainer
        self._run.restore_log(trainer.storage, self._writer)
        self._run.restore_random(trainer.start_iter)
        unfinished = unfinished_hooks(trainer)
        if unfinished:
            trainer.iter = trainer.storage.iter = trainer.start_iter - 1
            for hook in unfinished:
                hook.after_step()
            trainer.iter = trainer.storage.iter = trainer.start_iter


def unfinished_hooks(trainer: DefaultTrainer) -> list[HookBase]:
    """Hooks that have not run after the last iteration because the process was ended; call it in all processes."""
    kinds = [type(hook) for hook in trainer._hooks]
    if EvaluationHook in kinds and trainer._hooks[kinds.index(EvaluationHook)].is_pending:
        return trainer._hooks[kinds.index(EvaluationHook) : -1]
    if 0 < trainer.start_iter == trainer.max_iter and not on_first_rank(lambda: _has_final(trainer)):
        return trainer._hooks[kinds.index(PeriodicCheckpointer) : -1]
    return []


def _has_final(trainer: DefaultTrainer) -> bool:
    # An extended run still has that of the shorter one.
    path = Path(trainer.cfg.OUTPUT_DIR, f"{FINAL_NAME}.pth")
    try:
        return path.is_file() and read_state(path).get("iteration") == trainer.start_iter - 1
    except CheckpointError:
        return False
