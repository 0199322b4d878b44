"""Lists the clips of a dataset without a table from the folders and files that match its templates."""

import re

from ska_vct.data.avsbench.csv_table import check_name
from ska_vct.data.avsbench.folders import DatasetError, FolderIndex
from ska_vct.data.avsbench.tables import Table
from ska_vct.data.facts import SPLITS, DatasetFacts, expand, placeholders


def scan_rows(facts: DatasetFacts, base: str) -> Table:
    """List the clips of a dataset from its frame folders or its videos.

    The template must contain the split and the clip; values of further placeholders in folders, such as
    ``{category}``, are taken from the folder names.

    Raises:
        DatasetError: the template lacks one of them, or a name is invalid.
    """
    template = facts.original.frames if facts.frame_files else facts.video
    if not {"split", "name"} <= placeholders(template):
        raise DatasetError(
            f"{facts.title} has no table of clips, so '{template}' must contain {{split}} and {{clip}}; add "
            "them, or provide a table."
        )
    index, table = FolderIndex(), Table(base)
    parts = template.split("/")
    last = max(number for number, part in enumerate(parts) if "{name}" in part)
    for split in SPLITS:
        found: list[tuple[str, dict[str, str]]] = [("" if template.startswith("/") else base, {"split": split})]
        for part in parts[: last + 1]:
            found = [pair for folder, row in found for pair in _step(index, folder, part, row)]
        for folder, row in found:
            check_name(row["name"], what="clip", where=f"Folder {folder.rpartition('/')[0]}")
            table.rows[split].append({key: row.get(key) for key in {**row, "category": None, "label": None}})
    return table


def _step(index: FolderIndex, folder: str, part: str, row: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Match one part of the template; returns paths and rows extended by the values of its placeholders."""
    if not part:
        return [(folder, row)]
    unknown = placeholders(part) - set(row)
    if not unknown:
        return [(index.folder(folder, expand(part, row)), row)]
    pattern = re.compile(
        re.sub(
            r"\\\{([a-z_]+)\\\}",
            lambda match: re.escape(row[match[1]]) if match[1] in row else f"(?P<{match[1]}>.+)",
            re.escape(part),
        )
    )
    matches = ((name, pattern.fullmatch(name)) for name in sorted(index.names(folder)))
    return [(f"{folder}/{name}", row | match.groupdict()) for name, match in matches if match]
