"""Sick trainings: what is not finite stops the run or costs a step, and its clips are named.

A loss or gradient that is not finite is noticed before the optimiser's step, by numbers that the step transfers to
the host anyway. So the weights are still those of the last healthy iteration; only BatchNorm's statistics, which
the forward pass has changed already, are put back.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ska_vct.utils.errors import SkaVctError

from .ranks import publish

_LOGGER = logging.getLogger(__name__)
_INPUTS = ("images", "log_mel", "audio_second", "flow", "pre_masks")
# fp16's loss scale halves with each overflow: after so many in a row it has left the range of numbers.
_MAX_OVERFLOWS = 40
_SHOWN_CLIPS, _SHOWN_LOSSES = 8, 4


class SickRunError(SkaVctError, FloatingPointError):
    """The loss, the gradient or the weights of a training are not finite."""

    exit_status = 1


class SickStepError(SkaVctError, FloatingPointError):
    """A step must not be taken; raised in all processes of the run, in the same iteration."""

    exit_status = 1


class RemembersBatch:
    """Mixin for Detectron2's train steps: knows its batch, and shares losses among all processes.

    Detectron2 tells only the first process that the loss is not finite, and transfers every loss on its own.
    """

    @property
    def _data_loader_iter(self) -> "_Remembering":
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = _Remembering(iter(self.data_loader))
        return self._data_loader_iter_obj

    @property
    def batch(self) -> Sequence[Mapping]:
        """The clips of the current step."""
        found = self._data_loader_iter_obj
        return [] if found is None else found.last

    def _write_metrics(
        self, loss_dict: Mapping[str, Tensor], data_time: float, prefix: str = "", iter: int | None = None
    ) -> None:
        iteration = self.iter if iter is None else iter
        values = torch.stack([value.detach().float() for value in loss_dict.values()]).tolist()
        own = dict(zip(loss_dict, values, strict=True))
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=iteration)
        gathered = comm.all_gather((own, data_time))
        losses = {name: sum(found[name] for found, _ in gathered) / len(gathered) for name in own}
        total = sum(losses.values())
        if not math.isfinite(total):
            raise SickStepError(f"the loss is {total} ({_sick_first(losses)})")
        if comm.is_main_process():
            storage.put_scalar("data_time", max(time for _, time in gathered), cur_iter=iteration)
            storage.put_scalar(f"{prefix}total_loss", total, cur_iter=iteration)
            if len(losses) > 1:
                storage.put_scalars(cur_iter=iteration, **losses)


class _Remembering:
    def __init__(self, batches: Iterator[Sequence[Mapping]]) -> None:
        self.last: Sequence[Mapping] = []
        self._batches = batches

    def __next__(self) -> Sequence[Mapping]:
        self.last = next(self._batches)
        return self.last


class HealthHook(HookBase):
    """Takes the steps of a training and decides what happens to sick ones. Register it before checkpoints.

    Attributes:
        skipped: how many steps the run has skipped.
    """

    def __init__(self, *, model: nn.Module, save: Callable[[int], str], skips: int, period: int) -> None:
        """
        Args:
            model: its BatchNorms are put back after a sick step, its weights looked at before checkpoints.
            save: writes the checkpoint of an iteration and returns its path; called in every process.
            skips: how many sick steps the run may skip (``SOLVER.SKIP_SICK_STEPS``).
            period: iterations between checkpoints.
        """
        self.skipped = 0
        self._model = model
        self._save = save
        self._skips = skips
        self._period = period
        self._overflows = 0
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self._statistics = [buffer for module in norms for buffer in module.buffers(recurse=False)]
        self._kept = [buffer.clone() for buffer in self._statistics]

    def take(self, step: Any) -> None:
        """Run a step of the training.

        Args:
            step: one of Detectron2's with :class:`RemembersBatch`.

        Raises:
            SickRunError: it is sick, and no more may be skipped.
        """
        if self._statistics:
            torch._foreach_copy_(self._kept, self._statistics)
        step.optimizer.grad_norm = None
        publish(self.trainer.iter)
        try:
            step.run_step()
        except FloatingPointError as error:
            if self._statistics:
                torch._foreach_copy_(self._statistics, self._kept)
            step.optimizer.zero_grad()
            self._sick(error, step.batch)
        else:
            self._count_overflows(step)

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if self.skipped:
            self.trainer.storage.put_scalar("skipped_steps", self.skipped, smoothing_hint=False)
        if (iteration + 1) % self._period == 0 or iteration + 1 >= self.trainer.max_iter:
            sick = sick_weights(self._model)
            if sick:
                raise SickRunError(
                    f"Training stopped after iteration {iteration + 1}: {_count(sick)} not finite, first "
                    f"'{sick[0]}', and no checkpoint of it was written. Lower SOLVER.BASE_LR or turn SOLVER.AMP "
                    "off; --resume continues from the checkpoint before."
                )

    def state_dict(self) -> dict[str, int]:
        """How many steps were skipped."""
        return {"skipped": self.skipped} if self.skipped else {}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.skipped = int(state_dict["skipped"])

    def _sick(self, error: FloatingPointError, batch: Sequence[Mapping]) -> None:
        # What only one process has seen must not be skipped: the others are waiting in this step.
        together = comm.get_world_size() == 1 or isinstance(error, SickStepError)
        own = [describe_clip(clip) for clip in batch[:_SHOWN_CLIPS]]
        clips = [text for texts in (comm.all_gather(own) if together else [own]) for text in texts]
        what = f"{str(error).rstrip('.')}. Clips of the batch: {'; '.join(clips)}"
        iteration = self.trainer.iter
        if together and self.skipped < self._skips:
            self.skipped += 1
            _LOGGER.warning(
                f"Iteration {iteration + 1} is skipped ({self.skipped} of at most {self._skips}, "
                f"SOLVER.SKIP_SICK_STEPS): {what}"
            )
            return
        raise SickRunError(
            f"Training stopped in iteration {iteration + 1}: {what}. {self._save_healthy() if together else ''}"
            "Look at these clips, lower SOLVER.BASE_LR, or turn SOLVER.AMP off; SOLVER.SKIP_SICK_STEPS N would "
            "skip up to N such steps."
        ) from error

    def _save_healthy(self) -> str:
        trainer = self.trainer
        last = trainer.iter - 1
        if last < trainer.start_iter:
            return "No step was taken before, so there is nothing to save. "
        if sick_weights(self._model):
            return "The weights are not finite either, so they were not saved; the checkpoint before is whole. "
        trainer.iter = trainer.storage.iter = last
        try:
            return f"The state before it, of iteration {last + 1}, is in {self._save(last)}. "
        finally:
            trainer.iter = trainer.storage.iter = last + 1

    def _count_overflows(self, step: Any) -> None:
        # Overflows are expected in fp16: the scaler leaves the optimiser's step out and lowers its scale.
        self._overflows = self._overflows + 1 if step.optimizer.grad_norm is None else 0
        if self._overflows >= _MAX_OVERFLOWS:
            error = SickStepError(f"the gradients have overflowed in fp16 {self._overflows} times in a row")
            self._sick(error, step.batch)


def sick_weights(model: nn.Module) -> list[str]:
    """Names of parameters and buffers that hold NaN or infinity."""
    named = [(name, value) for name, value in model.state_dict().items() if value.is_floating_point()]
    if not named:
        return []
    finite = torch.stack([torch.isfinite(value).all() for _, value in named]).tolist()
    return [name for (name, _), good in zip(named, finite, strict=True) if not good]


def describe_clip(clip: Mapping) -> str:
    """A clip's name and what its inputs hold, for a message: ranges, and what is odd in them."""
    inputs = [f"{name} {_describe(clip[name])}" for name in _INPUTS if isinstance(clip.get(name), Tensor)]
    return f"'{clip.get('clip_id', 'unknown')}' ({', '.join(inputs)})"


def _describe(values: Tensor) -> str:
    values = values.detach().float().flatten()
    finite = values[torch.isfinite(values)]
    missing = (
        f"{len(values) - len(finite)} of {len(values)} values not finite" if len(finite) < len(values) else ""
    )
    if not len(finite):
        return missing or "empty"
    low, high = finite.min().item(), finite.max().item()
    extent = f"{low:.4g} to {high:.4g}" if low < high else f"all {low:.4g}"
    return f"{extent}, {missing}" if missing else extent


def _sick_first(losses: Mapping[str, float]) -> str:
    names = sorted(losses, key=lambda name: math.isfinite(losses[name]))
    more = f" and {len(names) - _SHOWN_LOSSES} more" if len(names) > _SHOWN_LOSSES else ""
    return ", ".join(f"{name} {losses[name]:.4g}" for name in names[:_SHOWN_LOSSES]) + more


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} weights are" if len(names) > 1 else "1 weight is"
