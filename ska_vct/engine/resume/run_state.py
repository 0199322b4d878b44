"""What a checkpoint holds of a run besides weights, optimiser and hooks."""

import logging
import secrets
from typing import Any

from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage, JSONWriter

from .log_state import get_log_state, set_log_state
from .random_state import get_random_state, set_random_state

_LOGGER = logging.getLogger(__name__)


class RunState:
    """Identity, place in the shuffle, random numbers of every process, and memory of the log.

    Attributes:
        id: identity of the run; empty in checkpoints of older versions.
        seed: of the shuffle and of the clips' draws.
        changes: config keys that continuations have changed, one sentence each.
        is_resumed: whether it continues a checkpoint.
    """

    def __init__(self, *, seed: int, batch: int) -> None:
        """
        Args:
            seed: of a run that starts anew.
            batch: clips of an iteration, over all processes.
        """
        self.id = secrets.token_hex(8)
        self.seed = seed
        self.changes: list[str] = []
        self.is_resumed = False
        self._batch = batch
        # Clips and iterations before this process.
        self._clips, self._start_iter = 0, 0
        self._loaded: dict[str, Any] = {}

    def state_dict(self, trainer: TrainerBase, writer: JSONWriter | None) -> dict[str, Any]:
        """Entries for a checkpoint of ``trainer``'s current iteration; to be called in all processes."""
        state = {
            "run": {
                "id": self.id,
                "seed": self.seed,
                "clips": self._clips + (trainer.iter + 1 - self._start_iter) * self._batch,
                "changes": list(self.changes),
            },
            "random": comm.gather(get_random_state()),
        }
        if hasattr(trainer, "storage"):
            state["log"] = get_log_state(trainer.storage, writer)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what :meth:`state_dict` returned; checkpoints of older versions lack it."""
        self._loaded = {key: state[key] for key in ("run", "random", "log") if key in state}

    def resume(self, start_iter: int) -> int:
        """Continue the run of the loaded checkpoint.

        Args:
            start_iter: next iteration, from 0.

        Returns:
            how many clips the run has had.
        """
        run = self._loaded.get("run", {})
        self.is_resumed = True
        self.id = run.get("id", "")
        self.seed = run.get("seed", self.seed)
        self.changes = list(run.get("changes", ()))
        self._clips = run.get("clips", start_iter * self._batch)
        self._start_iter = start_iter
        return self._clips

    def last_line(self, start_iter: int) -> int:
        """Iteration of the last line of ``metrics.json`` that was there before ``start_iter``; -1: none was."""
        return self._loaded.get("log", {}).get("written", start_iter - 1)

    def restore_log(self, storage: EventStorage, writer: JSONWriter | None) -> None:
        """Give storage and writer the memory of the checkpoint."""
        if "log" in self._loaded:
            set_log_state(self._loaded["log"], storage, writer)

    def restore_random(self, start_iter: int) -> None:
        """Restore this process's random numbers, or draw new ones where the checkpoint has none for it."""
        states = self._loaded.get("random", ())
        if len(states) == comm.get_world_size():
            set_random_state(states[comm.get_rank()])
            return
        why = f"is of {len(states)} processes, not {comm.get_world_size()}" if states else "is of an older version"
        _LOGGER.warning(
            f"The checkpoint {why}: the run goes on with other random numbers, not exactly as without interruption"
        )
        seed_all_rng(self.seed + comm.get_rank() + start_iter)
