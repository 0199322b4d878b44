"""Shared fixtures; data that takes long to make is made once per session."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ska_vct.config import get_cfg

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT.parent / "shared" / "goldens"
SIDE = 64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _loggers():
    """A run that sets up its own logging hides later messages from the tests that read them."""
    yield
    for name in ("fvcore", "detectron2", "ska_vct"):
        logging.getLogger(name).propagate = True


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of the published parts' inputs and outputs; the test is skipped where it is absent."""
    if not GOLDENS.is_dir():
        pytest.skip("the goldens are not on this machine")
    return GOLDENS


@pytest.fixture
def browser():
    """A headless Chromium; the test is skipped where it or Playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser is installed; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as started:
        # Containers run as root, where Chromium's sandbox does not start.
        found = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def tiny_cfg():
    """The whole model at sizes that build and run in well under a second; not frozen."""
    cfg = get_cfg()
    for name in ("ska_vct", "datasets/ms3", "backbones/tiny"):
        cfg.merge_from_file(str(ROOT / "configs" / "_base_" / f"{name}.yaml"), allow_unsafe=False)
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.SIZE = (SIDE, SIDE)
    cfg.INPUT.EVAL_SIZE = (48, 48)
    cfg.MODEL.HIDDEN_DIM = 32
    cfg.MODEL.DECODER.NUM_QUERIES = 6
    cfg.MODEL.DECODER.NUM_LAYERS = 4
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    return cfg


@pytest.fixture
def make_clip() -> Callable[..., dict]:
    """A function that makes a seeded random clip as ``ska_vct/structures/clip.py`` describes it."""

    def make(
        *, frames: int = 5, side: int = SIDE, eval_side: int | None = None, num_classes: int = 2, seed: int = 0
    ) -> dict:
        generator = torch.Generator().manual_seed(seed)
        mask_side = eval_side or side
        return {
            "images": torch.randint(0, 256, (frames, 3, side, side), dtype=torch.uint8, generator=generator),
            "log_mel": torch.randn(frames, 1, 96, 64, generator=generator),
            "frame_valid": torch.ones(frames, dtype=torch.bool),
            "mask_valid": torch.ones(frames, dtype=torch.bool),
            "masks": torch.randint(0, num_classes, (frames, mask_side, mask_side), generator=generator),
            "flow": torch.rand(frames, 1, 2, 24, 24, generator=generator),
            "frame_index": torch.arange(frames),
            "category": -1,
            "clip_id": f"test/clip{seed}",
            "subset": "ms3",
            "height": mask_side,
            "width": mask_side,
        }

    return make
