"""Writes a whole synthetic release: clips in parallel, and last the tables without which no reader starts."""

import csv
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
from tqdm import tqdm

from ska_vct.data.facts import SPLITS
from ska_vct.data.registry import get_facts
from ska_vct.synth.plan import plan_clip
from ska_vct.synth.release import table_row, write_clip
from ska_vct.synth.settings import SynthError, SynthSettings
from ska_vct.synth.truth import TRUTH_FOLDER, truth_path
from ska_vct.utils.files import atomic_write, write_json

# Starting a process takes about as long as making this many clips.
_CLIPS_PER_PROCESS = 40


class ReleaseSettings(Protocol):
    """What the writer asks of settings."""

    @property
    def subset(self) -> str:
        """Whose layout is written."""

    @property
    def counts(self) -> dict[str, int]:
        """Clips per split."""

    def to_json(self) -> dict:
        """Everything that the clips depend on."""


# Makes one clip, (root, settings, (split, index)), unless it exists; returns its rows in both tables.
MakeClip = Callable[[Path, Any, tuple[str, int]], tuple[dict, dict]]


def make_drawn_clip(root: Path, settings: SynthSettings, number: tuple[str, int]) -> tuple[dict, dict]:
    """Draw one clip unless it exists; returns its rows in our table and in the release's."""
    plan = plan_clip(settings, *number)
    if not truth_path(root, plan.subset, plan.split, plan.name).is_file():
        # The truth is written last and atomically: if it exists, the clip is complete.
        write_clip(root, plan, settings)
    return plan.row(), table_row(plan)


def generate(
    root: str | os.PathLike,
    settings: ReleaseSettings,
    *,
    jobs: int = 0,
    progress: bool = True,
    make: MakeClip = make_drawn_clip,
) -> bool:
    """Write the subset that ``settings`` describe below ``root``, or complete an interrupted one.

    Args:
        root: the future ``DATASETS.ROOT``; several subsets may share it.
        settings: of the subset.
        jobs: processes; 0 for one per core if there are enough clips. The files do not depend on it.
        progress: show a progress bar.
        make: makes one clip; a function of a module, so that processes can run it.

    Returns:
        True if clips were written, False if the release was already complete.

    Raises:
        SynthError: the folder holds a real release, or a synthetic one made with other settings.
        OSError: the folder cannot be written.
    """
    root = Path(root)
    wanted = settings.to_json()
    if _check_target(root, settings.subset, wanted):
        return False
    root.mkdir(parents=True, exist_ok=True)
    marker = _marker(root, settings.subset)
    write_json(marker, {"complete": False, "settings": wanted})
    numbers = [(split, index) for split in SPLITS for index in range(settings.counts[split])]
    jobs = jobs or max(1, min(os.cpu_count() or 1, len(numbers) // _CLIPS_PER_PROCESS))
    rows = []
    with tqdm(total=len(numbers), desc=f"Making {settings.subset}", unit="clip", disable=not progress) as bar:
        for row in _run(partial(make, root, settings), numbers, jobs):
            rows.append(row)
            bar.update()
    _write_table(root / TRUTH_FOLDER / f"{settings.subset}_clips.csv", [clip for clip, _ in rows])
    facts = get_facts(settings.subset)
    base = root / facts.folder
    if facts.class_list:
        write_json(base / facts.class_list, {name: index for index, name in enumerate(facts.classes)})
    _write_table(base / facts.table, [row for _, row in rows])
    write_json(marker, {"complete": True, "settings": wanted})
    return True


def _check_target(root: Path, subset: str, wanted: dict) -> bool:
    """True if the release is complete; False if there is nothing, or a part of this very release."""
    marker, base = _marker(root, subset), root / get_facts(subset).folder
    if not marker.is_file():
        if base.exists() and any(base.iterdir()):
            raise SynthError(
                f"Folder {base} holds files that were not made by this program; choose another --root. A real "
                "release is never modified."
            )
        return False
    try:
        state = json.loads(marker.read_text())
        found, complete = state["settings"], state["complete"]
        different = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SynthError(f"File {marker} cannot be read ({error}); choose another --root or remove it.") from None
    if different:
        shown = ", ".join(f"{key} {found.get(key)} instead of {wanted.get(key)}" for key in different)
        raise SynthError(
            f"Folder {root} holds synthetic {subset} clips made with other settings ({shown}); choose another "
            f"--root, or remove {base}, {root / 'flow' / subset} and {marker.parent / subset}, and {marker} last."
        )
    # A table that was removed is written again.
    return complete and (base / get_facts(subset).table).is_file()


def read_settings(root: str | os.PathLike, subset: str) -> dict | None:
    """The settings (``SynthSettings.to_json``) that a synthetic release was made with; None if there are none.

    Raises:
        SynthError: the file that holds them cannot be read.
    """
    marker = _marker(Path(root), subset)
    try:
        return json.loads(marker.read_text(encoding="utf-8"))["settings"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SynthError(f"File {marker} cannot be read ({error}); remove it and make the clips again.") from None


def _marker(root: Path, subset: str) -> Path:
    return root / TRUTH_FOLDER / f"{subset}_settings.json"


def _run(task: partial, numbers: list[tuple[str, int]], jobs: int) -> Iterator[tuple[dict, dict]]:
    if jobs <= 1 or len(numbers) < 2:
        threads = cv2.getNumThreads()
        try:
            cv2.setNumThreads(1)
            yield from map(task, numbers)
        finally:
            cv2.setNumThreads(threads)
        return
    # spawn: forking a process with threads (torch, OpenCV) can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            yield from pool.map(task, numbers, chunksize=max(1, min(8, len(numbers) // (4 * jobs))))
        except BrokenProcessPool:
            raise SynthError(
                "A process that was making clips was killed, perhaps because memory ran out; run again with "
                "--jobs 1. Finished clips are kept."
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with atomic_write(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
