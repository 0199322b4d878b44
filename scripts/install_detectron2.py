"""Install Detectron2 into the environment of the Python that runs this script.

An existing Detectron2 that imports is kept. Otherwise the Python part of a published build of its main branch is
installed (SKA-VCT does not need the compiled part), or, if that fails, its GitHub repository.

Example: python scripts/install_detectron2.py
"""

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Detectron2's main branch of 2024-04-17 (a59f0563) as uploaded to PyPI by a third party, for CPython 3.10 only.
SOURCE = "sal-detectron2==0.7.2"
SOURCE_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
VERSION = "0.7.2+ska"
GITHUB = "git+https://github.com/facebookresearch/detectron2.git"
# The upload also asks for an old numpy and for black, which the code does not use.
REQUIRES = (
    "Pillow>=7.1", "matplotlib", "pycocotools>=2.0.2", "termcolor>=1.1", "yacs>=0.1.8", "tabulate", "cloudpickle",
    "tqdm>4.29.0", "tensorboard", "fvcore>=0.1.5", "iopath>=0.1.7", "omegaconf>=2.1", "hydra-core>=1.1",
    "packaging",
)  # fmt: skip


def find_detectron2() -> tuple[str, str] | None:
    """Version and folder of an importable Detectron2; None if there is none.

    Raises:
        RuntimeError: it is installed, but importing it fails.
    """
    code = (
        "import detectron2, detectron2.engine as e; print(detectron2.__version__); print(detectron2.__path__[0])"
    )
    exists = "import importlib.util, sys; sys.exit(importlib.util.find_spec('detectron2') is None)"
    # A new interpreter in an empty folder, so that a checkout in the current folder is not found.
    with tempfile.TemporaryDirectory() as empty:
        if subprocess.run([sys.executable, "-c", exists], cwd=empty).returncode:
            return None
        done = subprocess.run([sys.executable, "-c", code], cwd=empty, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"Detectron2 is installed but does not import ({reason}); repair or uninstall it.")
    version, folder = done.stdout.strip().splitlines()[-2:]
    return version, folder


def repack(source: Path, folder: Path) -> Path:
    """Write a wheel for any Python with only ``detectron2/`` of ``source``, without its compiled file.

    The upload also contains a stray package ``tools``, which would shadow every project's ``tools/``.

    Args:
        source: the downloaded wheel.
        folder: receives the new wheel.

    Raises:
        ValueError: ``source`` is not the file that was compared with Detectron2's repository.
    """
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise ValueError(f"{source.name} has sha256 {found}, expected {SOURCE_SHA256}; not installing it.")
    info = f"detectron2-{VERSION}.dist-info"
    metadata = ["Metadata-Version: 2.1", "Name: detectron2", f"Version: {VERSION}"]
    metadata += ["Summary: Detectron2 (main, a59f0563), Python part only", "License: Apache-2.0"]
    metadata += ["Home-page: https://github.com/facebookresearch/detectron2"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in REQUIRES]
    with zipfile.ZipFile(source) as archive:
        names = [n for n in archive.namelist() if n.startswith("detectron2/") and not n.endswith((".so", "/"))]
        files = {name: archive.read(name) for name in names}
        licences = [name for name in archive.namelist() if name.endswith(".dist-info/LICENSE")]
        files |= {f"{info}/LICENSE": archive.read(name) for name in licences}
    files[f"{info}/METADATA"] = "\n".join(metadata + ["", ""]).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: ska_vct\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/top_level.txt"] = b"detectron2\n"
    record = [f"{name},sha256={_record_hash(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join(record + [f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return wheel


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _pip(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *args], check=True)


def install_from_registry() -> None:
    """Download, verify, repack and install the published build."""
    with tempfile.TemporaryDirectory() as temp:
        target = [
            "--python-version",
            "3.10",
            "--platform",
            "linux_x86_64",
            "--implementation",
            "cp",
            "--abi",
            "cp310",
        ]
        _pip("download", "-qq", "--no-deps", "--only-binary=:all:", *target, "--dest", temp, SOURCE)
        wheels = list(Path(temp).glob("sal_detectron2-*.whl"))
        if len(wheels) != 1:
            raise FileNotFoundError(f"pip did not download a wheel of {SOURCE}.")
        _pip("install", "-qq", "--no-deps", str(repack(wheels[0], Path(temp))))


def install_from_github() -> None:
    """Build Detectron2 from its repository; needs git and a C++ compiler."""
    _pip("install", "-q", "--no-build-isolation", "--no-deps", GITHUB)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    os.environ.pop("PYTHONPATH", None)
    try:
        found = find_detectron2()
        if found is None:
            for install in (install_from_registry, install_from_github):
                try:
                    install()
                except (subprocess.CalledProcessError, OSError, ValueError, zipfile.BadZipFile) as error:
                    print(f"    {install.__name__.replace('_', ' ')} failed: {error}", file=sys.stderr)
                else:
                    break
            found = find_detectron2()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if found is None:
        print(
            f"Detectron2 could not be installed: neither {SOURCE} nor its GitHub repository worked; "
            "install it by hand (https://detectron2.readthedocs.io/tutorials/install.html) and run this again.",
            file=sys.stderr,
        )
        return 1
    print(f"    Detectron2 {found[0]} in {found[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
