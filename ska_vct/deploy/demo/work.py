"""Long work in a thread of its own: it reports progress, can be cancelled, and ends with a result or an error."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ska_vct.utils.errors import SkaVctError


class CancelledError(SkaVctError):
    """The person has cancelled the work."""


@dataclass(frozen=True)
class Progress:
    """How far the work has come.

    Attributes:
        stage: what is done now.
        done: units that are done.
        total: units in all; None if unknown.
        unit: of both.
    """

    stage: str
    done: float = 0.0
    total: float | None = None
    unit: str = ""

    @property
    def text(self) -> str:
        """One line."""
        if self.total is None:
            return f"{self.stage}, {self.done:.0f} {self.unit}" if self.done else self.stage
        return f"{self.stage}, {self.done:.0f} of {self.total:.0f} {self.unit}"

    @property
    def share(self) -> float:
        """Share of this stage that is done, 0 to 1; 0 if unknown."""
        return min(1.0, self.done / self.total) if self.total else 0.0


Report = Callable[[Progress], None]


class Work:
    """One piece of work; iterate over it for its progress, then read ``result``.

    Leaving the iteration early cancels the work, as does ``cancel``: it ends when it next reports.

    Args:
        task: called in a thread with a function that it calls to report; raises what the iteration shall raise.
    """

    def __init__(self, task: Callable[[Report], Any]) -> None:
        self._task = task
        self._cancelled = threading.Event()
        self._messages: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.result: Any = None

    def cancel(self) -> None:
        """End the work; the iteration raises :class:`CancelledError`."""
        self._cancelled.set()

    def __iter__(self) -> Iterator[Progress]:
        self._thread.start()
        try:
            while (message := self._messages.get()) is not None:
                yield message
        finally:
            self.cancel()
            self._thread.join()
        if isinstance(self.result, BaseException):
            raise self.result

    def _run(self) -> None:
        try:
            self._report(Progress("Starting"))
            self.result = self._task(self._report)
        except BaseException as error:
            self.result = error
        finally:
            self._messages.put(None)

    def _report(self, progress: Progress) -> None:
        if self._cancelled.is_set():
            raise CancelledError("The work was cancelled.")
        self._messages.put(progress)
