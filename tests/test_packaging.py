"""The wheel: configs inside, commands that work outside of a checkout, one place for the metadata."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {"ska-vct-train", "ska-vct-eval", "ska-vct-predict", "ska-vct-visualize", "ska-vct-demo"}


@pytest.fixture(scope="module")
def metadata() -> dict:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_extra_dev_is_the_list_of_development_packages(metadata):
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert metadata["project"]["optional-dependencies"]["dev"] == listed


def test_every_command_is_a_function(metadata):
    scripts = metadata["project"]["scripts"]
    assert set(scripts) == COMMANDS
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert f"def {function}(" in Path(find_spec(module).origin).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    # A copy, so that building leaves nothing in the checkout.
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "configs", source / "configs")
    shutil.copytree(ROOT / "ska_vct", source / "ska_vct", symlinks=True, ignore=skip)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        ".",
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_configs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {f"ska_vct/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    wanted |= {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ska_vct").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert wanted <= names and "ska_vct/py.typed" in names
    assert not [
        name for name in names if name.split("/")[0] in ("tests", "tools", "configs", "datasets", "scripts")
    ]


@pytest.mark.slow
def test_commands_work_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True)
    environment = os.environ | {"PYTHONPATH": str(site), "SKA_VCT_DEBUG": "", "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    assert {path.name for path in (site / "bin").iterdir()} >= COMMANDS
    code = (
        "import ska_vct, torch; from detectron2.modeling import build_model; import ska_vct.modeling; "
        "from ska_vct.engine.setup import load_cfg; cfg = load_cfg('synth/quickstart', ['MODEL.DEVICE', 'cpu']); "
        "build_model(cfg).save_pretrained('model'); print(ska_vct.__file__)"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)
    (tmp_path / "clip").mkdir()
    code = (
        "import numpy as np, soundfile; from PIL import Image\n"
        "for k in (1, 2): Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(f'clip/{k}.png')\n"
        "soundfile.write('clip/a.wav', 0.1 * np.random.randn(32000), 16000)"
    )
    assert run("-c", code).returncode == 0
    done = run(str(site / "bin" / "ska-vct-predict"), "--weights", "model", "--out", "masks", "clip")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "masks" / "clip").iterdir()} == {"clip_1.png", "clip_2.png"}
    for command in sorted(COMMANDS):
        done = run(str(site / "bin" / command), "--help")
        assert done.returncode == 0 and command in done.stdout
    done = run(
        str(site / "bin" / "ska-vct-eval"), "--config", "ms3/r50", "--num-gpus", "0", "MODEL.WEIGHTS", "no.pth"
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ")


def test_without_detectron2_the_commands_say_what_to_do(tmp_path):
    # A module of that name that cannot be found, in front of the installed one.
    hide = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'detectron2':\n"
        "            raise ModuleNotFoundError(f\"No module named '{name}'\", name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from ska_vct.cli.{module} import main; main({words})"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for module, words in (
        ("train", ["--config", "ms3/r50"]),
        ("predict", ["--weights", "m", "--out", "o", "clip"]),
        ("visualize", ["--config", "ms3/r50", "--out", "o"]),
    ):
        code = hide.replace("{module}", module).replace("{words}", repr(words))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 1, done.stderr
        assert (
            done.stderr.startswith("error: ")
            and "has no Detectron2" in done.stderr
            and "pip install" in done.stderr
        )
