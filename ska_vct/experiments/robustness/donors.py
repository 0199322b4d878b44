"""Chooses the clip whose audio or flow replaces another's: once per clip, the same in every run."""

import os
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ska_vct.experiments.robustness.class_groups import groups_of
from ska_vct.structures.clip import ClipError
from ska_vct.synth.truth import read_clip_classes


class Donor(NamedTuple):
    """``record`` of the donor clip; ``is_other_group``: its audio is known to be of another class group."""

    record: Mapping
    is_other_group: bool


def clip_rng(seed: int, clip_id: str, purpose: str) -> np.random.Generator:
    """Random generator of one clip, independent of the order in which clips are processed."""
    return np.random.default_rng([seed, zlib.crc32(f"{purpose} {clip_id}".encode())])


def any_donors(records: Sequence[Mapping], *, seed: int, purpose: str) -> dict[str, Donor]:
    """Clip id -> any other clip, preferably one with at least as many frames.

    Raises:
        ClipError: there is only one clip.
    """
    _check(records)
    return {record["clip_id"]: Donor(_draw(record, records, seed, purpose), False) for record in records}


def off_screen_donors(records: Sequence[Mapping], root: str | os.PathLike, *, seed: int) -> dict[str, Donor]:
    """Clip id -> a clip whose audio belongs to no group (music, human, animal, device) seen in the clip.

    The groups seen are those of the annotated classes (``sem_classes``), in synthetic clips of all objects in
    view, silent ones included. Where classes are unknown (real MS3 names none) or no clip is of another group,
    any other clip is taken.

    Args:
        records: clips of one split.
        root: of the release, to read the objects of a synthetic one.
        seed: of the draw.

    Raises:
        ClipError: there is only one clip.
    """
    _check(records)
    known = read_clip_classes(root, records[0]["subset"])
    seen, heard = {}, {}
    for record in records:
        clip_id = record["clip_id"]
        in_view, sounds = known.get(clip_id, (record["sem_classes"], record["sem_classes"]))
        seen[clip_id], heard[clip_id] = groups_of(in_view), groups_of(sounds)
    donors = {}
    for record in records:
        mine = seen[record["clip_id"]]
        # A clip with off-screen audio must not be its own donor.
        others = [
            other
            for other in records
            if other is not record and mine and heard[other["clip_id"]] and not heard[other["clip_id"]] & mine
        ]
        chosen = _draw(record, others or records, seed, "off_screen")
        donors[record["clip_id"]] = Donor(chosen, bool(others))
    return donors


def _check(records: Sequence[Mapping]) -> None:
    if len(records) < 2:
        raise ClipError(
            f"No other clip can provide audio or flow for '{records[0]['clip_id']}'; leave out the "
            "conditions off_screen and other_flow, or add clips."
        )


def _draw(record: Mapping, candidates: Sequence[Mapping], seed: int, purpose: str) -> Mapping:
    others = [other for other in candidates if other["clip_id"] != record["clip_id"]]
    num_frames = len(record["image_paths"])
    others = [other for other in others if len(other["image_paths"]) >= num_frames] or others
    return others[int(clip_rng(seed, record["clip_id"], purpose).integers(len(others)))]
