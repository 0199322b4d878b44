"""Where a release lies below a folder, at whatever depth it was unpacked (spec: data.md)."""

import os
from collections import deque

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.subsets import SUBSETS, get_subset

# Entries that give a release away, even an incomplete one; one of a group's names is enough.
_SIGNS = {
    "s4": ({"s4_meta_data.csv", "s4_data", "s4_data_384"},),
    "ms3": ({"ms3_meta_data.csv", "ms3_data", "ms3_data_384"},),
    "avss": ({"v1s", "v1m", "v2"}, {"metadata.csv", "label2idx.json"}),
}
# What lies inside releases, or beside them, and holds none.
_NOT_SEARCHED = {
    "s4_data", "s4_data_384", "ms3_data", "ms3_data_384", "v1s", "v1m", "v2", "pre_SAM_mask", "flow",
    "synth_truth", "__pycache__", "node_modules", "site-packages",
}  # fmt: skip
SYNTHETIC = "synth_truth"
PREPARED_MARK = "prepared_by_ska_vct.json"
# A search that comes this far was started in the wrong place.
MAX_FOLDERS = 20000


def find_releases(root: str | os.PathLike) -> dict[str, list[str]]:
    """Search ``root`` for releases, nearest first; ``root`` may be a release itself.

    Synthetic releases count only where ``root`` is theirs, so that they never stand in for missing real ones;
    what ``datasets/prepare.py`` has made is no release.

    Returns:
        subset name -> folders of releases, none for a subset that was not found.

    Raises:
        DatasetError: ``root`` is no folder, or holds too many folders to search.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise DatasetError(f"There is no folder {root}; point --root or DATASETS.ROOT to the releases.")
    found: dict[str, list[str]] = {name: [] for name in SUBSETS}
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
        here = [name for name, groups in _SIGNS.items() if all(group & (files | folders) for group in groups)]
        for name in here:
            found[name].append(folder)
        if not here:
            queue.extend(
                f"{folder}/{name}" for name in sorted(folders - _NOT_SEARCHED) if not name.startswith(".")
            )
    return found


def find_release(subset: str, root: str | os.PathLike) -> str:
    """The folder of one subset's release: the usual place below ``root``, else wherever it lies.

    Raises:
        DatasetError: there is none, or several.
    """
    facts, root = get_subset(subset), os.fspath(root)
    usual = f"{root}/{facts.folder}"
    if os.path.isdir(usual):
        return usual
    places = find_releases(root)[subset] if os.path.isdir(root) else []
    if not places:
        raise DatasetError(
            f"There is no folder {usual}, nor is there another release of {facts.title} below {root}; unpack it "
            "there, or point DATASETS.ROOT (or the environment variable DETECTRON2_DATASETS) to a folder that "
            "holds it (datasets/README.md has the tree)."
        )
    if len(places) > 1:
        raise DatasetError(
            f"Folder {root} holds {len(places)} releases of {facts.title} ({', '.join(places)}); point "
            "DATASETS.ROOT to one of them."
        )
    return places[0]


def _entries(folder: str) -> tuple[set[str], set[str]]:
    """Names of files and of folders (links to folders included)."""
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return set(), set()
    return {name for name, is_folder in kinds if not is_folder}, {name for name, is_folder in kinds if is_folder}
