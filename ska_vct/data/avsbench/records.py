"""AVSBench's subsets as lists of records, and their registration with Detectron2 (spec: data.md).

A record is a plain dict of paths, so that listing a data set reads no picture:

==============  ==============================================================================================
field           meaning
==============  ==============================================================================================
clip_id         ``{split}/{category}/{name}`` (S4), ``{split}/{name}`` (MS3), ``{label}/{uid}`` (AVSS)
subset, split   ``s4``, ``ms3`` or ``avss``; ``train``, ``val`` or ``test``
name            clip name, AVSS: uid
category        S4's category, else None
label           AVSS's ``v1s``, ``v1m`` or ``v2``, else None
image_paths     T paths, one per second
mask_paths      T paths, None where a frame is not annotated
pre_mask_paths  T paths of segment pictures, or None where they were not asked for
rebuilt         True: the pictures are COMBO's or VCT's squares, not the release's
wav_path        path or None
log_mel_paths   {"pickle": path or None, "npy": path or None}
video_path      path or None
flow_path       where the clip's flow is, or would be
sem_classes     names of what is annotated as sounding; S4: the category
==============  ==============================================================================================
"""

import logging
import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ska_vct.data.avsbench.folders import DatasetError, FolderIndex, MissingFiles
from ska_vct.data.avsbench.layouts import PRE_MASK, Reader
from ska_vct.data.avsbench.leave_out import read_leave_out
from ska_vct.data.avsbench.locate import find_release
from ska_vct.data.avsbench.subsets import SPLITS, dataset_name, get_subset
from ska_vct.data.avsbench.tables import read_rows
from ska_vct.structures.clip import IGNORE_LABEL
from ska_vct.utils.palette import voc_palette

PREPARED_FOLDER = "prepared"

logger = logging.getLogger(__name__)


def load_records(
    subset: str,
    split: str,
    root: str | os.PathLike,
    *,
    prefer_rebuilt: bool = True,
    flow_root: str | os.PathLike = "",
    pre_masks: bool = False,
    pre_mask_root: str | os.PathLike = "",
    prepared: str | os.PathLike = "",
    leave_out: str | os.PathLike = "",
) -> list[dict]:
    """List the clips of one split; see the module's head for a record's fields.

    Args:
        subset: ``s4``, ``ms3`` or ``avss``.
        split: ``train``, ``val`` or ``test``.
        root: folder that holds ``AVSBench_object`` and ``AVSBench_semantic``, or the release anywhere below it.
        prefer_rebuilt: use COMBO's and VCT's 384 px folders where they exist.
        flow_root: folder of the flow files; empty for ``{root}/flow``.
        pre_masks: also list the pictures of class-agnostic segments.
        pre_mask_root: their folder; empty for the published place.
        prepared: folder that ``datasets/prepare.py`` has filled; empty for ``{root}/prepared``.
        leave_out: csv file with a column ``clip`` (``datasets/check.py --fix-list`` writes one); these clips are
            not listed, and the log says how many.

    Raises:
        DatasetError: root, table or files are missing, or the table is wrong; all missing files are reported
            together.
    """
    facts, root = get_subset(subset), os.fspath(root)
    if split not in SPLITS:
        raise DatasetError(f"There is no split '{split}'; choose one of {', '.join(SPLITS)}.")
    base = find_release(subset, root)
    reader = make_reader(
        subset,
        split,
        base,
        root,
        prefer_rebuilt=prefer_rebuilt,
        flow_root=flow_root,
        pre_masks=pre_masks,
        pre_mask_root=pre_mask_root,
        prepared=prepared,
    )
    rows = read_rows(subset, base).clips(split)
    rows = _leave_out(rows, reader, leave_out)
    # The bar shows up only where listing takes long, on a network disk.
    records = [reader.record(row) for row in tqdm(rows, desc=f"Listing {subset} {split}", delay=3, leave=False)]
    advice = (
        f"unpack {facts.title} completely below {base} ('python datasets/check.py --root {root}' names every "
        "file), or leave these clips out (DATASETS.LEAVE_OUT)"
    )
    if prefer_rebuilt and any(record["rebuilt"] for record in records):
        advice += ", or set DATASETS.PREFER_REBUILT to False to do without the rebuilt 384 px folders"
    if pre_masks and any(what == PRE_MASK for _, _, what in reader.missing.files):
        ways = (
            "MODEL.PRE_MASK.ENABLED needs a pre-mask for every frame: make them ('python "
            f"datasets/make_premasks.py --root {root} --subset {subset} --weights sam-vit-base --out DIR', then "
            "INPUT.PRE_MASK.ROOT DIR), or train without (MODEL.PRE_MASK.ENABLED False, or a config with it off)"
        )
        only = all(what == PRE_MASK for _, _, what in reader.missing.files)
        advice = ways if only else f"{advice}; {ways}"
    reader.missing.check(f"{facts.title}, split {split}", len(records), advice + ".")
    return records


