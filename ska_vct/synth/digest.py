"""Digests of a synthetic split's content, which two machines can compare.

Decoded content is digested, because the bytes of a PNG, an MP4 or a zip depend on the version of the library that
wrote them. Audio is digested as samples, which determine the log-mel; a digest of the log-mel itself would change
with the last bit of another FFT.
"""

import hashlib
import os
import wave
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ska_vct.data.avsbench.csv_table import read_table
from ska_vct.data.catalog import load_records
from ska_vct.data.images.io import read_binary_mask, read_image
from ska_vct.synth.settings import SynthError
from ska_vct.synth.truth import TRUTH_FOLDER, read_objects

# name -> content that it covers
DIGESTS = {
    "scenes": "kinds, classes, roles and sounds of all clips, and the seconds in which each object sounds",
    "sound": "the samples of the audio files",
    "masks": "the released ground truth",
    "objects": "the visible mask of every object, silent ones included",
}
# Columns of the table of clips, in the order of ``ClipPlan.row``.
_COLUMNS = ("clip_id", "split", "name", "kind", "classes", "roles", "sounds", "seconds")


def digest_split(root: str | os.PathLike, subset: str, split: str, *, progress: bool = True) -> dict:
    """Read a split of a synthetic release from disk and digest it.

    Args:
        root: folder that ``generate`` wrote to.
        progress: show a progress bar.

    Returns:
        dict with

        * ``clips``: number of clips.
        * one entry per key of ``DIGESTS``: first 16 digits of a SHA-256.
        * ``mask_pixels``: pixels set in the masks, and ``picture_mean``: mean of the sampled images, 0..255. They
          show how far two versions with different digests are apart.

    Raises:
        SynthError: the folder does not hold this synthetic split.
        DatasetError: files of the release are missing.
        TruthError: the objects cannot be read.
        OSError: a file cannot be read.
    """
    root = Path(root)
    rows = read_clip_table(root, subset, split)
    records = {record["clip_id"]: record for record in load_records(subset, split, root, prefer_rebuilt=False)}
    sums = {name: hashlib.sha256() for name in DIGESTS}
    mask_pixels, image_means = 0, []
    for row in tqdm(rows, f"Checking {root.name}", unit="clip", disable=not progress):
        record = records[row["clip_id"]]
        truth = read_objects(root, record)
        sums["scenes"].update("\t".join(row.values()).encode())
        _add(sums["scenes"], truth.sounding)
        _add(sums["objects"], truth.masks)
        with wave.open(record["wav_path"], "rb") as file:
            sums["sound"].update(file.readframes(file.getnframes()))
        for path in record["mask_paths"]:
            if path is not None:
                mask = read_binary_mask(path) > 0
                _add(sums["masks"], mask)
                mask_pixels += int(mask.sum())
        image_means += [float(read_image(path).mean()) for path in record["image_paths"]]
    return {
        "clips": len(rows),
        **{name: value.hexdigest()[:16] for name, value in sums.items()},
        "mask_pixels": mask_pixels,
        "picture_mean": round(float(np.mean(image_means)), 3),
    }


def read_clip_table(root: str | os.PathLike, subset: str, split: str) -> list[dict[str, str]]:
    """The rows of a synthetic release's table of clips (``ClipPlan.row``) that belong to ``split``.

    Raises:
        SynthError: the table does not exist, or lists no clip of that split.
    """
    path = Path(root, TRUTH_FOLDER, f"{subset}_clips.csv")
    if not path.is_file():
        raise SynthError(f"File {path} does not exist; make the clips first, with datasets/make_synth.py.")
    rows = [row for row in read_table(os.fspath(path), _COLUMNS) if row["split"] == split]
    if not rows:
        raise SynthError(f"File {path} lists no clip of the {split} split.")
    return rows


def _add(digest, array: np.ndarray) -> None:
    """Add a bool array with its shape, packed to bits so that nothing depends on the machine."""
    digest.update(repr(array.shape).encode())
    digest.update(np.packbits(array).tobytes())
