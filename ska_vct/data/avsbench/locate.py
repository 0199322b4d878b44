"""Finds releases below a folder, at whatever depth they were unpacked (docs/data.md)."""

import os
from collections import deque

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import DatasetFacts

# Beside the folders inside a release (``DatasetFacts.closed``): what lies near releases and holds none.
_NOT_SEARCHED = {"flow", "synth_truth", "__pycache__", "node_modules", "site-packages"}
SYNTHETIC = "synth_truth"
PREPARED_MARK = "prepared_by_ska_vct.json"
# A larger search was started in the wrong folder.
MAX_FOLDERS = 20000


def find_releases(root: str | os.PathLike) -> dict[str, list[str]]:
    """Search ``root`` for releases, nearest first; ``root`` may be a release itself.

    Synthetic releases count only where ``root`` is theirs, so that they never stand in for missing real ones;
    what ``datasets/prepare.py`` has made does not count as a release.

    Returns:
        subset name -> folders of releases, none for a subset that was not found.

    Raises:
        DatasetError: ``root`` is not a folder, or holds too many folders to search.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise DatasetError(f"There is no folder {root}; point --root or DATASETS.ROOT to the releases.")
    found: dict[str, list[str]] = {name: [] for name in SUBSETS}
    closed = _NOT_SEARCHED.union(*(facts.closed for facts in SUBSETS.values()))
    queue, seen = deque([root]), set()
    while queue:
        folder = queue.popleft()
        # Links to other disks are followed, links in a circle once.
        if (place := os.path.realpath(folder)) in seen:
            continue
        seen.add(place)
        if len(seen) > MAX_FOLDERS:
            raise DatasetError(
                f"Folder {root} holds more than {MAX_FOLDERS} folders; name one nearer to the releases."
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


def find_release(facts: DatasetFacts, root: str | os.PathLike) -> str:
    """The folder of a dataset: the usual one below ``root``, else wherever its release lies.

    Raises:
        DatasetError: there is none, or several.
    """
    root = os.fspath(root)
    usual = f"{root}/{facts.folder}" if facts.folder else root
    exists = os.path.isdir(usual)
    if exists and _is_release(facts, set().union(*_entries(usual))):
        return usual
    places = find_releases(root).get(facts.name, []) if os.path.isdir(root) and facts.signs else []
    if len(places) > 1:
        raise DatasetError(
            f"Folder {root} holds {len(places)} releases of {facts.title} ({', '.join(places)}); point "
            "DATASETS.ROOT to one of them."
        )
    if places or exists:
        # A folder at the usual place without a sign of the release: what it lacks is reported later.
        return places[0] if places else usual
    other = f", nor is there another release of {facts.title} below {root}" if facts.signs else ""
    raise DatasetError(
        f"There is no folder {usual}{other}; unpack it there, or point DATASETS.ROOT (or the environment variable "
        "DETECTRON2_DATASETS) to a folder that holds it (datasets/README.md has the tree)."
    )


def _is_release(facts: DatasetFacts, names: set[str]) -> bool:
    """Whether a folder with these entries is the release; without signs every folder is."""
    return all(group & names for group in facts.signs)


def _entries(folder: str) -> tuple[set[str], set[str]]:
    """Names of files and of folders (links to folders included)."""
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return set(), set()
    return {name for name, is_folder in kinds if not is_folder}, {name for name, is_folder in kinds if is_folder}
