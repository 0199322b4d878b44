"""Runs programs in order, several at a time, each with its own log; a per-folder lock prevents duplicates.

Written by hand because neither joblib nor submitit offers slots with separate environments or a lock that outlives
the queue.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOG_NAME = "log.txt"
_LOCK_NAME = ".lock"
_LOG_LINES = 12
# Time for a stopped program to finish the checkpoint it is writing.
_SECONDS_TO_STOP = 20.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A program to run.

    Attributes:
        name: shown in messages.
        folder: holds ``log.txt`` and the lock; created if missing.
        command: program and arguments.
        is_finished: called before the start with the lock held, so work that another process has just finished
            is recognised.
    """

    name: str
    folder: Path
    command: Sequence[str]
    is_finished: Callable[[], bool] = lambda: False


@dataclass(kw_only=True)
class QueueResult:
    """Names of jobs by outcome."""

    done: list[str]
    skipped: list[str]
    elsewhere: list[str]
    failed: list[str]


class JobQueue:
    """Runs jobs in order, as many at a time as there are slots."""

    def __init__(
        self,
        *,
        slots: Sequence[Mapping[str, str]] = ({},),
        say: Callable[[str], None] = print,
        poll_seconds: float = 0.5,
    ):
        """
        Args:
            slots: one per concurrent job: environment variables for the jobs that run in it.
            say: called with each line of progress.
            poll_seconds: interval between checks for finished jobs.
        """
        self._slots = [dict(slot) for slot in slots]
        self._say = say
        self._poll = poll_seconds

    def run(self, jobs: Sequence[Job]) -> QueueResult:
        """Run all jobs; a failing job is reported with the end of its log, and the others continue.

        Raises:
            KeyboardInterrupt: re-raised after the running programs were stopped.
            OSError: a folder or log cannot be written, or a program cannot be started.
        """
        waiting, running = deque(jobs), {}
        result = QueueResult(done=[], skipped=[], elsewhere=[], failed=[])
        seconds = []
        try:
            while waiting or running:
                for slot in range(len(self._slots)):
                    while slot not in running and waiting:
                        started = self._start(waiting.popleft(), slot, result)
                        if started:
                            running[slot] = started
                for slot, process in list(running.items()):
                    if process.popen.poll() is not None:
                        del running[slot]
                        process.close()
                        seconds.append(time.monotonic() - process.start)
                        left = self._left(len(waiting), running, seconds)
                        self._report(process, result, len(jobs), seconds[-1], left)
                if running:
                    time.sleep(self._poll)
        except BaseException:
            _stop(list(running.values()))
            raise
        return result

    def _start(self, job: Job, slot: int, result: QueueResult) -> "_Process | None":
        job.folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(job.folder / _LOCK_NAME)
        if lock is None:
            result.elsewhere.append(job.name)
            self._say(f"{job.name}: another process is running it; skipped here")
            return None
        if job.is_finished():
            lock.close()
            result.skipped.append(job.name)
            self._say(f"{job.name}: already done")
            return None
        log = open(job.folder / LOG_NAME, "ab")
        offset = log.tell()
        self._say(f"{job.name}: started; log in {job.folder / LOG_NAME}")
        popen = subprocess.Popen(
            job.command,
            env=os.environ | self._slots[slot],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # The program inherits the lock, so the folder stays locked if this process is killed.
            pass_fds=[lock.fileno()],
            # Ctrl-C reaches this process only, which then stops the whole group with its data loaders.
            start_new_session=True,
        )
        return _Process(job, popen, log, lock, offset, time.monotonic())

    def _report(self, process: "_Process", result: QueueResult, total: int, seconds: float, left: str) -> None:
        name, status = process.job.name, process.popen.returncode
        if status == 0:
            result.done.append(name)
            self._say(f"{name}: done in {format_seconds(seconds)} ({_count(result)} of {total}{left})")
            return
        result.failed.append(name)
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        self._say(f"{name}: FAILED, {reason}, after {format_seconds(seconds)} ({_count(result)} of {total}{left})")
        for line in process.log_end():
            self._say(f"    | {line}")

    def _left(self, waiting: int, running: Mapping[int, "_Process"], seconds: Sequence[float]) -> str:
        if not waiting and not running:
            return ""
        mean = sum(seconds) / len(seconds)
        now = time.monotonic()
        rest = waiting * mean + sum(max(0.0, mean - (now - process.start)) for process in running.values())
        return f", about {format_seconds(rest / len(self._slots))} left"


@dataclass
class _Process:
    job: Job
    popen: subprocess.Popen
    log: IO
    lock: IO
    offset: int
    start: float

    def close(self) -> None:
        self.log.close()
        self.lock.close()

    def log_end(self) -> list[str]:
        """The last lines that this run wrote to its log."""
        with open(self.log.name, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.offset, size - 8192))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        return [line for line in lines if line.strip()][-_LOG_LINES:]


def is_locked(folder: Path) -> bool:
    """Whether a job is running in ``folder``."""
    if not (folder / _LOCK_NAME).exists():
        return False
    lock = _lock(folder / _LOCK_NAME)
    if lock is None:
        return True
    lock.close()
    return False


def format_seconds(seconds: float) -> str:
    """``2 h 05 min``, ``7 min 32 s`` or ``12 s``."""
    total = round(seconds)
    if total >= 3600:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 60} min {total % 60:02d} s" if total >= 60 else f"{total} s"


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP end this process like Ctrl-C, so that ``finally`` blocks run."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup sets SIGHUP to be ignored; keep that.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _count(result: QueueResult) -> int:
    return sum(len(names) for names in (result.done, result.skipped, result.elsewhere, result.failed))


def _lock(path: Path) -> IO | None:
    file = open(path, "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _stop(processes: Sequence[_Process]) -> None:
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + _SECONDS_TO_STOP
    for process in processes:
        try:
            process.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        # Data loaders that outlive their program.
        _signal_group(process, signal.SIGKILL)
        process.popen.wait()
        process.close()


def _signal_group(process: _Process, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.popen.pid, number)
