"""Several processes, also of several machines, train what one does; a killed run is started again by torchrun."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 3
# No part depends on the other clips of its process, as BatchNorm, stochastic depth and the contrast do. Points of
# the mask losses are sampled, as in the paper's configs.
MODEL = (
    "MODEL.BACKBONE.NAME", "build_swin_backbone", "MODEL.SWIN.EMBED_DIM", "16",
    "MODEL.SWIN.DEPTHS", "[1, 1, 1, 1]", "MODEL.SWIN.NUM_HEADS", "[1, 2, 2, 4]", "MODEL.SWIN.WINDOW_SIZE", "4",
    "MODEL.SWIN.DROP_PATH_RATE", "0.0", "MODEL.SKA.NORM", "GN", "MODEL.BRM.NORM", "GN",
    "MODEL.SKA.CONTRAST", "0.0", "MODEL.CRITERION.NUM_POINTS", "100",
)  # fmt: skip
# A loss of the user's own, whose process is killed in its second step, the first time that torchrun starts it.
KILLER = """
import os, signal
from torch import nn
from ska_vct.modeling import LOSS_REGISTRY
calls = []

@LOSS_REGISTRY.register()
class Killer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
    def forward(self, inputs):
        calls.append(1)
        if len(calls) == 2 and os.environ.get("KILLED") in (None, os.environ.get("RANK")):
            if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
                os.kill(os.getpid(), signal.SIGKILL)
        return {}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    words = ["--root", str(root), "--subset", "ms3", "--train", "4", "--val", "1", "--test", "1", "--size", "32"]
    wait(start(["datasets/make_synth.py", *words, "--jobs", "1"]))
    return root


def start(words: list[str], launcher: tuple[str, ...] = (), **variables: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen(
        [sys.executable, *launcher, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait(*processes: subprocess.Popen) -> list[str]:
    texts = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(texts)[-4000:]
    return texts


def train(
    data: Path, out: Path, *overrides: str, launcher: tuple[str, ...] = (), resume: bool = False, **variables
):
    words = ["tools/train_net.py", "--config", "configs/synth/quickstart.yaml", "--num-gpus", "0", "--no-check"]
    words += ["--resume"] if resume else []
    words += [
        "DATASETS.ROOT",
        str(data),
        "OUTPUT_DIR",
        str(out),
        "DATALOADER.NUM_WORKERS",
        "0",
        "DATASETS.VAL",
        "()",
    ]
    words += ["SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.IMS_PER_BATCH", "2", "INPUT.SIZE", "(32, 32)"]
    words += ["SOLVER.CHECKPOINT_PERIOD", "1", *MODEL, *overrides]
    return start(words, launcher, **variables)


def torchrun(*options: str) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", "--nproc-per-node", "1", *options)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    return [line["total_loss"] for line in lines if "total_loss" in line]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "model_final.pth", weights_only=True)["model"]


def moments(out: Path) -> torch.Tensor:
    """The averages of all gradients that the optimiser has after the last iteration."""
    trainer = torch.load(out / "model_final.pth", weights_only=True)["trainer"]["_trainer"]
    return torch.cat([state["exp_avg"].flatten() for state in trainer["optimizer"]["state"].values()])


@pytest.fixture(scope="module")
def one(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one")
    wait(train(data, out))
    return out


@pytest.mark.slow
def test_two_machines_train_what_one_process_does(data, one, tmp_path):
    place = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    wait(*(train(data, tmp_path, launcher=torchrun(*place, "--node-rank", str(n))) for n in (0, 1)))
    assert losses(tmp_path) == pytest.approx(losses(one), rel=1e-5)
    # Not the weights, where Adam turns the signs of vanishing gradients, which are rounding, into steps.
    alone, together = (moments(out) for out in (one, tmp_path))
    assert alone.norm() > 0 and (together - alone).norm() < 1e-3 * alone.norm()


@pytest.mark.slow
def test_a_killed_run_is_started_again_and_ends_as_if_nothing_had_happened(data, one, tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    extra = ("IMPORTS", f"['{tmp_path}/killer.py']", "MODEL.LOSSES", "['Killer']")
    out = tmp_path / "run"
    launcher = torchrun("--standalone", "--max-restarts", "1")
    (text,) = wait(train(data, out, *extra, launcher=launcher, resume=True))
    assert "Continuing at iteration 2 of 3" in text
    expected, found = weights(one), weights(out)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.slow
def test_the_others_say_that_a_process_is_lost(data, tmp_path):
    """As on two machines of a scheduler: nothing but these variables connects the processes."""
    (tmp_path / "killer.py").write_text(KILLER)
    extra = ("IMPORTS", f"['{tmp_path}/killer.py']", "MODEL.LOSSES", "['Killer']")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "KILLED": "1"}
    place |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    first, second = (train(data, tmp_path / "run", *extra, RANK=str(rank), **place) for rank in (0, 1))
    text = first.communicate()[0]
    second.communicate()
    assert (first.returncode, second.returncode) == (1, -9)
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "has lost another process" in lines[0] and "Traceback" not in text
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text()
