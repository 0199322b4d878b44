"""Files that make training faster or larger pictures possible, made once from a release (spec: data.md).

==========  ====================================================================================================
what        from, and where it goes below ``{out}/{folder of the subset}``
==========  ====================================================================================================
frames      S4, MS3: AVSS's larger frames and label maps of the same clips, as 384 px squares, where VCT's scripts
            put them (``s4_data_384/...``). AVSS: squares of val and test (``{label}/{uid}/processed_frames_384``,
            label maps of 224 px beside them); training clips on request
log-mel     wav or video of clips without a released log-mel: ``audio_log_mel/.../{name}.npy``, AVSS ``audio.npy``
flow        published folders of ``flow_0000.npy``, one small file per clip below ``{out}/flow``
==========  ====================================================================================================

Readers prefer these files where they find them. All are written whole or not at all, and what is there is left
alone, so a run that was interrupted goes on where it stopped. Frames and label maps equal those made on the fly.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from ska_vct.data.audio.files import load_log_mel
from ska_vct.data.audio.log_mel import AudioError
from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.avsbench.folders import DatasetError, FolderIndex, read_table
from ska_vct.data.avsbench.layouts import PICTURES, SQUARES
from ska_vct.data.avsbench.locate import PREPARED_MARK, find_releases
from ska_vct.data.avsbench.subsets import AVSS_CLASSES, get_subset
from ska_vct.data.avsbench.tables import TABLES, read_rows
from ska_vct.data.flow.store import FlowError, FlowRecord, flow_path, read_flow, write_flow
from ska_vct.data.images.io import ImageError, read_image, read_label_map, write_png
from ska_vct.utils.files import atomic_path, write_json
from ska_vct.utils.threads import in_threads

SIDE, TRUTH_SIDE = 384, 224
# AVSS's folder of the clips of AVSBench-object.
_LABELS = {"s4": "v1s", "ms3": "v1m"}


@dataclass
class Outcome:
    """What a preparation has come to.

    Attributes:
        written: clips made now.
        present: clips that were there, or need nothing.
        failed: one sentence per clip that could not be made.
    """

    written: int = 0
    present: int = 0
    failed: list[str] = field(default_factory=list)


def check_target(root: str | os.PathLike, out: str | os.PathLike) -> None:
    """Make sure that ``out`` is no part of a release, and mark it as ours.

    Raises:
        DatasetError: it is part of one.
    """
    target = os.path.realpath(out)
    for bases in find_releases(root).values():
        for base in map(os.path.realpath, bases):
            if os.path.commonpath([base, target]) == base:
                raise DatasetError(
                    f"Folder {out} lies inside the release {base}; name another with --out (and "
                    "DATASETS.PREPARED), or write into the release with --into-release."
                )
    write_json(f"{out}/{PREPARED_MARK}", {"made_by": "datasets/prepare.py"})


def prepare_object_frames(
    subset: str,
    base: str,
    semantic: str,
    target: str,
    splits: Sequence[str],
    *,
    jobs: int = 0,
    progress: bool = True,
) -> Outcome:
    """384 px frames and masks of S4 or MS3 from AVSS's frames and label maps.

    Args:
        base: the subset's release.
        semantic: AVSS's release.
        target: twin of ``base`` to write to.

    Raises:
        DatasetError: a table cannot be used.
    """
    facts = get_subset(subset)
    twins: dict[str, list[dict]] = {}
    for row in read_table(f"{semantic}/{TABLES['avss'][0]}", ("vid", "uid", "split", "label")):
        if row["label"] == _LABELS[subset]:
            twins.setdefault(row["vid"], []).append(row)
    table = read_rows(subset, base)
    index = FolderIndex()

    def make(row: dict) -> bool:
        name, split = row["name"], row["split"]
        candidates = twins.get(name)
        if not candidates:
            raise DatasetError(
                f"Clip '{name}' of {facts.title} is not in AVSS's table; its frames have no source."
            )
        # Where a name is there twice the split decides, then the last, as with VCT's scripts.
        uid = max(reversed(candidates), key=lambda twin: twin["split"] == split)["uid"]
        source = f"{semantic}/{_LABELS[subset]}/{uid}"
        inside = f"{split}/{row['category']}/{name}" if subset == "s4" else f"{split}/{name}"
        frames = f"{inside if subset == 's4' else name}/{name}"
        side = SIDE if split == "train" else TRUTH_SIDE
        at = f"{target}/{subset}_data_384"
        tasks = [
            (_find_frame(index, source, k), f"{at}/visual_frames_384/{frames}_{k + 1}.png", _square_frame)
            for k in range(facts.clip_frames())
        ] + [
            (
                f"{source}/labels_semantic/{k}.png",
                f"{at}/gt_masks_{side}/{inside}/{name}_{k + 1}.png",
                partial(_square_mask, side=side),
            )
            for k in facts.annotated_frames(split)
        ]
        return _write_missing(tasks)

    rows = [row for split in splits for row in table.rows[split]]
    return _run(make, rows, title=f"{subset} frames", jobs=jobs, progress=progress)


def prepare_semantic_frames(
    base: str, target: str, splits: Sequence[str], *, jobs: int = 0, progress: bool = True
) -> Outcome:
    """384 px frames of AVSS, with label maps of 224 px (val, test) or 384 px (train); arguments as above."""
    facts = get_subset("avss")
    table = read_rows("avss", base)
    index = FolderIndex()

    def make(row: dict) -> bool:
        clip, split = f"{row['label']}/{row['uid']}", row["split"]
        labels, side = ("processed_labels_semantic", TRUTH_SIDE)
        if split == "train":
            labels, side = f"{labels}_384", SIDE
        tasks = [
            (f"{base}/{clip}/labels_semantic/{k}.png", f"{target}/{clip}/{labels}/{k}.png",
             partial(_square_labels, side=side))
            for k in facts.annotated_frames(split, row["label"])
        ]  # fmt: skip
        # Frames last: readers take their folder as the sign that the clip is there.
        tasks += [
            (_find_frame(index, f"{base}/{clip}", k), f"{target}/{clip}/{SQUARES}/{k}.png", _square_frame)
            for k in range(facts.clip_frames(row["label"]))
        ]
        return _write_missing(tasks)

    rows = [row for split in splits for row in table.rows[split]]
    return _run(make, rows, title="avss frames", jobs=jobs, progress=progress)


def prepare_log_mel(records: Sequence[dict], target: str, *, jobs: int = 0, progress: bool = True) -> Outcome:
    """Log-mel files for the clips that have none.

    Args:
        records: of ``load_records``.
        target: twin of the release to write to.
    """

    def make(record: dict) -> bool:
        if any(record["log_mel_paths"].values()):
            return False
        source = "wav" if record["wav_path"] else "auto"
        log_mel = load_log_mel(record, len(record["image_paths"]), source)
        if record["subset"] == "avss":
            path = f"{target}/{record['clip_id']}/audio.npy"
        else:
            path = f"{target}/{record['subset']}_data/audio_log_mel/{record['clip_id']}.npy"
        with atomic_path(path) as temporary:
            np.save(temporary, log_mel)
        return True

    return _run(make, records, title="log-mel", jobs=jobs, progress=progress)


def prepare_flow(
    records: Sequence[dict], out: str, *, side: int = 96, jobs: int = 0, progress: bool = True
) -> Outcome:
    """Published flow folders as one small file per clip; what they lack, direction and scale, stays lost.

    Args:
        records: of ``load_records``.
        out: folder for the files; what ``INPUT.FLOW.ROOT`` will name.
        side: the longer side of the stored fields; fields that are smaller stay as they are.
    """

    def make(record: dict) -> bool:
        path = flow_path(
            out, record["subset"], record["split"], record["name"], record["category"], record["label"]
        )
        if path.is_file() or os.path.isfile(record["flow_path"]):
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
    missing = [task for task in tasks if not os.path.isfile(task[1])]
    for source, path, make in missing:
        write_png(path, make(source))
    return bool(missing)


def _find_frame(index: FolderIndex, clip: str, k: int) -> str:
    names = [f"{k}{end}" for end in reversed(PICTURES)]
    return index.first(f"{clip}/frames", names) or f"{clip}/frames/{k}.jpg"


def _square_frame(path: str) -> np.ndarray:
    return ClipGeometry.resize((SIDE, SIDE)).apply_images([read_image(path)])[0]


def _square_labels(path: str, *, side: int) -> np.ndarray:
    return ClipGeometry.resize((side, side)).apply_labels(read_label_map(path, len(AVSS_CLASSES))[None])[0]


def _square_mask(path: str, *, side: int) -> np.ndarray:
    return 255 * (_square_labels(path, side=side) > 0).astype(np.uint8)