def make_reader(
    subset: str,
    split: str,
    base: str,
    root: str | os.PathLike,
    *,
    prefer_rebuilt: bool = True,
    flow_root: str | os.PathLike = "",
    pre_masks: bool = False,
    pre_mask_root: str | os.PathLike = "",
    prepared: str | os.PathLike = "",
) -> Reader:
    """What turns the rows of one split's table into records; arguments as for ``load_records``.

    Args:
        base: the release's folder, see ``find_release``.
    """
    facts, root = get_subset(subset), os.fspath(root)
    prepared = f"{os.fspath(prepared) or f'{root}/{PREPARED_FOLDER}'}/{facts.folder}"
    return Reader(
        subset=facts,
        split=split,
        base=base,
        prepared=prepared if os.path.isdir(prepared) else "",
        flow_root=os.fspath(flow_root) or f"{root}/flow",
        prefer_rebuilt=prefer_rebuilt,
        pre_masks=pre_masks,
        pre_mask_root=os.fspath(pre_mask_root),
        index=FolderIndex(),
        missing=MissingFiles(),
    )


def _leave_out(rows: list[dict], reader: Reader, path: str | os.PathLike) -> list[dict]:
    if not path:
        return rows
    unwanted = read_leave_out(path)
    kept = [row for row in rows if reader.clip_id(row) not in unwanted]
    name = f"{reader.subset.title}, split {reader.split}"
    if not kept:
        raise DatasetError(f"{name}: {path} leaves out all {len(rows)} clips; shorten the list.")
    if len(kept) < len(rows):
        logger.warning(
            "%s: %d of %d clips are left out (%s); scores do not compare with those of the whole split.",
            name, len(rows) - len(kept), len(rows), path,
        )  # fmt: skip
    return kept


def register_subset(subset: str, root: str | os.PathLike, **options) -> list[str]:
    """Register the three splits of a subset with Detectron2; nothing is read before a split is asked for.

    ``DatasetCatalog.get(dataset_name(subset, split))`` then lists the records. ``MetadataCatalog`` holds subset,
    split, root, classes and colors (also as stuff_classes and stuff_colors), num_classes, ignore_label and
    evaluator_type. Registering again replaces what was there.

    Args:
        root: folder that holds ``AVSBench_object`` and ``AVSBench_semantic``.
        options: keyword arguments of ``load_records``.

    Returns:
        the names registered, train, val, test.
    """
    facts = get_subset(subset)
    classes, colors = list(facts.classes), voc_palette(facts.num_classes).tolist()
    names = [dataset_name(subset, split) for split in SPLITS]
    for name, split in zip(names, SPLITS, strict=True):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        if name in MetadataCatalog:
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, lambda split=split: load_records(subset, split, root, **options))
        MetadataCatalog.get(name).set(
            subset=subset,
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
