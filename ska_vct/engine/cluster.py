"""Train on a cluster with submitit, an optional extra (``pip install -e .[slurm]``).

The job's tasks are processes of one run. A job that is preempted, or reaches its time limit, writes a checkpoint
and is queued again; the same command then goes on.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ska_vct.utils.errors import InputError
from ska_vct.utils.submission import submitting

from .resume.stopping import REQUEUE

# Seconds before the time limit at which Slurm asks the tasks to stop.
_NOTICE = 180
_LOCAL = "local"
_SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGTERM", "SIGHUP")


class TrainingJob:
    """One task of a job: a process of ``ska-vct-train``, which learns its place from the cluster."""

    def __init__(self, words: Sequence[str]) -> None:
        """
        Args:
            words: of the command line, without ``--resume``.
        """
        self.words = list(words)

    def __call__(self) -> None:
        """Train, and queue the job again if it was asked to stop.

        Raises:
            SystemExit: with the training's status, if it is not 0.
        """
        import submitit

        place = submitit.JobEnvironment()
        command = [sys.executable, "-m", "ska_vct.cli.train", "--resume", *self.words]
        process = subprocess.Popen(command, env=os.environ | _environment(place))
        # submitit would end the task at once and queue a job that has no new checkpoint.
        for name in _SIGNALS:
            signal.signal(getattr(signal, name), lambda number, frame: process.send_signal(signal.SIGUSR1))
        status = process.wait()
        if status == REQUEUE and place.global_rank == 0 and "SLURM_JOB_ID" in os.environ:
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
        if status:
            raise SystemExit(status)


def submit_training(
    cluster: str,
    folder: str | os.PathLike,
    words: Sequence[str],
    *,
    parameters: Mapping[str, str | int] | None = None,
):
    """Submit a training.

    Args:
        cluster: ``slurm``, or ``local`` to run the job as processes of this machine.
        folder: where the job's script and logs go; all machines must see it.
        words: see :class:`TrainingJob`.
        parameters: submitit's, such as ``nodes``, ``tasks_per_node``, ``gpus_per_node`` (a GPU for each task),
            ``timeout_min``, ``slurm_partition``.

    Returns:
        submitit's job; ``job.job_id`` names it.

    Raises:
        InputError: submitit is not installed, or it refuses cluster or parameters.
    """
    defaults: dict = {"name": "ska_vct_train", "timeout_min": 12 * 60}
    if cluster != _LOCAL:
        defaults |= {
            "slurm_signal_delay_s": _NOTICE,
            # A task that ends must not end the others before their checkpoint is whole.
            "slurm_srun_args": ["--kill-on-bad-exit=0", "--wait=300"],
            "slurm_additional_parameters": {"requeue": True, "open-mode": "append"},
        }
    instead = "use scripts/slurm_train.sh, which does not"
    wanted = {**defaults, **(parameters or {})}
    with submitting(cluster, folder, wanted, error=InputError, instead=instead) as executor:
        return executor.submit(TrainingJob(words))


def _environment(place) -> dict[str, str]:
    """What torchrun would set, from submitit's ``JobEnvironment``."""
    here = "SLURM_JOB_ID" not in os.environ
    digits = int(re.sub(r"\D", "", str(place.job_id)) or 0)
    values = {
        "RANK": place.global_rank,
        "WORLD_SIZE": place.num_tasks,
        "LOCAL_RANK": place.local_rank,
        "LOCAL_WORLD_SIZE": place.num_tasks // place.num_nodes,
        "MASTER_ADDR": "127.0.0.1" if here else place.hostnames[0],
        "MASTER_PORT": 20000 + digits % 20000,
    }
    return {name: str(value) for name, value in values.items()}
