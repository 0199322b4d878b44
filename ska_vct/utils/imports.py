"""Import the modules of a user's own that a configuration names (``IMPORTS``, docs/extending.md)."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import InputError

KEY = "IMPORTS"


def import_modules(entries: Sequence[str], *, folders: Sequence[Path]) -> list[str]:
    """Import modules; each is executed once per process.

    The folder in which a module is found is appended to ``sys.path``, so that processes started from this one can
    unpickle what the module defines.

    Args:
        entries: names of modules, or paths of ``.py`` files or of packages.
        folders: where they are looked for, in this order; then wherever Python looks.

    Returns:
        the entries; those found in one of ``folders`` by a name without dots as absolute paths, so that the list
        is valid in any folder.

    Raises:
        InputError: an entry is not found, fails on import, or another module of its name is imported already.
    """
    return [_import(entry, [folder.resolve() for folder in folders]) for entry in entries]


def bare_names(entries: Sequence[str]) -> list[str]:
    """The entries without the folders they lie in."""
    return [Path(entry).stem if _is_path(entry) else entry for entry in entries]


def _is_path(entry: str) -> bool:
    return entry.endswith(".py") or os.sep in entry


def _import(entry: str, folders: Sequence[Path]) -> str:
    is_path = _is_path(entry)
    relative = Path(entry).with_suffix("") if is_path else Path(*entry.split("."))
    for folder in folders:
        target = folder / relative
        for file in (target.with_name(f"{target.name}.py"), target / "__init__.py"):
            if file.is_file():
                _load(target.name if is_path else entry, file, target.parent if is_path else folder)
                return entry if "." in entry and not is_path else str(file if file.stem != "__init__" else target)
    if is_path or not _can_be_found(entry):
        places = " or ".join(f"'{folder}'" for folder in dict.fromkeys(folders))
        raise InputError(
            f"{KEY} names the module '{entry}', which is neither in {places} nor on PYTHONPATH; correct the name "
            "or put the file there."
        )
    _load(entry, None, None)
    return entry


def _can_be_found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _load(name: str, file: Path | None, folder: Path | None) -> None:
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except Exception as error:
        # Whatever the user's own code raises is theirs to mend; its traceback is the cause of this error.
        where = file or "on PYTHONPATH"
        raise InputError(
            f"{KEY}: module '{name}' ({where}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    loaded = getattr(module, "__file__", None)
    if file is not None and (loaded is None or Path(loaded).resolve() != file.resolve()):
        raise InputError(
            f"{KEY}: '{name}' should be {file}, but Python knows another module of that name, {loaded}; rename "
            "yours."
        )
