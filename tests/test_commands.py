"""Every command answers --help at once: it imports no library that takes seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    str(path.relative_to(ROOT)) for folder in ("tools", "datasets") for path in (ROOT / folder).glob("*.py")
)
MODULES = [f"-m ska_vct.cli.{path.stem}" for path in sorted((ROOT / "ska_vct" / "cli").glob("[!_]*.py"))]
HEAVY = {"torch", "torchvision", "detectron2", "cv2", "av", "timm", "scipy", "matplotlib", "transformers"}


def start(*words: str) -> tuple[subprocess.CompletedProcess, set[str]]:
    """Run Python with ``words``; also returns the names of all top-level modules that it imported."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    imported = set(re.findall(r"^import time:.*\|\s+(\w+)$", done.stderr, re.MULTILINE))
    return done, imported


@pytest.mark.parametrize("command", [*SCRIPTS, *MODULES])
def test_help_imports_nothing_heavy(command):
    done, imported = start(*command.split(), "--help")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage:" in done.stdout and "argparse" in imported
    assert imported & HEAVY == set()
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_the_check_notices_an_import():
    assert "cv2" in start("-c", "import cv2")[1]


def test_the_package_alone_imports_nothing_heavy():
    done, imported = start("-c", "import ska_vct; print(ska_vct.__version__)")
    assert done.returncode == 0 and imported & HEAVY == set()


def test_a_folder_without_releases_is_said_at_once(tmp_path):
    done, imported = start("datasets/check.py", "--root", str(tmp_path))
    assert done.returncode == 2 and "No release of" in done.stdout
    assert imported & HEAVY == set()


def test_no_library_warns_whatever_is_imported_first():
    modules = "ska_vct.data.catalog, ska_vct.modeling, ska_vct.engine.trainer, ska_vct.data.flow.methods.raft"
    done = subprocess.run(
        [sys.executable, "-c", f"import {modules}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    # The filters are narrow: another warning of the same place and kind is seen.
    code = (
        "import ska_vct, warnings; warnings.warn('`torch.jit.script` is deprecated. Use x', FutureWarning); "
        "warnings.warn('`torch.jit` has changed', FutureWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "has changed" in done.stderr and "is deprecated" not in done.stderr


def test_every_kind_of_benchmark_has_help_of_its_own():
    done, imported = start("tools/benchmark.py", "train", "--help")
    assert done.returncode == 0 and "--annotated" in done.stdout and imported & HEAVY == set()
