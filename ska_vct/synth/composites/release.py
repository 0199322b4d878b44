"""A whole release of composites: sources, training and validation clips, and test splits by kind of scene."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ska_vct.synth.composites.generate import generate_composites
from ska_vct.synth.composites.prepare import CUTOUT, prepare_sources, read_sources
from ska_vct.synth.composites.settings import CompositeSettings
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_write

TRAIN = "train"
# Folder -> kind of its clips; the names are those of the benchmark of drawn clips, whose tools read them.
TEST_SPLITS = {
    "plain": "plain",
    "silent-twin": "twin",
    "silent-mover": "mover",
    "camera-motion": "camera",
    "off-screen": "offscreen",
}
CARD = "README.md"


def make_release(
    root: str | os.PathLike,
    *,
    packages: Iterable[str | os.PathLike] = (),
    cutouts: str | os.PathLike | None = None,
    photographs: str | os.PathLike | None = None,
    licence: str = "unknown",
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    only: Sequence[str] | None = None,
    jobs: int = 0,
    progress: bool = True,
    **settings,
) -> dict[str, int]:
    """Make everything below ``root`` that is not there yet.

    Args:
        root: of the release.
        packages, cutouts, photographs, licence: see :func:`prepare_sources`.
        train, val: clips of the folder ``train``.
        test: clips of each test folder.
        seed: of all draws.
        only: folders to make; None for all.
        jobs: processes, 0 for one per core.
        settings: further fields of :class:`CompositeSettings`.

    Returns:
        folder -> number of clips.

    Raises:
        InputError: sources are unusable, or a folder's name is unknown.
        SynthError: a setting is wrong, or a folder holds other clips.
    """
    root = Path(root)
    names = [TRAIN, *TEST_SPLITS]
    if unknown := sorted(set(only or ()) - set(names)):
        raise InputError(f"There is no folder '{unknown[0]}' of composites; choose from {', '.join(names)}.")
    prepare_sources(
        root, packages=packages, cutouts=cutouts, photographs=photographs, licence=licence, seed=seed,
        progress=progress,
    )  # fmt: skip
    write_card(root)
    counts = {}
    for number, name in enumerate(names):
        if only and name not in only:
            continue
        if name == TRAIN:
            wanted = {"train": train, "val": val}
        else:
            # Test clips are real pairs of a thing and its recording.
            wanted = {"test": test, "scenes": {TEST_SPLITS[name]: 1.0}, "dubbed": 0.0}
        own = CompositeSettings(**{"seed": 1000 * seed + number, "sources": "..", **settings, **wanted})
        generate_composites(root / name, own, jobs=jobs, progress=progress)
        counts[name] = sum(own.counts.values())
    return counts


def write_card(root: str | os.PathLike) -> Path:
    """Write ``README.md``: what the clips are made of, with all licences, and what they are for."""
    sources = read_sources(root)
    lines = [
        "# Composites of photographs and recordings",
        "",
        "Clips of five seconds in the layout of AVSBench's MS3, composed by `datasets/make_composites.py` of",
        "cut-out photographs, recordings and background photographs. Motion follows the loudness of the",
        "recordings by construction, so that what sounds can be told from what does not; it does not look like",
        "the motion of real animals and instruments.",
        "",
        "| split | sounding cut-outs | kinds of these | silent cut-outs | photographs |",
        "|---|---|---|---|---|",
    ]
    for split in ("train", "val", "test"):
        own = [source for source in sources if source.split == split]
        sounding = [source for source in own if source.sound]
        silent = sum(source.kind == CUTOUT and not source.sound for source in own)
        photographs = sum(source.kind != CUTOUT for source in own)
        kinds = len({source.group for source in sounding})
        lines.append(f"| {split} | {len(sounding)} | {kinds} | {silent} | {photographs} |")
    lines += ["", "## Licences", "", "| from | licence | files |", "|---|---|---|"]
    pairs = np.array([f"{source.package} | {source.licence}" for source in sources])
    for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
        lines.append(f"| {pair} | {count} |")
    lines += [
        "",
        "`sources/sources.csv` names each file's origin, licence, group and split; copyright files of packages",
        "lie beside it. The clips are derived from these files, and their licences apply to the clips.",
        "",
    ]
    unused = [source for source in sources if source.note]
    if unused:
        lines += ["Recordings that were not used: " + "; ".join(f"{s.name} ({s.note})" for s in unused) + ".", ""]
    path = Path(root, CARD)
    with atomic_write(path, "w") as file:
        file.write("\n".join(lines))
    return path
