"""The csv table of each subset: which clips there are, in which split (spec: data.md)."""

import logging
from dataclasses import dataclass, field

from ska_vct.data.avsbench.folders import DatasetError, read_table
from ska_vct.data.avsbench.subsets import SPLITS

# Table of each subset, its columns, and whether releases without a header line are known.
TABLES = {
    "s4": ("s4_meta_data.csv", ("name", "start time", "category", "split"), True),
    "ms3": ("ms3_meta_data.csv", ("name", "split"), True),
    "avss": ("metadata.csv", ("uid", "a_obj", "split", "label"), False),
}
# The column that only a file without header needs, to know the others' places.
UNUSED_COLUMNS = ("start time",)
# AVSS's folders.
LABELS = ("v1s", "v1m", "v2")

logger = logging.getLogger(__name__)


@dataclass
class Table:
    """A subset's table.

    Attributes:
        path: the file.
        rows: split -> its clips, each once, in the table's order.
        repeated: split -> names that the split lists more than once.
        shared: names in several splits -> those splits.
    """

    path: str
    rows: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    repeated: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    shared: dict[str, list[str]] = field(default_factory=dict)

    def clips(self, split: str) -> list[dict[str, str]]:
        """The clips of ``split``; what the table says twice is said in the log.

        Raises:
            DatasetError: there are none.
        """
        if not self.rows[split]:
            total = sum(map(len, self.rows.values()))
            raise DatasetError(f"Table {self.path} lists no clip of split '{split}' among its {total} clips.")
        for name in self.repeated[split]:
            logger.warning("Table %s lists clip '%s' of split %s twice; it is used once.", self.path, name, split)
        for name, splits in self.shared.items():
            if split in splits:
                logger.warning("Table %s lists clip '%s' in %s.", self.path, name, " and ".join(splits))
        return self.rows[split]


def read_rows(subset: str, base: str) -> Table:
    """Read the table of ``subset`` in its release's folder ``base``.

    Raises:
        DatasetError: no such file, columns or split; names file and clip.
    """
    file, columns, headless = TABLES[subset]
    table = Table(f"{base}/{file}")
    keys = ("label", "uid") if subset == "avss" else ("category", "name")
    places: dict[tuple, list[str]] = {}
    for row in read_table(table.path, columns, optional=UNUSED_COLUMNS, positional=headless):
        name, split = row[keys[1]], row["split"]
        if split not in SPLITS:
            raise DatasetError(
                f"Table {table.path} has a clip '{name}' of split '{split}'; splits are {', '.join(SPLITS)}."
            )
        if not name or name in (".", "..") or "/" in name:
            raise DatasetError(f"Table {table.path} has a clip '{name}', which is no name of a folder.")
        if subset == "avss" and row["label"] not in LABELS:
            raise DatasetError(
                f"Table {table.path} has a clip '{name}' with label '{row['label']}'; labels are "
                f"{', '.join(LABELS)}."
            )
        seen = places.setdefault(tuple(row.get(key) for key in keys), [])
        if split not in seen:
            seen.append(split)
            table.rows[split].append(row)
        elif name not in table.repeated[split]:
            table.repeated[split].append(name)
    table.shared = {key[1]: splits for key, splits in places.items() if len(splits) > 1}
    return table
