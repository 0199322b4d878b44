"""What a run was started with: the command, the commit, and the versions of what it uses."""

import shlex
import subprocess
import sys
from pathlib import Path

from detectron2.utils.collect_env import collect_env_info

import ska_vct

_ROOT = Path(ska_vct.__file__).resolve().parents[1]
# Detectron2's compiled operators, which this package does without; the report would make a fault of it.
_NOT_COMPILED = "detectron2._C"
_SECONDS = 10


def command_line() -> str:
    """The command that this process was started with."""
    return shlex.join(sys.argv)


def code_version() -> str:
    """Version, and in a checkout the commit and whether files differ from it."""
    if not (_ROOT / ".git").exists():
        return f"SKA-VCT {ska_vct.__version__}"
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return f"SKA-VCT {ska_vct.__version__}, commit {commit or 'unknown'}{' with changes' if changes else ''}"


def environment_text() -> str:
    """Command, commit and Detectron2's report of the environment."""
    lines = collect_env_info().splitlines()
    for index, line in enumerate(lines):
        if line.startswith(_NOT_COMPILED) and "not built" in line:
            start = len(line) - len(line[len(_NOT_COMPILED) :].lstrip())
            lines[index] = f"{line[:start]}not compiled; SKA-VCT does not use it"
    return "\n".join([f"Command: {command_line()}", f"Code:    {code_version()}", "", *lines, ""])


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *words], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
