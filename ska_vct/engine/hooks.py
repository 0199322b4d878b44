"""Training hooks: evaluation, the best checkpoint, time spent waiting for data, and the progress line."""

import datetime
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from torch import nn

from ska_vct.checkpoint.checkpointer import CheckpointError, StrictCheckpointer
from ska_vct.checkpoint.series import BEST_NAME, read_state, run_of

from .resume.changes import ResumeError
from .resume.random_state import unchanged_random_state
from .resume.stopping import StopHook

_LOGGER = logging.getLogger(__name__)
WINDOW = 20


class EvaluationHook(hooks.EvalHook):
    """Evaluates after every ``period`` iterations and after the last one, without effect on the training's draws.

    A request to stop that arrives meanwhile abandons the evaluation, in a run of one process; the checkpoint then
    says that it is to be made up for.

    Attributes:
        is_pending: whether the evaluation of the current iteration is not complete.
        last: iteration of the last complete evaluation in this process; -1: none yet.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict], *, model: nn.Module, stop: StopHook):
        """
        Args:
            period: iterations; 0: only after the last.
            evaluate: returns nested scores, which go into the event storage.
            model: that ``evaluate`` runs.
            stop: knows of requests to stop.
        """
        super().__init__(period, evaluate, eval_after_train=False)
        self.is_pending = False
        self.last = -1
        self._model = model
        self._stop = stop

    def after_step(self):
        done = self.trainer.iter + 1
        if not (done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0)):
            return
        self.is_pending = True
        alone = comm.get_world_size() == 1
        look = self._model.register_forward_pre_hook(self._look) if alone else None
        try:
            with unchanged_random_state():
                self._do_eval()
        except _Abandoned:
            self._stop.stop(self._stop.asked)
        finally:
            if look is not None:
                look.remove()
        self.is_pending = False
        self.last = self.trainer.iter

    def state_dict(self) -> dict:
        """Whether an evaluation is to be made up for."""
        return {"pending": True} if self.is_pending else {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.is_pending = bool(state_dict["pending"])

    def _look(self, *_) -> None:
        if self._stop.asked:
            raise _Abandoned


class _Abandoned(Exception):
    pass


class BestCheckpointer(HookBase):
    """Keep the weights that score best on the validation set.

    Unlike Detectron2's, it keeps the best score across ``--resume``, which does not continue from its file.
    Register it in every process, after the hook that puts ``metric`` into the event storage.

    Attributes:
        best: (score, iteration) of the best evaluation so far; None before the first, and in all processes but the
            first.
    """

    def __init__(
        self,
        *,
        checkpointer: StrictCheckpointer,
        metric: str,
        unit: str = "",
        evaluation: EvaluationHook | None = None,
        scored_by: Mapping[str, Any] | None = None,
    ):
        """
        Args:
            checkpointer: writes ``model_best.pth``.
            metric: name in the event storage; larger is better.
            unit: printed behind the score.
            evaluation: says when there is a new score, in all processes; None: look in every iteration.
            scored_by: what else the score depends on; plain data.
        """
        self.best: tuple[float, int] | None = None
        self._checkpointer = checkpointer
        self._metric = metric
        self._unit = f" {unit}" if unit else ""
        self._evaluation = evaluation
        self._scored_by = dict(scored_by or {})

    def after_step(self):
        iteration = self.trainer.iter
        if self._evaluation is not None and self._evaluation.last != iteration:
            return
        score, scored_at = self.trainer.storage.latest().get(self._metric, (math.nan, -1))
        is_better = scored_at == iteration and math.isfinite(score) and (self.best is None or score > self.best[0])
        if comm.get_world_size() > 1:
            # The first process has the scores; all take part in saving.
            is_better = comm.all_gather(is_better)[0]
        if not is_better:
            return
        if comm.is_main_process():
            self.best = (float(score), iteration)
        self._checkpointer.save(BEST_NAME, tag_last=False, iteration=iteration)
        # After saving: what the log calls the best is on the disk.
        if self.best:
            _LOGGER.info(f"Best {self._metric} so far: {score:.2f}{self._unit} at iteration {iteration + 1}")

    def state_dict(self) -> dict:
        """Best score and its iteration, if there is one, and what the score depends on."""
        return {"best": list(self.best), "scored_by": self._scored_by} if self.best else {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned; scores of another kind are not compared."""
        if state_dict.get("scored_by", self._scored_by) == self._scored_by:
            self.best = (float(state_dict["best"][0]), int(state_dict["best"][1]))

    def agree_with_file(self, run: str) -> str:
        """Make the best score that of ``model_best.pth``, which may be newer than the checkpoint of a resumed run.

        Args:
            run: identity of the run.

        Returns:
            what differed, for the log; empty if nothing did.

        Raises:
            ResumeError: the file is of another run.
            OSError: it cannot be renamed.
        """
        path = Path(self._checkpointer.save_dir) / f"{BEST_NAME}.pth"
        before, self.best = self.best, None
        if not path.is_file():
            return f"'{path}' is missing: the next evaluation makes a new one" if before else ""
        try:
            content = read_state(path)
            state = content["trainer"]["hooks"][type(self).__qualname__]
            best = float(state["best"][0]), int(state["best"][1])
        except CheckpointError as error:
            path.rename(f"{path}.unusable")
            return f"{error} It was renamed to '{path.name}.unusable'; the next evaluation makes a new one"
        except (KeyError, TypeError, ValueError):
            raise ResumeError(
                f"'{path}' does not say how it scored, so that training would replace it: move it."
            ) from None
        if run and run_of(content) not in ("", run):
            raise ResumeError(f"'{path}' is of another run, and training would replace it: move it.")
        if state.get("scored_by", self._scored_by) != self._scored_by:
            kept = path.with_name(f"{BEST_NAME}_until_{content.get('iteration', 0) + 1:07d}.pth")
            path.rename(kept)
            return f"Scores are no longer comparable: '{path}' was renamed to '{kept.name}'"
        self.best = best
        if best == before:
            return ""
        return f"'{path.name}' holds the best so far: {best[0]:.2f}{self._unit} at iteration {best[1] + 1}"


