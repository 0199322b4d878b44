"""Trainings submitted with submitit: what a task is started with, and when its job is queued again."""

import json
import os
import pickle
import sys
from types import SimpleNamespace

import pytest

from ska_vct.cli import train
from ska_vct.engine.cluster import TrainingJob, submit_training
from ska_vct.utils.errors import InputError

# Stands in for the training: tells its place, and ends with the status that it finds in STATUS.
PROGRAM = """
import json, os, sys
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
open(os.environ["TOLD"], "w").write(json.dumps([sys.argv[1:], {name: os.environ[name] for name in names}]))
sys.exit(int(os.environ["STATUS"]))
"""


class Executor:
    """submitit's interface; jobs are pickled and run when they are asked for their results."""

    def __init__(self, folder, cluster):
        self.parameters = {}
        Executor.last = self

    def update_parameters(self, **parameters):
        if "nonsense" in parameters:
            raise NameError("Unknown argument 'nonsense'")
        self.parameters = parameters

    def submit(self, function):
        function = pickle.loads(pickle.dumps(function))
        return SimpleNamespace(result=function, job_id="123456_0")


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """A task of a job on two nodes; returns a function that reads what the training was told."""
    place = SimpleNamespace(
        global_rank=0, local_rank=0, num_tasks=4, num_nodes=2, hostnames=["node7", "node8"], job_id="123456"
    )
    fake = SimpleNamespace(AutoExecutor=Executor, JobEnvironment=lambda: place)
    monkeypatch.setitem(sys.modules, "submitit", fake)
    (tmp_path / "ska_vct" / "cli").mkdir(parents=True)
    for name in ("__init__", "cli/__init__"):
        (tmp_path / "ska_vct" / f"{name}.py").touch()
    (tmp_path / "ska_vct" / "cli" / "train.py").write_text(PROGRAM)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/queued\n')
    scontrol.chmod(0o755)
    for name, value in {
        "PYTHONPATH": tmp_path, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TOLD": tmp_path / "told",
        "SLURM_JOB_ID": "123456", "STATUS": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    # The task sets handlers of its own; those of the tests come back.
    monkeypatch.setattr("ska_vct.engine.cluster.signal.signal", lambda number, handler: None)
    return place


def test_a_task_learns_its_place_and_goes_on_with_the_run(slurm, tmp_path):
    slurm.global_rank, slurm.local_rank = 3, 1
    TrainingJob(["--config", "a b.yaml", "INPUT.SIZE", "(64, 64)"])()
    words, place = json.loads((tmp_path / "told").read_text())
    assert words == ["--resume", "--config", "a b.yaml", "INPUT.SIZE", "(64, 64)"]
    assert place == {
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node7",
        "MASTER_PORT": str(20000 + 123456 % 20000),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rank", "status", "queued"), [(0, 75, True), (1, 75, False), (0, 1, False), (0, 76, False)]
)
def test_the_first_task_queues_a_job_that_was_asked_to_stop(slurm, monkeypatch, tmp_path, rank, status, queued):
    slurm.global_rank = rank
    monkeypatch.setenv("STATUS", str(status))
    with pytest.raises(SystemExit) as ended:
        TrainingJob([])()
    assert ended.value.code == status
    assert (tmp_path / "queued").exists() == queued
    assert not queued or (tmp_path / "queued").read_text() == "requeue 123456\n"


def test_the_command_submits_its_own_words(slurm, tmp_path, capsys):
    options = ["--cluster-option", "nodes=2", "slurm_partition=gpu", "--no-check", "SOLVER.MAX_ITER", "5"]
    train.main(["--config", "synth/quickstart", "--submit", "slurm", *options])
    assert "Submitted job 123456_0; logs in output/jobs" in capsys.readouterr().out
    parameters = Executor.last.parameters
    assert (parameters["nodes"], parameters["slurm_partition"]) == (2, "gpu")
    assert "--kill-on-bad-exit=0" in parameters["slurm_srun_args"]
    assert parameters["slurm_additional_parameters"]["requeue"] is True
    job = submit_training("local", tmp_path, ["--config", "x"])
    job.result()
    assert json.loads((tmp_path / "told").read_text())[0] == ["--resume", "--config", "x"]


def test_what_submitit_refuses_is_said(slurm, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="cannot submit to 'slurm': Unknown argument 'nonsense'"):
        submit_training("slurm", tmp_path, [], parameters={"nonsense": 1})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match="pip install submitit.*slurm_train.sh"):
        submit_training("slurm", tmp_path, [])
    with pytest.raises(SystemExit, match="--cluster-option takes KEY=VALUE, not 'nodes'"):
        train.main(["--config", "x", "--submit", "slurm", "--cluster-option", "nodes"])


@pytest.mark.slow
def test_submitit_itself_on_this_machine(tmp_path):
    pytest.importorskip("submitit")
    job = submit_training("local", tmp_path, ["--help"], parameters={"timeout_min": 5})
    job.result()
    assert "--rank-timeout" in job.stdout()
