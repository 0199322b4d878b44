"""Training hooks: the best checkpoint, time spent waiting for data, and the progress line."""

import datetime
import logging
import math

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from ska_vct.checkpoint.checkpointer import StrictCheckpointer

_LOGGER = logging.getLogger(__name__)
BEST_NAME = "model_best"
WINDOW = 20


class BestCheckpointer(HookBase):
    """Keep the weights that score best on the validation set.

    Unlike Detectron2's, it keeps the best score across ``--resume``, which does not continue from its file.
    Register it after the hook that puts ``metric`` into the event storage.

    Attributes:
        best: (score, iteration) of the best evaluation so far; None before the first.
    """

    def __init__(self, *, checkpointer: StrictCheckpointer, metric: str, period: int, unit: str = ""):
        """
        Args:
            checkpointer: writes ``model_best.pth``.
            metric: name in the event storage; larger is better.
            unit: printed behind the score.
            period: iterations between evaluations; 0: only after the last.
        """
        self.best: tuple[float, int] | None = None
        self._checkpointer = checkpointer
        self._metric = metric
        self._unit = f" {unit}" if unit else ""
        self._period = period
        self._seen = -1

    def after_step(self):
        if self._period > 0 and (self.trainer.iter + 1) % self._period == 0:
            self._check(self.trainer.iter)

    def after_train(self):
        if self.trainer.iter >= self.trainer.max_iter:
            self._check(self.trainer.max_iter - 1)

    def _check(self, iteration: int) -> None:
        latest = self.trainer.storage.latest()
        if self._metric not in latest:
            return
        score, scored_at = latest[self._metric]
        # The evaluation of the last step runs after training.
        if scored_at == self._seen:
            return
        self._seen = scored_at
        if math.isfinite(score) and (self.best is None or score > self.best[0]):
            self.best = (float(score), iteration)
            _LOGGER.info(f"Best {self._metric} so far: {score:.2f}{self._unit} at iteration {iteration + 1}")
            self._checkpointer.save(BEST_NAME, tag_last=False, iteration=iteration)

    def state_dict(self) -> dict:
        """Best score and its iteration, if there is one."""
        return {"best": list(self.best)} if self.best else {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.best = (float(state_dict["best"][0]), int(state_dict["best"][1]))


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
