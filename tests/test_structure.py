"""The house's rules about files and imports, checked on the files themselves."""

import ast
import fnmatch
import graphlib
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ska_vct"
# Higher layers may import lower ones; neighbours of one layer never import each other.
LAYERS = {
    "cli": 1,
    "experiments": 2,
    "profiling": 2,
    "deploy": 2,
    "engine": 3,
    "synth": 3,
    "data": 4,
    "modeling": 4,
    "evaluation": 4,
    "visualization": 4,
    "checkpoint": 4,
    "config_files": 5,
    "config_values": 6,
    "config": 6,
    "structures": 7,
    "utils": 8,
}


def imported_modules(source: str, package: str) -> set[str]:
    """Full names of the modules of ``ska_vct`` that ``source``, in ``package``, imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")
            prefix = ".".join(base[: len(base) - node.level + 1]) + "." if node.level else ""
            module = (prefix + (node.module or "")).rstrip(".")
            # "from ska_vct import data" imports ska_vct.data.
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "ska_vct" else {module}
    return {name for name in found if name.split(".")[0] == "ska_vct" and "." in name}


def forbidden(source: str, package: str) -> list[str]:
    own = package.split(".")[1]
    result = []
    for name in imported_modules(source, package):
        other = name.split(".")[1]
        if other in LAYERS and other != own and LAYERS[other] <= LAYERS[own]:
            result.append(name)
    return result


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def files(pattern: str) -> list[Path]:
    return sorted(p for p in PACKAGE.rglob(pattern) if "__pycache__" not in p.parts)


def tracked() -> list[Path]:
    """Files git tracks, or all that a checkout without git could hold."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize(
    ("package", "source", "expected"),
    [
        ("ska_vct.modeling", "from ska_vct.data.avsbench.subsets import S4", ["ska_vct.data.avsbench.subsets"]),
        ("ska_vct.modeling.layers", "from ...data import audio", ["ska_vct.data"]),
        ("ska_vct.modeling", "def f():\n    import ska_vct.engine.setup", ["ska_vct.engine.setup"]),
        ("ska_vct.structures", "from ska_vct import config", ["ska_vct.config"]),
        ("ska_vct.modeling", "from .layers import MLP\nfrom ska_vct.structures import clip", []),
        ("ska_vct.engine", "from ska_vct.data.avsbench.subsets import S4", []),
    ],
)
def test_import_checker_finds_what_it_should(package, source, expected):
    assert forbidden(source, package) == expected


@pytest.mark.parametrize("path", [p for p in files("*.py") if len(p.relative_to(PACKAGE).parts) > 1], ids=str)
def test_imports_point_down(path):
    assert forbidden(path.read_text(encoding="utf-8"), package_of(path)) == []


def test_every_package_has_a_layer():
    packages = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    assert packages <= set(LAYERS)


