"""Finds releases below a folder, at any depth (docs/data.md)."""

import os
from collections import deque

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import DatasetFacts

# Folders near releases that contain none, in addition to those inside a release (``DatasetFacts.closed``).
_NOT_SEARCHED = {"flow", "synth_truth", "__pycache__", "node_modules", "site-packages"}
SYNTHETIC = "synth_truth"
PREPARED_MARK = "prepared_by_ska_vct.json"
# A search that exceeds this was probably started in the wrong folder.
MAX_FOLDERS = 20000


def find_releases(root: str | os.PathLike) -> dict[str, list[str]]:
    """Search ``root`` for releases, nearest first; ``root`` may be a release itself.

    Synthetic releases count only if ``root`` is their own, so that they never replace missing real ones. Output of
    ``datasets/prepare.py`` does not count as a release.

    Returns:
        subset name -> folders of releases, empty for a subset that was not found.

    Raises:
        DatasetError: ``root`` is not a folder, or contains too many folders to search.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise DatasetError(
            f"Folder {root} does not exist; set --root or DATASETS.ROOT to the folder of the releases."
        )
    found: dict[str, list[str]] = {name: [] for name in SUBSETS}
    closed = _NOT_SEARCHED.union(*(facts.closed for facts in SUBSETS.values()))
    queue, seen = deque([root]), set()
    while queue:
        folder = queue.popleft()
        # Follow links to other disks, but visit each folder once, since links can form cycles.
        if (target := os.path.realpath(folder)) in seen:
            continue
        seen.add(target)
        if len(seen) > MAX_FOLDERS:
            raise DatasetError(
                f"Folder {root} contains more than {MAX_FOLDERS} folders; give one closer to the releases."
            )
        files, folders = _entries(folder)
        if PREPARED_MARK in files or (SYNTHETIC in folders and folder != root):
            continue
        here = [facts for facts in SUBSETS.values() if _is_release(facts, files | folders)]
        for facts in here:
            found[facts.name].append(folder)
        if not here:
            queue.extend(f"{folder}/{name}" for name in sorted(folders - closed) if not name.startswith("."))
    return found


def skipped_note(root: str | os.PathLike) -> str:
    """Folders in ``root`` that ``find_releases`` passes over although they look like releases; may be empty."""
    root = os.fspath(root)
    synthetic = [name for name in sorted(_entries(root)[1]) if SYNTHETIC in _entries(f"{root}/{name}")[1]]
    if not synthetic:
        return ""
    names = ", ".join(f"{root}/{name}" for name in synthetic[:3])
    return f" (synthetic clips, in {names}, are read only if DATASETS.ROOT is their own folder)"


def find_release(facts: DatasetFacts, root: str | os.PathLike) -> str:
    """Find the folder of a dataset: the usual one below ``root``, else the location of its release.

    Raises:
        DatasetError: there is no release, or more than one.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise DatasetError(
            f"There is no folder '{root}', where {facts.title} is looked for; set DATASETS.ROOT (or the "
            "environment variable DETECTRON2_DATASETS) to the folder that holds it."
        )
    usual = f"{root}/{facts.folder}" if facts.folder else root
    exists = os.path.isdir(usual)
    if exists and _is_release(facts, set().union(*_entries(usual))):
        return usual
    locations = find_releases(root).get(facts.name, []) if os.path.isdir(root) and facts.signs else []
    if len(locations) > 1:
        raise DatasetError(
            f"Folder {root} contains {len(locations)} releases of {facts.title} ({', '.join(locations)}); set "
            "DATASETS.ROOT to one of them."
        )
    if locations or exists:
        # A folder at the usual location without signs of the release: missing files are reported later.
        return locations[0] if locations else usual
    other = f", and there is no other release of {facts.title} below {root}" if facts.signs else ""
    other += skipped_note(root)
    raise DatasetError(
        f"Folder {usual} does not exist{other}; unpack it there, or set DATASETS.ROOT (or the environment "
        "variable DETECTRON2_DATASETS) to a folder that contains it (datasets/README.md shows the tree)."
    )


def is_prepared(path: str) -> bool:
    """Whether a file or folder, which need not exist, lies in an output folder of ``datasets/prepare.py``."""
    folder = os.path.dirname(path)
    while folder and not os.path.exists(f"{folder}/{PREPARED_MARK}"):
        above = os.path.dirname(folder)
        folder = above if above != folder else ""
    return bool(folder)


def _is_release(facts: DatasetFacts, names: set[str]) -> bool:
    """Whether a folder with these entries is the release; always True if the facts define no signs."""
    return all(group & names for group in facts.signs)


def _entries(folder: str) -> tuple[set[str], set[str]]:
    """Names of files and of folders (links to folders included)."""
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return set(), set()
    return {name for name, is_folder in kinds if not is_folder}, {name for name, is_folder in kinds if is_folder}
