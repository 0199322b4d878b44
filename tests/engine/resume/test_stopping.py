"""A training that was asked to stop ends with its own status, whatever it is asked while it ends."""

import signal
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


LOADER = """
import os, signal, subprocess
from itertools import islice
from torch.utils.data import DataLoader, IterableDataset
from ska_vct.engine.resume.stopping import ParentsWorker

class Endless(IterableDataset):
    def __init__(self):
        self.mapper = ParentsWorker(lambda number: number)

    def __iter__(self):
        number = 0
        while True:
            yield self.mapper(number)
            number += 1

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
batches = iter(DataLoader(Endless(), batch_size=None, num_workers=2))
print(len(list(islice(batches, 6))))
for _ in range(3):
    # By another process: a parent's own signal ends its workers.
    subprocess.run(["kill", "-TERM", "--", f"-{os.getpid()}"])
    print(len(list(islice(batches, 20))))
print("asked", bool(asked))
"""


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not say who sent a signal")
def test_workers_outlive_a_signal_to_the_group_and_end_with_their_parent():
    done = subprocess.run(
        [sys.executable, "-c", LOADER], capture_output=True, text=True, timeout=120, start_new_session=True
    )
    assert (done.returncode, done.stdout.split()) == (0, ["6", "20", "20", "20", "asked", "True"]), done.stderr
