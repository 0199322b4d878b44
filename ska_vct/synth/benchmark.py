"""The benchmark of physical consistency: one training set and six test splits that are the same for everybody.

What each split is for, what it holds and what shortcuts score on it: docs/benchmark.md.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ska_vct.data.facts import SPLITS
from ska_vct.synth.digest import DIGESTS, digest_split
from ska_vct.synth.settings import GENERATOR_VERSION, SynthError, SynthSettings
from ska_vct.synth.writer import generate
from ska_vct.utils.files import write_json

SUBSET = "ms3"
MANIFEST = "benchmark.json"
# Two libraries that round otherwise move the mean of a split's pictures by less than this.
_PICTURE_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class BenchmarkSplit:
    """One folder of the benchmark, an ordinary synthetic MS3 release.

    Attributes:
        name: of the folder.
        seed: of everything in it.
        scenes: scene kind -> share.
        train, val, test: clips.
        published: split -> what ``digest_split`` must give.
    """

    name: str
    seed: int
    scenes: dict[str, float]
    train: int = 0
    val: int = 0
    test: int = 0
    published: dict[str, dict] = field(default_factory=dict)

    @property
    def settings(self) -> SynthSettings:
        """What the generator makes it from."""
        counts = {split: getattr(self, split) for split in SPLITS}
        return SynthSettings(subset=SUBSET, size=96, seed=self.seed, scenes=self.scenes, **counts)


def _contents(clips: int, scenes: str, sound: str, masks: str, objects: str, pixels: int, mean: float) -> dict:
    digests = {"scenes": scenes, "sound": sound, "masks": masks, "objects": objects}
    return {"clips": clips, **digests, "mask_pixels": pixels, "picture_mean": mean}


# fmt: off
_PUBLISHED = {
    ("train", "train"): _contents(
        1200, "5a5db12b1ee5fa90", "275f1f83b76d2726", "5982c933c0d0a719", "b45505f70490bc5f", 3938485, 105.767),
    ("train", "val"): _contents(
        90, "2e8ca9ebe30ae8eb", "2c4813c3ab442804", "713b6358718d65fd", "22ba6791109b25b9", 294251, 107.516),
    ("plain", "test"): _contents(
        150, "186a575d36ecd5f2", "c79f257f36ec48a8", "5b55b37e74bd593a", "e4e1cad79ac8f8b3", 552685, 106.784),
    ("silent-twin", "test"): _contents(
        150, "b439cf2199a006e8", "9f0cadf8e223d19e", "af52effa9558dcae", "b67e93a2c4a4c9ac", 426573, 106.2),
    ("silent-mover", "test"): _contents(
        150, "f4cdab6f80ebed31", "b97831681459ac95", "dea3e14844b03ca2", "b988c31d052f6915", 428351, 105.927),
    ("camera-motion", "test"): _contents(
        150, "ab86f975dee47878", "0e81c7525f85bfc8", "fd3f2a7f9a6714d9", "bbaefb0eac019128", 556434, 107.488),
    ("weak-motion", "test"): _contents(
        150, "918bc8aff9001b28", "2a8178f2d0a3e1bd", "28b5c2f1a28153cc", "47330476c4a01a43", 580489, 107.921),
    ("off-screen", "test"): _contents(
        150, "c31d52844cc10d42", "6beeb3e54fce8f9a", "cc236a7aa42b9a8f", "c0e43f307b0ea4b8", 0, 107.099),
}


def _split(name: str, seed: int, scenes: dict[str, float], **counts: int) -> BenchmarkSplit:
    return BenchmarkSplit(
        name=name, seed=seed, scenes=scenes, **counts,
        published={part: _PUBLISHED[name, part] for part in SPLITS if part in counts},
    )


BENCHMARK = {
    split.name: split
    for split in (
        _split("train", 100, {"plain": 0.5, "twin": 0.25, "mover": 0.25}, train=1200, val=90),
        _split("plain", 201, {"plain": 1.0}, test=150),
        _split("silent-twin", 202, {"twin": 1.0}, test=150),
        _split("silent-mover", 203, {"mover": 1.0}, test=150),
        _split("camera-motion", 204, {"camera": 1.0}, test=150),
        _split("weak-motion", 205, {"weak": 1.0}, test=150),
        _split("off-screen", 206, {"offscreen": 1.0}, test=150),
    )
}
# fmt: on
TEST_SPLITS = tuple(name for name, split in BENCHMARK.items() if split.test)


def choose_splits(names: Iterable[str] | None = None) -> list[BenchmarkSplit]:
    """The splits of these names in the benchmark's order, all without names.

    Raises:
        SynthError: a name is not one of the benchmark's.
    """
    wanted = list(BENCHMARK) if names is None else list(names)
    unknown = [name for name in wanted if name not in BENCHMARK]
    if unknown:
        raise SynthError(f"The benchmark has no split '{unknown[0]}'; it has {', '.join(BENCHMARK)}.")
    return [split for name, split in BENCHMARK.items() if name in wanted]


def make_benchmark(
    root: str | os.PathLike, names: Iterable[str] | None = None, *, jobs: int = 0, progress: bool = True
) -> dict[str, list[str]]:
    """Write splits of the benchmark below ``root`` (those that are there are left alone) and verify them.

    Args:
        root: gets one folder per split; each is what ``DATASETS.ROOT`` may name.
        names: of splits; None for all.
        jobs: processes, see ``generate``.
        progress: show progress bars.

    Returns:
        as ``verify_benchmark``.

    Raises:
        SynthError: a folder holds something else; a name is unknown.
        OSError: a folder cannot be written.
    """
    splits = choose_splits(names)
    for split in splits:
        generate(Path(root) / split.name, split.settings, jobs=jobs, progress=progress)
    return verify_benchmark(root, [split.name for split in splits], progress=progress)


def verify_benchmark(
    root: str | os.PathLike, names: Iterable[str] | None = None, *, progress: bool = True
) -> dict[str, list[str]]:
    """Compare what lies below ``root`` with what is published, and note it in ``root/benchmark.json``.

    Args:
        root: folder that holds the splits' folders.
        names: of splits; None for all.
        progress: show progress bars.

    Returns:
        split -> sentences on what differs, none where it is the published one.

    Raises:
        SynthError: a split is not there; a name is unknown.
        DatasetError: files of a split are missing.
        OSError: a file cannot be read, or the manifest not be written.
    """
    root = Path(root)
    manifest, differences = _read_manifest(root / MANIFEST), {}
    for split in choose_splits(names):
        found = {
            part: digest_split(root / split.name, SUBSET, part, progress=progress) for part in split.published
        }
        differences[split.name] = [
            f"{part}: {text}" for part, wanted in split.published.items() for text in compare(found[part], wanted)
        ]
        manifest[split.name] = {
            "settings": split.settings.to_json(),
            "contents": found,
            "is_published": not differences[split.name],
            "versions": library_versions(),
        }
    write_json(root / MANIFEST, manifest)
    return differences


def _read_manifest(path: Path) -> dict:
    """What is noted of other splits; a file that cannot be read is written anew."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def compare(found: dict, wanted: dict) -> list[str]:
    """What differs between two results of ``digest_split``, one phrase each."""
    lines = []
    if found["clips"] != wanted["clips"]:
        lines.append(f"{found['clips']} clips instead of {wanted['clips']}")
    lines += [
        f"{name} differ ({text}): {found[name]} instead of {wanted[name]}"
        for name, text in DIGESTS.items()
        if found[name] != wanted[name]
    ]
    if found["mask_pixels"] != wanted["mask_pixels"]:
        lines.append(f"{found['mask_pixels']} pixels of masks are set instead of {wanted['mask_pixels']}")
    if abs(found["picture_mean"] - wanted["picture_mean"]) > _PICTURE_TOLERANCE:
        lines.append(f"mean of the pictures is {found['picture_mean']} instead of {wanted['picture_mean']}")
    return lines


def library_versions() -> dict[str, str]:
    """What the contents can depend on: NumPy draws the numbers, OpenCV the pictures and masks."""
    return {"generator": str(GENERATOR_VERSION), "numpy": np.__version__, "opencv": cv2.__version__}
