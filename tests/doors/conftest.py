"""The examples of docs/extending.md, written to files and trained as users would; one small dataset for all."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ska_vct.checkpoint.files import load_file

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"
# No weight decay, which would change parameters that get no gradient.
SIZES = {
    "INPUT.SIZE": "(32, 32)", "INPUT.EVAL_SIZE": "(32, 32)", "MODEL.HIDDEN_DIM": 32, "MODEL.DECODER.NUM_LAYERS": 4,
    "MODEL.DECODER.NUM_QUERIES": 6, "SOLVER.MAX_ITER": 2, "SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.WEIGHT_DECAY": 0.0, "TEST.EVAL_PERIOD": 0, "DATALOADER.NUM_WORKERS": 1, "SEED": 1,
}  # fmt: skip


def code_blocks(section: str, language: str) -> list[str]:
    """What docs/extending.md shows below a heading in one language."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def first_yaml() -> Callable[[str], str]:
    """Gives a section's first YAML."""
    return lambda section: code_blocks(section, "yaml")[0]


@pytest.fixture
def example() -> Callable[[str, Path], str]:
    """Writes a section's module into a folder; gives the section's last YAML."""

    def write(section: str, folder: Path) -> str:
        for text in code_blocks(section, "python"):
            assert len(text.splitlines()) <= 40
            (folder / re.match(r"# (\w+\.py)\n", text)[1]).write_text(text)
        return code_blocks(section, "yaml")[-1]

    return write


def run(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A synthetic release of a few small clips."""
    root = tmp_path_factory.mktemp("doors")
    counts = ("--train", 2, "--val", 1, "--test", 1, "--size", 32, "--series", 2, "--seed", 1, "--jobs", 1)
    run("datasets/make_synth.py", "--root", root, "--subset", "ms3", *counts)
    return root


@pytest.fixture
def train(clips, tmp_path) -> Callable[..., tuple[Path, dict, dict]]:
    """Trains two steps with a section's YAML on top of the small configuration.

    Gives the config file and the weights after the first and after the second step.
    """

    def train(text: str) -> tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        bases = ", ".join(
            f"{ROOT}/configs/_base_/{name}.yaml" for name in ("ska_vct", "datasets/ms3", "backbones/tiny")
        )
        config = tmp_path / "config.yaml"
        config.write_text(f"_BASE_: [{bases}]\n{text}")
        sizes = [word for item in SIZES.items() for word in item]
        out = tmp_path / "out"
        where = ("DATASETS.ROOT", clips, "OUTPUT_DIR", out)
        run("tools/train_net.py", "--config-file", config, "--num-gpus", 0, *sizes, *where)
        first, last = (load_file(out / f"model_{name}.pth")["model"] for name in ("0000000", "final"))
        assert first.keys() == last.keys()
        return config, first, last

    return train


@pytest.fixture
def small() -> list[str]:
    """The overrides that every training here has, for the CPU."""
    return [*(str(word) for item in SIZES.items() for word in item), "MODEL.DEVICE", "cpu"]


@pytest.fixture
def changed() -> Callable[[dict, dict, str], list[str]]:
    """Names below a prefix in a checkpoint; every one must have changed between the two steps."""

    def names(first: dict, last: dict, prefix: str) -> list[str]:
        found = sorted(name for name in last if name.startswith(prefix))
        assert [name for name in found if torch.equal(first[name], last[name])] == []
        return [name.removeprefix(prefix) for name in found]

    return names