class StepStatistics(HookBase):
    """Put ``data_share`` and ``grad_norm`` of each step into the event storage.

    ``data_share`` is the part of a step's time, 0 to 1, that it waited for data. Register it after IterationTimer.
    """

    def after_step(self):
        storage = self.trainer.storage
        latest = storage.latest()
        if latest.get("time", (0, -1))[1] == self.trainer.iter and "data_time" in latest:
            storage.put_scalar("data_share", latest["data_time"][0] / max(latest["time"][0], 1e-9))
        grad_norm = getattr(self.trainer.optimizer, "grad_norm", None)
        if grad_norm is not None:
            storage.put_scalar("grad_norm", grad_norm)

    def after_train(self):
        share = waiting_share(self.trainer.storage)
        if share is not None:
            _LOGGER.info(f"Waited for data in {100 * share:.1f} % of the training steps' time")


def waiting_share(storage: EventStorage, window: int | None = None) -> float | None:
    """Share of the last ``window`` steps' time (all kept steps if None) that was spent waiting for data.

    Returns:
        0 to 1; None while nothing was measured.
    """
    histories = storage.histories()
    if "time" not in histories or "data_time" not in histories:
        return None
    times = histories["time"].values()
    waits = histories["data_time"].values()
    # The first steps are left out: starting the workers says nothing about the training.
    count = min(len(times), len(waits), window or len(times))
    total = sum(value for value, _ in times[-count:])
    return sum(value for value, _ in waits[-count:]) / total if total > 0 else None


class ProgressPrinter(EventWriter):
    """Logs a one-line progress summary: iteration, time left, last layer's losses, learning rate, speed."""

    def __init__(self, *, max_iter: int):
        """
        Args:
            max_iter: total number of training iterations.
        """
        self._max_iter = max_iter
        self._last = None

    def write(self):
        storage = get_event_storage()
        iteration = storage.iter
        if iteration >= self._max_iter or iteration == self._last:
            return
        self._last = iteration
        histories = storage.histories()
        parts = [f"iter {iteration + 1}/{self._max_iter}"]
        if "time" in histories:
            step = histories["time"].median(1000)
            left = datetime.timedelta(seconds=int(step * (self._max_iter - iteration - 1)))
            storage.put_scalar("eta_seconds", left.total_seconds(), smoothing_hint=False)
            parts.append(f"eta {left}")
        # Losses of intermediate layers end in a number; they would make the line too long.
        losses = [name for name in histories if "loss" in name and not name[-1].isdigit()]
        for name in sorted(losses, key=lambda name: (name != "total_loss", name)):
            parts.append(f"{name.removeprefix('loss_')} {_recent(storage, name):.4g}")
        if "lr" in histories:
            parts.append(f"lr {histories['lr'].latest():.3g}")
        if "time" in histories:
            parts.append(f"{_recent(storage, 'time'):.3f} s/iter")
        share = waiting_share(storage, WINDOW)
        if share is not None:
            parts.append(f"waiting for data {100 * share:.1f} %")
        if torch.cuda.is_available():
            parts.append(f"GPU memory {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
        _LOGGER.info("  ".join(parts))


def _recent(storage: EventStorage, name: str) -> float:
    return storage.history(name).median(storage.count_samples(name, WINDOW))
