"""The repacked Detectron2 wheel: one package, no compiled file, metadata that pip accepts."""

import base64
import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install_detectron2.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("install_detectron2", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def upload(tmp_path, script, monkeypatch):
    """A wheel with the same faults as the published one."""
    path = tmp_path / "sal_detectron2-0.7.2-cp310-cp310-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("detectron2/__init__.py", "__version__ = 'x'\n")
        archive.writestr("detectron2/layers/nms.py", "")
        archive.writestr("detectron2/_C.cpython-310-x86_64-linux-gnu.so", b"\x7fELF")
        archive.writestr("tools/__init__.py", "")
        archive.writestr("sal_detectron2-0.7.2.dist-info/LICENSE", "Apache")
        archive.writestr(
            "sal_detectron2-0.7.2.dist-info/METADATA", "Requires-Dist: numpy<2\nRequires-Dist: black\n"
        )
    monkeypatch.setattr(script, "SOURCE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_only_the_python_part_is_repacked(script, upload, tmp_path):
    (tmp_path / "out").mkdir()
    wheel = script.repack(upload, tmp_path / "out")
    assert wheel.name == "detectron2-0.7.2+ska-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = "detectron2-0.7.2+ska.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        record = archive.read(f"{info}/RECORD").decode().splitlines()
        for line in record:
            name, digest, _ = line.rsplit(",", 2)
            if digest:
                expected = (
                    base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
                )
                assert digest == f"sha256={expected}", name
    assert {"detectron2/__init__.py", "detectron2/layers/nms.py", f"{info}/LICENSE"} <= names
    assert not [name for name in names if name.startswith("tools") or name.endswith(".so")]
    assert "Requires-Dist: fvcore" in metadata and "black" not in metadata and "numpy" not in metadata
    assert {line.rsplit(",", 2)[0] for line in record} == names


def test_pip_installs_it_on_this_python(script, upload, tmp_path):
    wheel = script.repack(upload, tmp_path)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-qq",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        str(wheel),
    ]
    subprocess.run(command, check=True)
    assert sorted(p.name for p in (tmp_path / "site").iterdir()) == [
        "detectron2",
        "detectron2-0.7.2+ska.dist-info",
    ]


def test_another_file_under_the_same_name_is_refused(script, upload, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "SOURCE_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="sha256.*not installing"):
        script.repack(upload, tmp_path)


def test_an_installed_detectron2_is_found_and_kept(script, monkeypatch, capsys):
    def forbidden():
        raise RuntimeError("must not install")

    monkeypatch.setattr(script, "install_from_registry", forbidden)
    monkeypatch.setattr(sys, "argv", ["install_detectron2.py"])
    assert script.main() == 0
    assert "Detectron2" in capsys.readouterr().out


def test_when_nothing_works_one_sentence_says_what_to_do(script, monkeypatch, capsys):
    def unreachable():
        raise OSError("no network")

    monkeypatch.setattr(script, "find_detectron2", lambda: None)
    monkeypatch.setattr(script, "install_from_registry", unreachable)
    monkeypatch.setattr(script, "install_from_github", unreachable)
    monkeypatch.setattr(sys, "argv", ["install_detectron2.py"])
    assert script.main() == 1
    assert "install it by hand" in capsys.readouterr().err.splitlines()[-1]
