"""Stopping a training from outside: it finishes its iteration, writes a checkpoint, and says so when it exits."""

import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch.utils.data import get_worker_info

_LOGGER = logging.getLogger(__name__)
# Exit statuses (docs/reliability.md). REQUEUE is EX_TEMPFAIL of sysexits.h: --resume goes on.
REQUEUE, STOPPED = 75, 76
STOP_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT")
_IMPATIENT = 3


class StopHook(HookBase):
    """Ends the training after the current iteration, with a checkpoint, when the process is asked to stop.

    SIGTERM, SIGUSR1 and SIGHUP end it with status ``REQUEUE``, Ctrl-C (once or twice) with ``STOPPED``; a third
    Ctrl-C interrupts at once. With several processes it suffices that one is asked. Register it last.

    Attributes:
        asked: name of the signal that arrived; empty before.
    """

    def __init__(self, save: Callable[[int], str]) -> None:
        """
        Args:
            save: writes the checkpoint of an iteration, unless there is one, and returns its path; called in every
                process.
        """
        self.asked = ""
        self._save = save
        self._interrupts = 0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def before_train(self) -> None:
        # Python delivers signals to the main thread only.
        if threading.current_thread() is not threading.main_thread():
            return
        self._process = os.getpid()
        for name in STOP_SIGNALS:
            number = getattr(signal, name, None)
            if number is not None:
                self._before[number] = signal.signal(number, self._ask)

    def after_train(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def after_step(self) -> None:
        asked = self.asked
        if comm.get_world_size() > 1:
            asked = next((name for name in comm.all_gather(asked) if name), "")
        # The last iteration ends the training anyway.
        if asked and self.trainer.iter + 1 < self.trainer.max_iter:
            self.stop(asked)

    def stop(self, asked: str) -> None:
        """Write the checkpoint of the current iteration and end the process.

        Raises:
            SystemExit: always.
        """
        iteration = self.trainer.iter
        path = self._save(iteration)
        # No process may end, and so end the others, before the file is whole.
        comm.synchronize()
        status = STOPPED if asked == "SIGINT" else REQUEUE
        atexit.register(_ignore_requests)
        _LOGGER.warning(
            f"Stopped by {asked} after iteration {iteration + 1} of {self.trainer.max_iter}; the same command "
            f"with --resume continues from {path} (exit status {status})"
        )
        raise SystemExit(status)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # Workers of data loaders, which are forks, work on for the last iteration.
        if os.getpid() != self._process:
            return
        name = signal.Signals(number).name
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts >= _IMPATIENT:
                raise KeyboardInterrupt
        self.asked = self.asked or name
        more = "; Ctrl-C a third time stops at once, without one" if number == signal.SIGINT else ""
        try:
            # Not the logger, which the signal may have interrupted.
            os.write(2, f"{name}: stopping after this iteration, with a checkpoint{more}\n".encode())
        except OSError:
            # A terminal that has hung up.
            pass


class ParentsWorker:
    """A mapper; of the signals SIGTERM, the worker of a data loader that calls it follows its parent's only.

    Schedulers signal whole process groups. PyTorch's handler would end the workers, and so the training, before
    the main process has written its checkpoint; but a worker that ignored SIGTERM could not be ended by
    ``multiprocessing`` either. Where the system does not tell who sent a signal (macOS), nothing changes.
    """

    def __init__(self, mapper: Callable[..., Any]):
        """
        Args:
            mapper: what the workers call.
        """
        self._mapper = mapper
        self._process = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        if get_worker_info() is not None and self._process != os.getpid():
            self._process = os.getpid()
            if hasattr(signal, "sigwaitinfo"):
                # Later threads inherit the mask, so the signal is left to the one that asks for its sender.
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
                threading.Thread(target=_end_for_parent, args=(os.getppid(),), daemon=True).start()
        return self._mapper(*args, **options)


def _end_for_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _ignore_requests() -> None:
    """A process that is ending cannot be asked to: a second signal would only change its exit status."""
    for name in STOP_SIGNALS:
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
