"""A training that was asked to stop ends with its own status, whatever it is asked while it ends."""

import subprocess
import sys

import pytest

from ska_vct.engine.resume.stopping import REQUEUE, STOPPED

PROGRAM = """
import atexit, os, signal, sys
from types import SimpleNamespace
from ska_vct.engine.resume.stopping import StopHook

first, later = (getattr(signal, name) for name in sys.argv[1:])
hook = StopHook(lambda iteration: "model.pth")
hook.trainer = SimpleNamespace(iter=3, max_iter=9)
hook.before_train()
os.kill(os.getpid(), first)
# Libraries clean up when the process ends, which takes a while.
atexit.register(os.kill, os.getpid(), later)
try:
    hook.after_step()
finally:
    hook.after_train()
"""


@pytest.mark.parametrize(
    "first, later, status",
    [("SIGTERM", "SIGTERM", REQUEUE), ("SIGUSR1", "SIGTERM", REQUEUE), ("SIGINT", "SIGINT", STOPPED)],
)
def test_a_signal_while_the_process_ends_changes_nothing(first, later, status):
    done = subprocess.run([sys.executable, "-c", PROGRAM, first, later], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
