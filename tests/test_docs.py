"""What README and docs promise exists: files, options, config keys, links; and cheap commands run."""

import ast
import functools
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from ska_vct.config import get_cfg
from ska_vct.engine.setup import load_cfg

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "datasets" / "README.md"])
# What commands write, and what users have.
WRITTEN = ("output/", "datasets/synth", "vct_packages", "my_")
CONFIG_KEY = re.compile(r"(?<![\w./-])((?:[A-Z][A-Z0-9_]*\.)+[A-Z][A-Z0-9_]*)(?![\w.*/])")
# Detectron2's top-level keys and ours; other dotted capitals (file names) are not keys.
TOP_KEYS = {key for key, value in get_cfg().items() if isinstance(value, dict)}


class Command(NamedTuple):
    page: str
    words: list[str]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)[:60]}"


def code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of fenced blocks, also indented ones."""
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        yield match[2], re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)


def commands_of(language: str, content: str) -> list[list[str]]:
    """The words of each command of a block that is marked bash, or is not marked and starts with one."""
    if language != "bash" and (language or not re.match(r"(python|bash|pip|git) ", content)):
        return []
    found = []
    for line in content.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            found.append(words)
    return found


def commands(page: Path) -> Iterator[Command]:
    """The page's commands."""
    for language, content in code_blocks(page.read_text(encoding="utf-8")):
        for words in commands_of(language, content):
            yield Command(str(page.relative_to(ROOT)), words)


COMMANDS = [command for page in PAGES for command in commands(page)]


@functools.cache
def help_text(script: str) -> str:
    """What a shell script prints for --help."""
    done = subprocess.run(["bash", script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def config_keys(text: str) -> set[str]:
    return {key for key in CONFIG_KEY.findall(text) if key.split(".")[0] in TOP_KEYS}


def is_config_key(key: str) -> bool:
    node = get_cfg()
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            # Keys that a user adds.
            return key.startswith(("MODEL.EXTRA.", "MODEL.TIMM.KWARGS."))
        node = node[part]
    return True


def test_commands_are_found():
    scripts = {command.words[1] for command in COMMANDS if command.words[0] in ("python", "bash")}
    assert {"tools/train_net.py", "scripts/quickstart.sh", "datasets/check.py", "tests/parity/run.py"} <= scripts
    assert {command.page for command in COMMANDS} >= {"README.md", "docs/flow.md", "docs/weights.md"}


def test_the_checks_can_fail():
    assert not is_config_key("MODEL.SKA.NAMES")
    assert config_keys("set `MODEL.SKA.NAMES` in docs/README.MD") == {"MODEL.SKA.NAMES"}
    assert list(code_blocks("1. a\n\n   ```bash\n   ls\n   ```\n")) == [("bash", "ls\n")]


_PROGRAMS = {
    "pip", "git", "export", "cd", "source", "tensorboard", "torchrun", "apt-get", "sbatch",
    *re.findall(r"^(ska-vct-[a-z]+) =", (ROOT / "pyproject.toml").read_text(), re.MULTILINE),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command_names_what_exists(command):
    program, *arguments = command.words
    if program not in ("python", "bash"):
        assert program in _PROGRAMS or (ROOT / program).is_file() or program.startswith(".venv/")
        return
    script, *arguments = arguments
    assert (ROOT / script).is_file(), script
    for word in arguments:
        path = word.split("=")[-1]
        if re.match(r"(configs|docs|scripts|tools|tests|ska_vct)/", path) and not re.search(r"[<>{}*]", path):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_options_of_shell_scripts_are_known(command):
    """Those of Python programs are parsed by tests/test_doc_blocks.py."""
    if command.words[0] != "bash" or command.words[1] == ".ci/run":
        return
    _, script, *arguments = command.words
    # Its arguments go to pytest.
    if script == "scripts/test.sh":
        arguments = [word for word in arguments if word == "--no-venv"]
    options = [word.split("=")[0] for word in arguments if word.startswith("--")]
    if options:
        text = help_text(script)
        missing = [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)]
        assert missing == []


def test_python_blocks_import_what_exists():
    blocks = [
        content
        for page in PAGES
        for language, content in code_blocks(page.read_text(encoding="utf-8"))
        if language == "python"
    ]
    imported = [
        (node.module, alias.name)
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "ska_vct"
        for alias in node.names
    ]
    assert ("ska_vct", "Predictor") in imported
    for module, name in imported:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_config_keys_exist(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("names keys of the past")
    assert [key for key in sorted(config_keys(page.read_text(encoding="utf-8"))) if not is_config_key(key)] == []


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of the page's headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_pages_named_in_the_code_exist():
    for path in [*ROOT.glob("ska_vct/**/*.py"), *ROOT.glob("configs/**/*.yaml"), *ROOT.glob("tools/*.py")]:
        for name in re.findall(r"docs/\w+\.(?:md|ipynb|svg)", path.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{path} names {name}"


def test_files_named_by_the_architecture_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", text)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "ska_vct" / name).exists(), name
    layers = {path.name for path in (ROOT / "ska_vct").iterdir() if (path / "__init__.py").is_file()}
    assert {name for name in layers if f"\n  {name}/" not in text} == set()


def test_citation_and_workflow_parse():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}


def test_the_parity_command_of_the_readme_runs():
    block = next(
        content for _, content in code_blocks((ROOT / "README.md").read_text()) if "parity/run" in content
    )
    assert block == "python tests/parity/run.py\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "tests/parity/run.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().splitlines()[-1].startswith("ok")


def test_the_flow_of_the_readme_is_what_the_config_after_it_reads():
    readme = [command.words for command in COMMANDS if command.page == "README.md"]
    train, flow = (
        [words for words in readme if script in words]
        for script in ("tools/train_net.py", "datasets/compute_flow.py")
    )
    cfg = load_cfg(ROOT / train[0][train[0].index("--config-file") + 1])
    stored = {int(words[words.index("--series") + 1]) if "--series" in words else 10 for words in flow}
    assert stored == {cfg.INPUT.FLOW.SERIES}
    assert {words[words.index("--subset") + 1] for words in flow} == {cfg.DATASETS.SUBSET}
    # Pre-masks take another step, which the first commands do without.
    assert not cfg.MODEL.PRE_MASK.ENABLED
