"""The CSV table of a dataset, which assigns clips to splits (docs/data.md)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ska_vct.data.avsbench.csv_table import check_name, read_csv, shorten
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.facts import SPLITS, DatasetFacts, expand, placeholders

logger = logging.getLogger(__name__)

_SHOWN = 3


@dataclass
class Table:
    """A dataset's table.

    Attributes:
        path: path of the file.
        rows: split -> its clips without repetitions, in the table's order; the keys are those of
            ``DatasetFacts.columns``.
        repeated: split -> names listed more than once in the split.
        shared: name listed in several splits -> those splits.
        header: columns of the file.
        notes: kind -> sentence about an irregularity of the file.
    """

    path: str
    rows: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    repeated: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    shared: dict[str, list[str]] = field(default_factory=dict)
    header: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def clips(self, split: str) -> list[dict[str, str]]:
        """Clips of ``split``; repeated clips are logged.

        Raises:
            DatasetError: the split is empty.
        """
        if not self.rows[split]:
            total = sum(map(len, self.rows.values()))
            raise DatasetError(f"Table {self.path} lists no clip of split '{split}' among its {total} clips.")
        repeated = self.repeated[split]
        if repeated:
            logger.warning(
                "Table %s lists clips more than once in split %s; each is used once: %d (%s).",
                self.path, split, len(repeated), _shown(repeated),
            )  # fmt: skip
        shared = [name for name, splits in self.shared.items() if split in splits]
        if shared:
            logger.warning(
                "Some clips of split %s are also listed in another split of table %s: %d (%s).",
                split, self.path, len(shared), _shown(shared),
            )  # fmt: skip
        return self.rows[split]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def read_rows(facts: DatasetFacts, base: str) -> Table:
    """Read the table of a dataset in its folder ``base``.

    Raises:
        DatasetError: the file, a column or a split does not exist, or a value is not a valid folder name; the
            message names file, line and clip.
    """
    path = f"{base}/{facts.table}" if not facts.table.startswith("/") else facts.table
    table = Table(path)
    known = set(facts.columns)
    text = read_csv(
        path, facts.columns, optional=facts.optional_columns, headless=facts.headless, others=not facts.headless
    )
    table.header, table.notes = text.header, text.notes
    # Columns that identify a clip, except the split.
    keys = sorted(placeholders(facts.clip_id) - {"split"})
    folders = _used_in_paths(facts)
    seen: dict[tuple, list[str]] = {}
    for number, row in text.rows:
        where, name, split = f"Table {path}, line {number}", row["name"], row["split"]
        for key, value in row.items():
            if key in folders:
                check_name(value, what="clip" if key == "name" else key, where=where)
        if split not in SPLITS:
            raise DatasetError(
                f"{where} has clip {shorten(name)} in split {shorten(split)}; splits are {', '.join(SPLITS)}."
            )
        if facts.label_frames and row["label"] not in facts.label_frames:
            raise DatasetError(
                f"{where} has clip {shorten(name)} with label {shorten(row['label'])}; labels are "
                f"{', '.join(facts.label_frames)}."
            )
        missing = [key for key in keys if key not in row]
        if missing:
            raise DatasetError(f"Table {path} lacks the column {missing[0]}, from which clip names are made.")
        splits = seen.setdefault(tuple(row[key] for key in keys), [])
        if split not in splits:
            splits.append(split)
            table.rows[split].append({key: row.get(key) for key in {**row, **dict.fromkeys(known)}})
        elif name not in table.repeated[split]:
            table.repeated[split].append(name)
    index = keys.index("name")
    table.shared = {key[index]: splits for key, splits in seen.items() if len(splits) > 1}
    return table


def clip_id(facts: DatasetFacts, row: dict[str, str]) -> str:
    """Id of a clip within its dataset."""
    return expand(facts.clip_id, row)


def _used_in_paths(facts: DatasetFacts) -> set[str]:
    """Columns whose values become file or folder names."""
    templates = [facts.clip_id, facts.wav, facts.log_mel, facts.video, facts.flow]
    templates += [*facts.frame_files, *facts.mask_files, *facts.pre_mask_clips]
    for images in facts.image_sets:
        templates += [images.frames, *images.masks.values()]
    return {"name"} | set().union(*map(placeholders, templates)) - {"split"}
