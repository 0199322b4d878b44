"""The benchmark of physical consistency: a fixed training set and six fixed test splits, in numbered versions.

docs/benchmark.md describes the purpose and content of each split and the scores of shortcuts.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ska_vct.synth.digest import DIGESTS, digest_split
from ska_vct.synth.settings import GENERATOR_VERSION, SynthError
from ska_vct.synth.splits import BENCHMARK_VERSION, BENCHMARKS, SUBSET, BenchmarkSplit
from ska_vct.synth.writer import generate, read_settings
from ska_vct.utils.files import write_json

MANIFEST = "benchmark.json"
# Differences in rounding between library versions move the mean of a split's images by less than this.
_IMAGE_MEAN_TOLERANCE = 0.05


def choose_splits(names: Iterable[str] | None = None, *, version: int = BENCHMARK_VERSION) -> list[BenchmarkSplit]:
    """The named splits in the benchmark's order; all if no names are given.

    Raises:
        SynthError: a name or the version is unknown.
    """
    if version not in BENCHMARKS:
        raise SynthError(
            f"The benchmark has no version {version}; it has {', '.join(map(str, sorted(BENCHMARKS)))}."
        )
    splits = BENCHMARKS[version]
    wanted = list(splits) if names is None else list(names)
    unknown = [name for name in wanted if name not in splits]
    if unknown:
        raise SynthError(f"The benchmark has no split '{unknown[0]}'; it has {', '.join(splits)}.")
    return [split for name, split in splits.items() if name in wanted]


def make_benchmark(
    root: str | os.PathLike,
    names: Iterable[str] | None = None,
    *,
    version: int = BENCHMARK_VERSION,
    jobs: int = 0,
    progress: bool = True,
) -> dict[str, list[str]]:
    """Write splits of the benchmark below ``root``, unless they exist already, and verify them.

    Args:
        root: receives one folder per split, each of which can be ``DATASETS.ROOT``.
        names: of splits; None for all.
        version: of the benchmark.
        jobs: processes, see ``generate``.
        progress: show progress bars.

    Returns:
        as ``verify_benchmark``.

    Raises:
        SynthError: a folder holds other files or another version, or a name or the version is unknown.
        OSError: a folder cannot be written.
    """
    splits = choose_splits(names, version=version)
    for split in splits:
        folder = Path(root) / split.name
        found = find_version(folder, split.name)
        if found not in (None, split.version):
            raise SynthError(
                f"Folder {folder} holds version {found} of the benchmark, not version {split.version}; choose "
                "another --root, or remove that folder."
            )
        generate(folder, split.settings, jobs=jobs, progress=progress)
    return verify_benchmark(root, [split.name for split in splits], progress=progress)


def find_version(folder: str | os.PathLike, name: str) -> int | None:
    """The version of the split ``name`` that ``folder`` was made as, by its settings; None if it is none of them.

    Raises:
        SynthError: the folder's settings cannot be read.
    """
    settings = read_settings(folder, SUBSET)
    versions = (splits[name] for splits in BENCHMARKS.values() if name in splits)
    return next((split.version for split in versions if split.settings.to_json() == settings), None)


def verify_benchmark(
    root: str | os.PathLike, names: Iterable[str] | None = None, *, progress: bool = True
) -> dict[str, list[str]]:
    """Compare the splits below ``root`` with the published ones, and record the result in ``root/benchmark.json``.

    Each split is compared with the version that its settings belong to; with the newest if they belong to none.

    Args:
        root: folder that holds the splits' folders.
        names: of splits; None for all.
        progress: show progress bars.

    Returns:
        split -> one sentence per difference; empty if it equals the published one.

    Raises:
        SynthError: a split is missing, or a name is unknown.
        DatasetError: files of a split are missing.
        OSError: a file cannot be read, or the manifest cannot be written.
    """
    root = Path(root)
    manifest, differences = _read_manifest(root / MANIFEST), {}
    for split in choose_splits(names):
        version = find_version(root / split.name, split.name)
        # The training set is the same in all versions, whatever number it was published with.
        split = choose_splits([split.name], version=version or split.version)[0]
        found = {
            part: digest_split(root / split.name, SUBSET, part, progress=progress) for part in split.published
        }
        differences[split.name] = [
            f"{part}: {text}" for part, wanted in split.published.items() for text in compare(found[part], wanted)
        ]
        manifest[split.name] = {
            "version": version,
            "settings": split.settings.to_json(),
            "contents": found,
            "is_published": not differences[split.name],
            "versions": library_versions(),
        }
    write_json(root / MANIFEST, manifest)
    return differences


def _read_manifest(path: Path) -> dict:
    """Records of other splits; an unreadable file is replaced."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def compare(found: dict, wanted: dict) -> list[str]:
    """Differences between two results of ``digest_split``, one phrase each."""
    lines = []
    if found["clips"] != wanted["clips"]:
        lines.append(f"{found['clips']} clips instead of {wanted['clips']}")
    lines += [
        f"{name} differ ({text}): {found[name]} instead of {wanted[name]}"
        for name, text in DIGESTS.items()
        if found[name] != wanted[name]
    ]
    if found["mask_pixels"] != wanted["mask_pixels"]:
        lines.append(f"{found['mask_pixels']} mask pixels are set instead of {wanted['mask_pixels']}")
    if abs(found["picture_mean"] - wanted["picture_mean"]) > _IMAGE_MEAN_TOLERANCE:
        lines.append(f"mean of the images is {found['picture_mean']} instead of {wanted['picture_mean']}")
    return lines


def library_versions() -> dict[str, str]:
    """Versions that the content can depend on: NumPy draws the numbers, OpenCV the images and masks."""
    return {"generator": str(GENERATOR_VERSION), "numpy": np.__version__, "opencv": cv2.__version__}
