"""Checks of a release beyond single files: its table, its class list, and files that belong to no clip."""

import json
import os
from collections.abc import Iterator

from ska_vct.data.avsbench.layouts import Reader
from ska_vct.data.avsbench.tables import Table
from ska_vct.data.facts import DatasetFacts
from ska_vct.data.images.video_frames import split_fragment
from ska_vct.data.validation.findings import ERROR, NOTE, WARNING, Finding


def check_table(facts: DatasetFacts, table: Table) -> Iterator[Finding]:
    """Clips that are listed more than once, and what is unusual about the file."""
    for split, names in table.repeated.items():
        for name in names:
            text = f"Table {table.path} lists clip '{name}' of split {split} more than once; it is used once."
            yield Finding(level=WARNING, kind="listed twice", text=text, path=table.path, clip_id=name)
    for name, splits in table.shared.items():
        text = (
            f"Table {table.path} lists clip '{name}' in {' and '.join(splits)}; remove it from all but one, or "
            "scores include clips that were trained on."
        )
        yield Finding(level=WARNING, kind="in several splits", text=text, path=table.path, clip_id=name)
    for kind, text in table.notes.items():
        yield Finding(level=NOTE, kind=kind, text=text, path=table.path)
    usual = [name for key in facts.headless for name in facts.columns[key] if name in table.header]
    if [name for name in table.header if name in usual] != usual:
        text = f"Table {table.path} has its columns in the order {', '.join(table.header)}; they are read by name."
        yield Finding(level=NOTE, kind="columns in another order", text=text, path=table.path)


def check_class_list(facts: DatasetFacts, base: str) -> Iterator[Finding]:
    """Whether the release's list of classes agrees with the facts; only AVSS has one (``label2idx.json``)."""
    path = f"{base}/{facts.class_list}"
    if not facts.class_list or not os.path.exists(path):
        return
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        wrong = [name for index, name in enumerate(facts.classes) if found.get(name) != index]
        wrong += sorted(set(found) - set(facts.classes))
    except (OSError, ValueError, AttributeError) as error:
        text = f"Class list {path} cannot be read ({error}); unpack it again."
        yield Finding(level=ERROR, kind="unusable class list", text=text, path=path)
        return
    if wrong:
        text = (
            f"Class list {path} differs from that of {facts.title} in {len(wrong)} names "
            f"({', '.join(map(str, wrong[:3]))}); label maps would be misread."
        )
        yield Finding(level=ERROR, kind="other class list", text=text, path=path)


def check_entries(record: dict, reader: Reader) -> Iterator[Finding]:
    """Entries in a clip's folders of frames and masks that nothing of the clip uses."""
    used: dict[str, set[str]] = {}
    for path in (*record["image_paths"], *record["mask_paths"]):
        # The folder of a video holds the other clips'.
        if path is not None and split_fragment(path)[1] is None:
            folder, _, name = path.rpartition("/")
            used.setdefault(folder, set()).add(name)
    for folder, names in used.items():
        for name in [*reader.index.strays(folder), *sorted(reader.index.names(folder) - names)]:
            text = f"{folder}/{name} does not belong to clip '{record['clip_id']}'; it is ignored."
            yield Finding(
                level=NOTE, kind="stray file", text=text, path=f"{folder}/{name}", clip_id=record["clip_id"]
            )
