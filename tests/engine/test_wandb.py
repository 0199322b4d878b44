"""Weights & Biases: one key, one sentence without the package, and TensorBoard's values with it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ska_vct.config import get_cfg
from ska_vct.engine.wandb_run import start_wandb
from ska_vct.utils.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.LOG.WANDB = str(tmp_path / "run"), "project"
    return cfg


def test_without_the_key_the_package_is_not_imported(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    cfg.LOG.WANDB = ""
    start_wandb(cfg)


def test_without_the_package_one_sentence_says_what_to_do(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="LOG.WANDB is 'project', but the package wandb is not installed"):
        start_wandb(cfg)


def test_the_run_has_the_project_the_config_and_tensorboards_values(cfg, monkeypatch):
    class Error(Exception):
        pass

    calls = []
    fake = SimpleNamespace(init=lambda **options: calls.append(options), errors=SimpleNamespace(Error=Error))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    start_wandb(cfg)
    (options,) = calls
    assert options["project"] == "project" and options["name"] == "run" and options["sync_tensorboard"]
    assert options["config"]["SOLVER"]["IMS_PER_BATCH"] == cfg.SOLVER.IMS_PER_BATCH

    def fail(**options):
        raise Error("api_key\nnot configured")

    fake.init = fail
    with pytest.raises(InputError, match="api_key not configured.*WANDB_MODE=offline"):
        start_wandb(cfg)


@pytest.mark.slow
def test_a_run_without_network_keeps_scalars_and_images(tmp_path):
    pytest.importorskip("wandb")
    code = (
        "import numpy as np; from torch.utils.tensorboard import SummaryWriter\n"
        "from ska_vct.config import get_cfg; from ska_vct.engine.wandb_run import start_wandb\n"
        f"cfg = get_cfg(); cfg.OUTPUT_DIR, cfg.LOG.WANDB = {str(tmp_path)!r}, 'project'; start_wandb(cfg)\n"
        "writer = SummaryWriter(cfg.OUTPUT_DIR)\n"
        "writer.add_scalar('sem_seg/mIoU', 61.25, 7); writer.add_image('clips/a', np.zeros((3, 8, 8), np.uint8))\n"
        "writer.close()"
    )
    environment = {"WANDB_MODE": "offline", "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"sem_seg/mIoU" in log.read_bytes() and b"61.25" in log.read_bytes()
    assert list((tmp_path / "wandb").rglob("*.png"))
