"""The types of the public functions agree (pyproject.toml), and the check can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def check(cache: Path, *files: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mypy", "--no-color-output", "--cache-dir", str(cache), *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_public_functions(cache):
    done = check(cache)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_type_is_found(cache, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text("from ska_vct.utils.palette import voc_palette\n\nvoc_palette('two')\n")
    done = check(cache, str(file))
    assert done.returncode == 1
    assert 'incompatible type "str"; expected "int"' in done.stdout
