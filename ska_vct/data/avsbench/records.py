"""Records of datasets whose facts locate their files: AVSBench's subsets and your own in YAML."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from ska_vct.data.avsbench.folders import DatasetError, FolderIndex, MissingFiles
from ska_vct.data.avsbench.layouts import PRE_MASK, Reader
from ska_vct.data.avsbench.leave_out import read_leave_out
from ska_vct.data.avsbench.locate import find_release
from ska_vct.data.avsbench.scan import scan_rows
from ska_vct.data.avsbench.tables import Table, read_rows
from ska_vct.data.facts import SPLITS, DatasetFacts
from ska_vct.data.registry import ReadOptions

PREPARED_FOLDER = "prepared"

logger = logging.getLogger(__name__)


def read_records(facts: DatasetFacts, split: str, options: ReadOptions) -> list[dict]:
    """List the clips of one split; ``ska_vct/data/catalog.py`` describes a record.

    Raises:
        DatasetError: the folder, table or files are missing, or the table is invalid; all missing files are
            reported together.
    """
    base = find_release(facts, options.root)
    reader = make_reader(facts, split, base, options)
    rows = _leave_out(list_clips(facts, base).clips(split), reader, options.leave_out)
    # The delayed bar appears only if listing is slow, as on a network disk.
    records = [
        reader.record(row) for row in tqdm(rows, desc=f"Listing {facts.name} {split}", delay=3, leave=False)
    ]
    _report_missing(reader, records, options)
    if note := partly_prepared(facts, split, records, options.root):
        logger.warning(note)
    return records


def partly_prepared(facts: DatasetFacts, split: str, records: Sequence[Mapping], root: str) -> str:
    """A sentence if some clips of a split are read at another size than the others, else empty."""
    states = Counter(record["image_state"] for record in records if any(record["image_paths"]))
    if len(states) < 2:
        return ""
    counts = " and ".join(f"{count} {state}" for state, count in states.most_common())
    return (
        f"{facts.title}, split {split}: of {len(records)} clips, {counts} are used; the larger frames of some "
        f"clips are missing or incomplete. Run 'python datasets/prepare.py --root {root} --subset {facts.name} "
        f"--what frames --split {split}' again, or set DATASETS.PREFER_REBUILT to False."
    )


def list_clips(facts: DatasetFacts, base: str) -> Table:
    """List the clips of a dataset from its table or, without a table, from its folders.

    Raises:
        DatasetError: the table is invalid; the message names file, line and clip.
    """
    return read_rows(facts, base) if facts.table else scan_rows(facts, base)


def make_reader(
    facts: DatasetFacts, split: str, base: str, options: ReadOptions, *, index: FolderIndex | None = None
) -> Reader:
    """Create the reader that turns rows of a split's table into records.

    Args:
        base: the dataset's folder, see ``find_release``.
        index: existing folder listings to reuse.

    Raises:
        DatasetError: the split does not exist.
    """
    if split not in SPLITS:
        raise DatasetError(f"Split '{split}' does not exist; choose one of {', '.join(SPLITS)}.")
    prepared_root = options.prepared or f"{options.root}/{PREPARED_FOLDER}"
    prepared = f"{prepared_root}/{facts.folder}" if facts.folder else prepared_root
    # A folder of the user's choice may hold flow of another kind, which must not be mixed with these.
    pair = [f"{options.root}/flow", f"{prepared_root}/flow"]
    others = pair if options.find_flow and options.flow_root in pair else []
    return Reader(
        facts=facts,
        split=split,
        base=base,
        prepared=prepared if os.path.isdir(prepared) else "",
        flow_roots=tuple(dict.fromkeys([options.flow_root, *filter(os.path.isdir, others)])),
        prefer_rebuilt=options.prefer_rebuilt,
        pre_masks=options.pre_masks,
        pre_mask_root=options.pre_mask_root,
        index=index or FolderIndex(),
        missing=MissingFiles(),
    )


def _report_missing(reader: Reader, records: list[dict], options: ReadOptions) -> None:
    facts, lacking = reader.facts, [what for _, _, what in reader.missing.files]
    advice = (
        f"complete {facts.title} below {reader.base} ('python datasets/check.py --root {options.root}' lists "
        "every file), or exclude these clips (DATASETS.LEAVE_OUT)"
    )
    if options.prefer_rebuilt and any(record["rebuilt"] for record in records):
        advice += ", or set DATASETS.PREFER_REBUILT to False to ignore the rebuilt 384 px folders"
    if PRE_MASK in lacking:
        ways = (
            "MODEL.PRE_MASK.ENABLED needs a pre-mask for every frame: make them ('python "
            f"datasets/make_premasks.py --root {options.root} --subset {facts.name} --weights sam-vit-base --out "
            "DIR', then INPUT.PRE_MASK.ROOT DIR), or train without (MODEL.PRE_MASK.ENABLED False, or a config "
            "without it)"
        )
        advice = ways if set(lacking) == {PRE_MASK} else f"{advice}; {ways}"
    reader.missing.check(f"{facts.title}, split {reader.split}", len(records), advice + ".")


def _leave_out(rows: list[dict], reader: Reader, path: str | os.PathLike) -> list[dict]:
    if not path:
        return rows
    unwanted = read_leave_out(path)
    kept = [row for row in rows if reader.clip_id(row) not in unwanted]
    name = f"{reader.facts.title}, split {reader.split}"
    if not kept:
        raise DatasetError(f"{name}: {path} excludes all {len(rows)} clips; shorten the list.")
    if len(kept) < len(rows):
        logger.warning(
            "%s: %d of %d clips are excluded (%s); scores are not comparable with those of the whole split.",
            name, len(rows) - len(kept), len(rows), path,
        )  # fmt: skip
    return kept
