"""What can be wrong with a release beyond single files: its table, its class list, what lies between the files."""

import json
import os
from collections.abc import Iterator

from ska_vct.data.avsbench.layouts import Reader
from ska_vct.data.avsbench.subsets import AVSS_CLASSES
from ska_vct.data.avsbench.tables import TABLES, Table
from ska_vct.data.validation.findings import ERROR, NOTE, WARNING, Finding

_BOM = b"\xef\xbb\xbf"


def check_table(subset: str, table: Table) -> Iterator[Finding]:
    """Clips that are listed more than once, and oddities of the file that are read as if it had none."""
    for split, names in table.repeated.items():
        for name in names:
            text = f"Table {table.path} lists clip '{name}' of split {split} more than once; it is used once."
            yield Finding(level=WARNING, kind="listed twice", text=text, path=table.path, clip_id=name)
    for name, splits in table.shared.items():
        text = (
            f"Table {table.path} lists clip '{name}' in {' and '.join(splits)}; take it out of all but one, or "
            "scores are of clips that were trained on."
        )
        yield Finding(level=WARNING, kind="in several splits", text=text, path=table.path, clip_id=name)
    with open(table.path, "rb") as file:
        head = file.readline()
    if head.startswith(_BOM):
        text = f"Table {table.path} begins with a byte order mark; it is read without."
        yield Finding(level=NOTE, kind="byte order mark", text=text, path=table.path)
    columns = [cell.strip().lower() for cell in head.removeprefix(_BOM).decode("utf-8", "replace").split(",")]
    usual = [column for column in TABLES[subset][1] if column in columns]
    if subset != "avss" and [column for column in columns if column in usual] != usual:
        text = f"Table {table.path} has its columns in the order {', '.join(columns)}; they are read by name."
        yield Finding(level=NOTE, kind="columns in another order", text=text, path=table.path)
    if "split" not in columns:
        text = (
            f"Table {table.path} has no header line; its columns are taken to be {', '.join(TABLES[subset][1])}."
        )
        yield Finding(level=NOTE, kind="no header line", text=text, path=table.path)


def check_class_list(subset: str, base: str) -> Iterator[Finding]:
    """Whether ``label2idx.json`` says what the label maps mean to us; only AVSS has one."""
    path = f"{base}/label2idx.json"
    if subset != "avss" or not os.path.exists(path):
        return
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        wrong = [name for index, name in enumerate(AVSS_CLASSES) if found.get(name) != index]
        wrong += sorted(set(found) - set(AVSS_CLASSES))
    except (OSError, ValueError, AttributeError) as error:
        text = f"Class list {path} cannot be read ({error}); unpack it again."
        yield Finding(level=ERROR, kind="unusable class list", text=text, path=path)
        return
    if wrong:
        text = (
            f"Class list {path} differs from AVSS's in {len(wrong)} names ({', '.join(map(str, wrong[:3]))}); "
            "label maps would be misread."
        )
        yield Finding(level=ERROR, kind="other class list", text=text, path=path)


def check_entries(record: dict, reader: Reader) -> Iterator[Finding]:
    """Entries in a clip's folders of frames and masks that nothing of the clip uses."""
    used: dict[str, set[str]] = {}
    for path in (*record["image_paths"], *record["mask_paths"]):
        if path is not None:
            folder, _, name = path.rpartition("/")
            used.setdefault(folder, set()).add(name)
    for folder, names in used.items():
        for name in [*reader.index.strays(folder), *sorted(reader.index.names(folder) - names)]:
            text = f"{folder}/{name} is no file of clip '{record['clip_id']}'; it is ignored."
            yield Finding(
                level=NOTE, kind="stray file", text=text, path=f"{folder}/{name}", clip_id=record["clip_id"]
            )
