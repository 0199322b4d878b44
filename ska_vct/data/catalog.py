"""Lists datasets as records and registers them with Detectron2.

A record is a plain dict of paths, so listing a dataset reads no images:

==============  ==============================================================================================
field           meaning
==============  ==============================================================================================
clip_id         ``{split}/{category}/{name}`` (S4), ``{split}/{name}`` (MS3), ``{label}/{uid}`` (AVSS)
subset, split   name of the dataset (``DatasetFacts.name``); ``train``, ``val`` or ``test``
name            clip name, AVSS: uid
category        S4's category, else None
label           AVSS's ``v1s``, ``v1m`` or ``v2``, else None
image_paths     T paths, one per second; ``clip.mp4#t=0.9375`` is a frame of a video
mask_paths      T paths, None where a frame is not annotated
pre_mask_paths  T paths of images of class-agnostic segments, or None if they were not requested
rebuilt         True: the images are squares made by COMBO, VCT or this package, not the originals
image_state     form of the images: ``original``, ``rebuilt 384`` or ``rebuilt 224``
wav_path        path or None
log_mel_paths   {"pickle": path or None, "npy": path or None}
video_path      path or None
flow_path       path of the clip's flow, which need not exist
sem_classes     names of the annotated sounding classes; S4: the category
==============  ==============================================================================================

Your own reader must set ``clip_id``, ``image_paths``, ``mask_paths``, and ``wav_path`` or ``video_path`` (or
``log_mel_paths``); other missing fields are filled in here.
"""

import os
from collections.abc import Mapping

from detectron2.data import DatasetCatalog, MetadataCatalog

from ska_vct.data.avsbench.csv_table import check_name
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.leave_out import read_leave_out
from ska_vct.data.avsbench.records import read_records
from ska_vct.data.facts import ORIGINAL, SPLITS, DatasetFacts
from ska_vct.data.registry import ReadOptions, get_facts, get_reader
from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.palette import voc_palette

_NEEDED = ("clip_id", "image_paths", "mask_paths")


def load_records(name: str, split: str, root: str | os.PathLike, **options) -> list[dict]:
    """List the clips of one split; the module docstring describes a record's fields.

    Args:
        name: name of a dataset: ``s4``, ``ms3``, ``avss``, or a registered one.
        split: ``train``, ``val`` or ``test``.
        root: folder with ``AVSBench_object`` and ``AVSBench_semantic``, or any folder that contains a release; for
            your own dataset, its folder.
        options: further fields of :class:`ska_vct.data.registry.ReadOptions`.

    Raises:
        DatasetError: the root, table or files are missing, or the table is invalid; all missing files are reported
            together.
        KeyError: the dataset does not exist.
    """
    read_options = ReadOptions(root=os.fspath(root), **{key: _plain(value) for key, value in options.items()})
    return read_split(get_facts(name), split, read_options)


def read_split(facts: DatasetFacts, split: str, options: ReadOptions) -> list[dict]:
    """Like :func:`load_records`, for given facts and options."""
    if split not in SPLITS:
        raise DatasetError(f"Split '{split}' does not exist; choose one of {', '.join(SPLITS)}.")
    reader = get_reader(facts.name)
    if reader is None:
        return read_records(facts, split, options)
    records = [_complete(facts, split, record, options) for record in reader(split, options)]
    unwanted = read_leave_out(options.leave_out) if options.leave_out else ()
    return [record for record in records if record["clip_id"] not in unwanted]


def register_splits(name: str, root: str | os.PathLike, **options) -> list[str]:
    """Register the three splits of a dataset with Detectron2; files are read only when a split is requested.

    ``DatasetCatalog.get("avsbench_ms3_test")`` then lists the records. ``MetadataCatalog`` holds subset, split,
    root, classes and colors (also as stuff_classes and stuff_colors), num_classes, ignore_label and
    evaluator_type. Registering again replaces the previous registration.

    Args:
        name, root, options: as for :func:`load_records`.

    Returns:
        the registered names of train, val and test.
    """
    facts = get_facts(name)
    classes, colors = list(facts.classes), voc_palette(facts.num_classes).tolist()
    names = [facts.split_name(split) for split in SPLITS]
    for registered, split in zip(names, SPLITS, strict=True):
        if registered in DatasetCatalog:
            DatasetCatalog.remove(registered)
        if registered in MetadataCatalog:
            MetadataCatalog.remove(registered)
        DatasetCatalog.register(registered, lambda split=split: load_records(name, split, root, **options))
        MetadataCatalog.get(registered).set(
            subset=name,
            split=split,
            root=os.fspath(root),
            classes=classes,
            colors=colors,
            stuff_classes=classes,
            stuff_colors=colors,
            num_classes=facts.num_classes,
            ignore_label=IGNORE_LABEL,
            evaluator_type="avs",
        )
    return names


def _plain(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _complete(facts: DatasetFacts, split: str, record: Mapping, options: ReadOptions) -> dict:
    """Check a record of a custom reader and fill in missing fields.

    Raises:
        DatasetError: a required field is missing, or the id is not a valid path.
    """
    lacking = [key for key in _NEEDED if key not in record]
    where = f"The reader of dataset '{facts.name}', split {split},"
    if lacking:
        raise DatasetError(f"{where} returns a record without {', '.join(lacking)}; it has {', '.join(record)}.")
    clip_id, count = record["clip_id"], len(record["image_paths"])
    for part in clip_id.split("/"):
        check_name(part, what="clip", where=where)
    if len(record["mask_paths"]) != count:
        raise DatasetError(
            f"{where} returns {count} frames and {len(record['mask_paths'])} masks for clip '{clip_id}'; use None "
            "for each frame without a mask."
        )
    return {
        "subset": facts.name,
        "split": split,
        "name": clip_id.rpartition("/")[2],
        "category": None,
        "label": None,
        "pre_mask_paths": None,
        "rebuilt": False,
        "image_state": ORIGINAL,
        "wav_path": None,
        "log_mel_paths": {"pickle": None, "npy": None},
        "video_path": None,
        "flow_path": f"{options.flow_root}/{facts.name}/{clip_id}.npz",
        "sem_classes": (),
        **record,
    }
