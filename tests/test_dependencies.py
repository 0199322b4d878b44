"""requirements.txt lists exactly what the package imports, and constraints.txt pins all of it."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Import names of distributions that are called otherwise. Triton comes with PyTorch.
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml", "triton": "torch"}
# On PyPI under other people's names only; scripts/install_detectron2.py installs it.
NOT_ON_PYPI = {"detectron2"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named_in(text: str) -> set[str]:
    """Distributions of a file of requirements or pins."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines if line}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def optional() -> set[str]:
    """Distributions of the extras, wherever the metadata stand."""
    texts = [read(name) for name in ("setup.py", "pyproject.toml") if (ROOT / name).is_file()]
    return {canonical(name) for text in texts for name in re.findall(r'"([A-Za-z][\w.-]*)\s*[><=~]=', text)}


def imported_by(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    top = {name.split(".")[0] for name in names} - sys.stdlib_module_names - NOT_ON_PYPI - {"ska_vct"}
    return {canonical(DISTRIBUTIONS.get(name, name)) for name in top}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Module of the package -> distributions that it imports, anywhere in it."""
    files = sorted((ROOT / "ska_vct").rglob("*.py"))
    return {
        str(path.relative_to(ROOT)): imported_by(ast.parse(path.read_text(encoding="utf-8"))) for path in files
    }


def test_what_is_imported_is_declared(imports):
    declared = named_in(read("requirements.txt")) | optional()
    missing = {path: names - declared for path, names in imports.items() if names - declared}
    assert not missing, f"add to requirements.txt or an extra: {missing}"


def test_what_is_required_is_imported_here_or_by_detectron2(imports):
    spec = importlib.util.spec_from_file_location("install_detectron2", ROOT / "scripts" / "install_detectron2.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    # Detectron2's model zoo imports pkg_resources, which newer setuptools lack.
    used = set().union(*imports.values()) | named_in("\n".join(script.REQUIRES)) | {"setuptools"}
    unused = named_in(read("requirements.txt")) - used
    assert not unused, f"never imported: {unused}"


def test_what_is_required_is_pinned():
    assert named_in(read("requirements.txt")) <= named_in(read("constraints.txt"))


def test_an_undeclared_import_is_found():
    tree = ast.parse("import os, cv2\ndef f():\n    from sklearn.linear_model import Ridge\nfrom . import x")
    assert imported_by(tree) == {"opencv-python-headless", "sklearn"}
