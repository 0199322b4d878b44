"""scripts/slurm_train.sh with stand-ins for Slurm's commands: what tasks get, and when the job is queued again."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "slurm_train.sh"
SRUN = """#!/usr/bin/env bash
# Two nodes with two tasks each; the status is the highest of the tasks.
echo "$@" > "$LOG/srun"
while [ "${1#--}" != "$1" ]; do shift; done
status=0
for task in 0 1 2 3; do
    SLURM_PROCID=$task SLURM_LOCALID=$((task % 2)) "$@" || { code=$?; [ $code -gt $status ] && status=$code; }
done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1" = show ] && printf 'node7\\nnode8\\n' || echo "$@" >> "$LOG/scontrol"
"""
PYTHON = """#!/usr/bin/env bash
names="RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT"
for name in $names; do printf '%s=%s ' "$name" "${!name}"; done > "$LOG/task$RANK"
printf '%s\\n' "$@" > "$LOG/words$RANK"
exit "$STATUS"
"""


@pytest.fixture
def submit(tmp_path):
    """A function that runs the script as a job whose tasks end with a status."""
    commands, checkout, log = (tmp_path / name for name in ("bin", "checkout", "log"))
    for folder in (commands, checkout / "tools", log):
        folder.mkdir(parents=True)
    (checkout / "tools" / "train_net.py").touch()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python-of-the-test", PYTHON)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)

    def run(status: int, *words: str, folder: Path = checkout) -> tuple[int, Path, str]:
        environment = os.environ | {
            "PATH": f"{commands}:{os.environ['PATH']}", "LOG": str(log), "STATUS": str(status),
            "PYTHON": "python-of-the-test", "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_NODELIST": "node[7-8]",
            "SLURM_JOB_ID": "123456", "SLURM_NTASKS": "4", "SLURM_NNODES": "2",
        }  # fmt: skip
        done = subprocess.run(["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True)
        return done.returncode, log, done.stderr

    return run


def test_tasks_know_their_place_and_get_the_words_as_they_are(submit):
    status, log, _ = submit(0, "--config", "a b.yaml", "INPUT.SIZE", "(64, 64)")
    assert status == 0
    for rank in range(4):
        found = dict(part.split("=") for part in (log / f"task{rank}").read_text().split())
        assert found == {
            "RANK": str(rank), "WORLD_SIZE": "4", "LOCAL_RANK": str(rank % 2), "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "node7", "MASTER_PORT": str(20000 + 123456 % 20000),
        }  # fmt: skip
        words = (log / f"words{rank}").read_text().splitlines()
        assert words == ["tools/train_net.py", "--resume", "--config", "a b.yaml", "INPUT.SIZE", "(64, 64)"]
    assert not (log / "scontrol").exists()


def test_only_a_run_that_was_asked_to_stop_is_queued_again(submit):
    assert submit(1)[0] == 1 and submit(2)[0] == 2 and submit(76)[0] == 76
    status, log, _ = submit(75)
    assert status == 0 and (log / "scontrol").read_text() == "requeue 123456\n"
    # Slurm must not end tasks that are still writing.
    assert "--kill-on-bad-exit=0" in (log / "srun").read_text()


def test_another_folder_is_refused(submit, tmp_path):
    status, log, errors = submit(0, folder=tmp_path)
    assert status == 2 and errors.startswith("error: ") and not (log / "srun").exists()


def test_the_status_is_that_of_the_training():
    from ska_vct.engine.resume.stopping import REQUEUE

    assert REQUEUE == 75 and '"$status" -eq 75' in SCRIPT.read_text()