def import_graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports at any level, also inside functions."""
    names = {}
    for path in files("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for name, path in names.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = package_of(path).split(".")
            prefix = ".".join(base[: len(base) - node.level + 1]) + "." if node.level else ""
            module = (prefix + (node.module or "")).rstrip(".")
            found |= {full for alias in node.names if (full := f"{module}.{alias.name}") in names} or {module}
        graph[name] = (found & set(names)) - {name}
    return graph


def test_no_circle_of_imports():
    graph = import_graph()
    assert graph["ska_vct.engine.trainer"]
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_family_of_more_than_three_files_with_one_prefix():
    families = Counter(
        (path.parent, path.stem.split("_")[0]) for path in files("*_*.py") if not path.stem.startswith("_")
    )
    assert {str(parent / prefix): n for (parent, prefix), n in families.items() if n > 3} == {}


def test_modeling_knows_no_catalogue_and_no_environment():
    words = ("DatasetCatalog", "MetadataCatalog", "os.environ", "os.getenv")
    for path in files("*.py"):
        if "modeling" in path.parts:
            text = path.read_text(encoding="utf-8")
            assert [word for word in words if word in text] == [], path


def test_files_are_short_and_raise_instead_of_asserting():
    for path in files("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        assert not [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert)], path


def test_every_error_class_is_an_error_of_the_package():
    own = {"SkaVctError"}
    classes = []
    for path in files("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                if any(base.endswith(("Error", "Exception")) for base in bases):
                    classes.append((path, node.name, bases))
    # A class may stand before or after its base.
    for _ in classes:
        own |= {name for _, name, bases in classes if own & set(bases)}
    assert len(classes) > 15
    assert [(str(path), name) for path, name, _ in classes if name not in own] == []


def test_only_command_lines_know_argparse():
    # The reader of checkpoints knows the type because other programs store theirs in them.
    allowed = {"ska_vct/checkpoint/files.py"}
    for path in files("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if path.relative_to(PACKAGE).parts[0] != "cli" and name not in allowed:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert "argparse" not in names, name


def test_gitignore_is_anchored_and_hides_no_source():
    lines = [line.strip() for line in (ROOT / ".gitignore").read_text().splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    # Caches lie in every folder; anything else must say where it lies.
    free = [p for p in patterns if not p.startswith("/") and p not in ("__pycache__/", "*.pyc")]
    assert free == []
    for path in files("*.py"):
        names = [f"/{'/'.join(path.relative_to(ROOT).parts[:n])}/" for n in range(1, len(path.parts))]
        assert not [p for p in patterns if any(fnmatch.fnmatch(name, p) for name in names)], path


def test_no_local_paths_or_python_tags_in_tracked_files():
    # Put together here, so that this file does not contain them.
    words = ["/" + "work/", "/" + "root/", "/" + "home/", "/" + "tmp/bash"]
    texts = (".py", ".yaml", ".md", ".txt", ".cfg", ".toml", ".sh", "")
    for path in tracked():
        if path.suffix in texts:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert [word for word in words if word in text] == [], path
            assert path.suffix != ".yaml" or "!!" not in text, path


def test_sources_are_papers_or_pages_of_the_repository():
    # Put together here, so that this file does not contain it.
    word = "spec" + ":"
    for path in tracked():
        if path.suffix in (".py", ".yaml", ".md", ".sh", ".toml", ".cff", ".txt"):
            assert word not in path.read_text(encoding="utf-8", errors="replace"), path


# Words of documents that users read -> the field's word.
OTHER_WORDS = {
    r"pictures?": "image",
    r"films?": "video",
    r"data sets?": "dataset",
    r"(?<!there )(?:is|are) no (?!more|longer|less|later|larger|smaller|better|worse)": "say what it is",
    r"a dear": "expensive",
}
# Names of options and of Detectron2 are not prose.
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)", re.DOTALL)


def odd_words(text: str) -> list[str]:
    prose = NOT_PROSE.sub("", text)
    return [match[0] for word in OTHER_WORDS for match in re.finditer(rf"\b{word}\b", prose, re.IGNORECASE)]


def test_documents_use_the_words_of_the_field():
    assert odd_words("A picture of `picture`.") == ["picture"]
    pages = [path for path in tracked() if path.suffix == ".md"]
    assert len(pages) > 10
    for path in pages:
        assert odd_words(path.read_text(encoding="utf-8")) == [], path


def test_nothing_reads_environment_or_disk_at_import():
    names = {"open", "environ", "getenv", "read_text", "exists", "is_file", "listdir"}
    for path in files("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # Statements of a module that run at import, without the bodies of its functions.
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
                continue
            used = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
            used |= {n.attr for n in ast.walk(statement) if isinstance(n, ast.Attribute)}
            assert used & names == set(), f"{path}:{statement.lineno}"


SUBSET_NAMES = {"s4", "ms3", "avss"}
# The records of facts, which are the only place that may tell subsets apart.
SUBSET_RECORDS = PACKAGE / "data" / "avsbench" / "subsets.py"


def subset_decisions(source: str) -> list[int]:
    """Lines that compare with a subset's name, look one up in a dict of their own, or match on one."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        else:
            continue
        # A tuple of names counts as its members.
        parts += [item for part in parts if isinstance(part, ast.Tuple | ast.List | ast.Set) for item in part.elts]
        if any(isinstance(part, ast.Constant) and part.value in SUBSET_NAMES for part in parts):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("if subset == 's4':\n    pass", 1),
        ("x = 1 if name in ('ms3', 'avss') else 2", 1),
        ("T = {'s4': 1}", 1),
        ("match name:\n    case 'avss':\n        pass", 1),
        ("load_records('ms3', 'test', root)\nSUBSET = 'ms3'", 0),
    ],
)
def test_the_search_for_decisions_finds_what_it_should(source, number):
    assert len(subset_decisions(source)) == number


def test_subsets_differ_by_their_records_only():
    paths = [*files("*.py"), *sorted((ROOT / "tools").glob("*.py")), *sorted((ROOT / "datasets").glob("*.py"))]
    found = {
        str(path.relative_to(ROOT)): lines
        for path in paths
        if path != SUBSET_RECORDS and (lines := subset_decisions(path.read_text(encoding="utf-8")))
    }
    assert found == {}
