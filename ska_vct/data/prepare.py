"""Makes optional files from a release that speed up training or provide larger frames (docs/data.md).

==========  ====================================================================================================
kind        source, and location below ``{out}/{folder of the subset}``
==========  ====================================================================================================
frames      S4, MS3: AVSS's larger frames and label maps of the same clips, as 384 px squares, in the folders of
            VCT's scripts (``s4_data_384/...``). AVSS: squares of val and test
            (``{label}/{uid}/processed_frames_384``, label maps of 224 px beside them); training clips on request
log-mel     wav or video of clips without a released log-mel: ``audio_log_mel/.../{name}.npy``, AVSS ``audio.npy``
flow        published folders of ``flow_0000.npy``, one small file per clip below ``{out}/flow``
==========  ====================================================================================================

Readers prefer these files, clip by clip, where all of a clip's exist. Each is written atomically, and existing
files are kept unless damaged, so an interrupted run continues where it stopped. Frames and label maps equal those
made on the fly.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from ska_vct.data.audio.files import load_log_mel
from ska_vct.data.audio.log_mel_files import read_log_mel_npy
from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.avsbench.folders import DatasetError, FolderIndex
from ska_vct.data.avsbench.locate import PREPARED_MARK, find_releases
from ska_vct.data.avsbench.subsets import LARGE_FRAMES
from ska_vct.data.avsbench.tables import read_rows
from ska_vct.data.facts import DatasetFacts, expand
from ska_vct.data.flow.store import FlowError, FlowRecord, flow_path, read_flow, read_flow_meta, write_flow
from ska_vct.data.images.io import ImageError, probe_image, read_image, read_label_map, write_png
from ska_vct.data.registry import get_facts
from ska_vct.data.twins import TwinFinder
from ska_vct.utils.files import atomic_path, write_json
from ska_vct.utils.media.errors import AudioError
from ska_vct.utils.threads import in_threads


@dataclass
class Outcome:
    """Result of a preparation.

    Attributes:
        written: number of clips made in this run.
        present: number of clips whose files existed or that need none.
        failed: one sentence per failed clip.
    """

    written: int = 0
    present: int = 0
    failed: list[str] = field(default_factory=list)


def check_target(root: str | os.PathLike, out: str | os.PathLike) -> None:
    """Check that ``out`` is not inside a release, and mark it as prepared by this package.

    Raises:
        DatasetError: ``out`` is inside a release.
    """
    target = os.path.realpath(out)
    for bases in find_releases(root).values():
        for base in map(os.path.realpath, bases):
            if os.path.commonpath([base, target]) == base:
                raise DatasetError(
                    f"Folder {out} is inside the release {base}; choose another with --out (and "
                    "DATASETS.PREPARED), or write into the release with --into-release."
                )
    write_json(f"{out}/{PREPARED_MARK}", {"made_by": "datasets/prepare.py"})


def prepare_frames(
    facts: DatasetFacts,
    base: str,
    source_base: str,
    target: str,
    splits: Sequence[str],
    *,
    jobs: int = 0,
    progress: bool = True,
) -> Outcome:
    """Make square frames and masks in the folders of VCT's scripts, from AVSS's larger frames and label maps.

    Clips of AVSS are found by name and compared with the released frames, see ``ska_vct/data/twins.py``.

    Args:
        facts: facts of S4, MS3 (whose clips are also in AVSS, ``DatasetFacts.twin_label``) or AVSS.
        base: the subset's release.
        source_base: AVSS's release.
        target: output folder that corresponds to ``base``.

    Raises:
        DatasetError: a table is invalid.
    """
    source_facts, images = get_facts(LARGE_FRAMES), facts.image_sets[0]
    table = read_rows(facts, base)
    index = FolderIndex()
    find_source: Callable[[dict], dict] = dict
    if facts.twin_label:
        find_source = TwinFinder(
            facts=facts, base=base, source=source_facts, source_base=source_base,
            table=read_rows(source_facts, source_base), index=index, progress=progress,
        )  # fmt: skip

    def make(row: dict) -> bool:
        source, split = find_source(row), row["split"]
        frames_at = index.folder(source_base, expand(source_facts.original.frames, source))
        labels_at = index.folder(source_base, expand(source_facts.original.masks[split], source))
        side = images.mask_sides[split]
        square = partial(_square_mask if facts.binary_masks else _square_labels, side=side)
        tasks = []
        for k in facts.annotated_frames(split, row.get("label")):
            label_map = expand(source_facts.mask_files[0], source | source_facts.number(k))
            file = expand(facts.mask_files[0], row | facts.number(k))
            tasks.append(
                (f"{labels_at}/{label_map}", f"{target}/{expand(images.masks[split], row)}/{file}", square)
            )
        # Frames last: readers take the existence of their folder as the sign that the clip exists.
        for k in range(facts.clip_frames(row.get("label"))):
            stem = expand(source_facts.frame_files[0], source | source_facts.number(k))
            names = [stem + ending for ending in source_facts.endings]
            # The last name of a frame is the one without the video's extension.
            file = expand(facts.frame_files[-1], row | facts.number(k))
            tasks.append(
                (
                    index.first(frames_at, names) or f"{frames_at}/{names[0]}",
                    f"{target}/{expand(images.frames, row)}/{file}.png",
                    partial(_square_frame, side=images.side),
                )
            )
        return _write_missing(tasks)

    rows = [row for split in splits for row in table.rows[split]]
    return _run(make, rows, title=f"{facts.name} frames", jobs=jobs, progress=progress)


def prepare_log_mel(records: Sequence[dict], target: str, *, jobs: int = 0, progress: bool = True) -> Outcome:
    """Make log-mel files for clips without one.

    Args:
        records: records from ``load_records``.
        target: output folder that corresponds to the release.
    """

    def make(record: dict) -> bool:
        path = f"{target}/{expand(get_facts(record['subset']).log_mel, record)}.npy"
        present = [file for file in record["log_mel_paths"].values() if file]
        if present and not (present == [path] and _is_damaged(path, read_log_mel_npy)):
            return False
        source = "wav" if record["wav_path"] else "auto"
        without = record | {"log_mel_paths": dict.fromkeys(record["log_mel_paths"])}
        log_mel = load_log_mel(without, len(record["image_paths"]), source)
        with atomic_path(path) as temporary:
            np.save(temporary, log_mel)
        return True

    return _run(make, records, title="log-mel", jobs=jobs, progress=progress)


def prepare_flow(
    records: Sequence[dict], out: str, *, side: int = 96, jobs: int = 0, progress: bool = True
) -> Outcome:
    """Convert published flow folders to one small file per clip; direction and scale stay unknown.

    Args:
        records: records from ``load_records``.
        out: output folder, to be set as ``INPUT.FLOW.ROOT``.
        side: longer side of the stored fields; smaller fields are not resized.
    """

    def make(record: dict) -> bool:
        path = flow_path(
            out, record["subset"], record["split"], record["name"], record["category"], record["label"]
        )
        if path.is_file() and not _is_damaged(path, read_flow_meta):
            return False
        if os.path.isfile(record["flow_path"]):
            return False
        stored = read_flow(record["flow_path"], clip_id=record["clip_id"], num_frames=len(record["image_paths"]))
        height, width = stored.flow.shape[3:]
        factor = min(1.0, side / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        fields = stored.flow.astype(np.float32).reshape(-1, height, width)
        small = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in fields])
        flow = small.reshape(*stored.flow.shape[:3], *small.shape[1:]).astype(np.float16)
        write_flow(path, FlowRecord(flow=flow, meta=stored.meta))
        return True

    return _run(make, records, title="flow", jobs=jobs, progress=progress)


def _run(make: Callable[[dict], bool], items: Sequence[dict], *, title: str, jobs: int, progress: bool) -> Outcome:
    def attempt(item: dict) -> bool | str:
        try:
            return make(item)
        except (AudioError, DatasetError, FlowError, ImageError) as error:
            return str(error)

    outcome = Outcome()
    for result in in_threads(attempt, items, jobs=jobs, title=title, progress=progress):
        if isinstance(result, str):
            outcome.failed.append(result)
        else:
            outcome.written += result
            outcome.present += not result
    return outcome


def _write_missing(tasks: Sequence[tuple[str, str, Callable[[str], np.ndarray]]]) -> bool:
    missing = [task for task in tasks if not os.path.isfile(task[1]) or _is_damaged(task[1], probe_image)]
    for source, path, make in missing:
        write_png(path, make(source))
    return bool(missing)


def _is_damaged(path: str | os.PathLike, read: Callable) -> bool:
    """Whether a prepared file cannot be read, so that it is made again."""
    try:
        read(path)
    except (AudioError, FlowError, ImageError):
        return True
    return False


def _square_frame(path: str, *, side: int) -> np.ndarray:
    return ClipGeometry.resize((side, side)).apply_images([read_image(path)])[0]


def _square_labels(path: str, *, side: int) -> np.ndarray:
    labels = read_label_map(path, get_facts(LARGE_FRAMES).num_classes)
    return ClipGeometry.resize((side, side)).apply_labels(labels[None])[0]


def _square_mask(path: str, *, side: int) -> np.ndarray:
    return 255 * (_square_labels(path, side=side) > 0).astype(np.uint8)
