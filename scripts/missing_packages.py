"""List the packages of requirements.txt and requirements-dev.txt that are not installed, one per line.

Installed packages are kept whatever their version; a version outside the supported range is reported.

Examples:
    python scripts/missing_packages.py
    python scripts/missing_packages.py --project    # exit 0 if this checkout's ska_vct is installed
"""

import argparse
import importlib.metadata
import importlib.util
import sys
import tempfile
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LISTS = ("requirements.txt", "requirements-dev.txt")
# Distributions that others can replace: look for the module instead.
MODULES = {"opencv-python-headless": "cv2", "torch": "torch", "torchvision": "torchvision"}


def read_requirements() -> list[Requirement]:
    """Requirements of the project and of its tests."""
    lines = [line for name in LISTS for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def find_missing() -> list[Requirement]:
    """Requirements without an installed package; versions out of range are reported on stderr."""
    missing = []
    for requirement in read_requirements():
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            module = MODULES.get(requirement.name)
            if module is None or importlib.util.find_spec(module) is None:
                missing.append(requirement)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            print(f"    {requirement.name} {version} is outside of {requirement}; keeping it", file=sys.stderr)
    return missing


def is_project_installed() -> bool:
    """Whether ``import ska_vct`` imports this checkout from any working directory."""
    try:
        # Without its commands it was installed before it had any.
        commands = importlib.metadata.distribution("ska_vct").entry_points
    except importlib.metadata.PackageNotFoundError:
        return False
    if not commands:
        return False
    import subprocess

    code = "import ska_vct; print(ska_vct.__file__)"
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run([sys.executable, "-c", code], cwd=empty, capture_output=True, text=True)
    return done.returncode == 0 and Path(done.stdout.strip()).resolve() == ROOT / "ska_vct" / "__init__.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", action="store_true", help="only exit with 0 if ska_vct is installed, else 1")
    if parser.parse_args().project:
        return 0 if is_project_installed() else 1
    for requirement in find_missing():
        print(requirement)
    return 0


if __name__ == "__main__":
    sys.exit(main())
