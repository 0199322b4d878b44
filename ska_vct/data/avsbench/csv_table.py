"""Tables as people leave them: columns by name, any usual separator, headers that stand in odd lines."""

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ska_vct.data.avsbench.folders import DatasetError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
# With what readers and writers append to a name, files stay within the 255 bytes of usual file systems.
MAX_NAME_BYTES = 100
_SHOWN = 40


@dataclass
class CsvTable:
    """What a csv file holds.

    Attributes:
        rows: (line number, column -> value) of every row, without blank ones and headers.
        header: names in the file's order, lower case; those assumed where there is no header.
        notes: kind -> what is unusual about the file, one sentence each; it is read all the same.
    """

    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def read_csv(
    path: str | os.PathLike,
    columns: Mapping[str, Sequence[str]],
    *,
    optional: Collection[str] = (),
    headless: Sequence[str] = (),
    others: bool = False,
) -> CsvTable:
    """Read a csv file by the names of its columns, whatever their order and the columns beside them.

    Args:
        columns: key of the result -> names that the column may have (case and surrounding blanks do not matter).
        optional: keys that a header need not have.
        headless: keys of the columns, in order, of a file without a header line; empty: it must have one.
        others: also give the columns that ``columns`` does not name, by their own names.

    Raises:
        DatasetError: there is no file, no such column, or a line is too short; names file and line.
    """
    text = _read(path)
    table = CsvTable()
    if text.startswith("\ufeff"):
        text = text[1:]
        table.notes["byte order mark"] = f"Table {path} begins with a byte order mark, which is ignored."
    lines, separator = _split(text, columns, optional, path)
    if separator != ",":
        table.notes["other separator"] = (
            f"Table {path} separates its columns with a {SEPARATORS[separator]}; it is read accordingly."
        )
    cells = [(number, [cell.strip() for cell in line]) for number, line in lines]
    filled = [(number, line) for number, line in cells if any(line)]
    blank = sum(bool(line) for _, line in cells) - len(filled)
    if blank:
        table.notes["blank rows"] = f"Table {path} has {blank} rows without any value, which are ignored."
    headers = [number for number, line in filled if _is_header(line, columns, optional)]
    if headers:
        first = dict(filled)[headers[0]]
        table.header = [cell.lower() for cell in first]
        if headers[0] != filled[0][0] or len(headers) > 1:
            shown = ", ".join(map(str, headers[:5]))
            table.notes["header in another line"] = f"Table {path} has its header in line {shown}."
        filled = [(number, line) for number, line in filled if number not in set(headers)]
    elif headless and filled and len(filled[0][1]) >= len(headless) and "split" not in _lower(filled[0][1]):
        table.header = [columns[key][0] for key in headless]
        table.notes["no header line"] = (
            f"Table {path} has no header line; its columns are taken to be {', '.join(table.header)}."
        )
    else:
        raise DatasetError(_no_columns(path, filled, columns, optional))
    at = {key: _index(table.header, names) for key, names in columns.items()}
    at = {key: index for key, index in at.items() if index is not None}
    if others:
        known = set(at.values())
        at |= {name: i for i, name in enumerate(table.header) if name and i not in known and name not in at}
    for number, line in filled:
        if len(line) <= max(at.values()):
            raise DatasetError(
                f"Table {path}, line {number} has {len(line)} cells, its header {len(table.header)}; complete it."
            )
        table.rows.append((number, {key: line[index] for key, index in at.items()}))
    return table


def read_table(path: str | os.PathLike, columns: Sequence[str], *, optional: Collection[str] = ()) -> list[dict]:
    """Rows of a csv file as dicts of the wanted columns; see :func:`read_csv`, which also gives the lines.

    Raises:
        DatasetError: there is no file, no such column, or a line is too short; names file and line.
    """
    names = {column: (column,) for column in columns}
    return [row for _, row in read_csv(path, names, optional=optional).rows]


def check_name(value: str, *, what: str, where: str) -> None:
    """Refuse a value that cannot be the name of one file or folder, or would lead elsewhere.

    Args:
        value: from a table, or a part of a clip's id.
        what: what it names, e.g. ``clip``.
        where: file and line.

    Raises:
        DatasetError: one sentence.
    """
    reason = ""
    if not value:
        reason = "is empty"
    elif value in (".", "..") or "/" in value or "\\" in value:
        reason = "leads to another folder"
    elif any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        reason = "holds control characters"
    elif len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        reason = f"has more than {MAX_NAME_BYTES} bytes"
    elif any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        reason = "is not valid Unicode"
    if reason:
        raise DatasetError(
            f"{where} names a {what} {shorten(value)}, which {reason}; it must be the name of one file or folder."
        )


def shorten(value: str) -> str:
    """A value in quotes for a message: control characters escaped, cut after a few words."""
    text = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
    return (
        "'" + text.encode("unicode_escape", "backslashreplace").decode() + "'"
        if not text.isprintable()
        else f"'{text}'"
    )


def _read(path: str | os.PathLike) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DatasetError(
            f"Table {path} cannot be read ({reason}); unpack the release there, or point DATASETS.ROOT to the "
            "folder that holds it (datasets/README.md has the tree)."
        ) from None


def _split(text: str, columns, optional, path) -> tuple[list[tuple[int, list[str]]], str]:
    """Lines as cells, with the first separator that makes a header of one; else with the comma."""
    for separator in SEPARATORS:
        lines = _cells(text, separator, path)
        if any(_is_header(line, columns, optional) for _, line in lines):
            return lines, separator
    best = max(SEPARATORS, key=lambda separator: text.partition("\n")[0].count(separator))
    return _cells(text, best, path), best


def _cells(text: str, separator: str, path) -> list[tuple[int, list[str]]]:
    try:
        return [
            (number, line)
            for number, line in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator), 1)
        ]
    except csv.Error as error:
        raise DatasetError(f"Table {path} cannot be read ({error}); unpack or write it again.") from None


def _is_header(line: Sequence[str], columns: Mapping[str, Sequence[str]], optional: Collection[str]) -> bool:
    names = _lower(line)
    return all(key in optional or _index(names, accepted) is not None for key, accepted in columns.items())


def _index(names: Sequence[str], accepted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in accepted if name in names), None)


def _lower(line: Sequence[str]) -> list[str]:
    return [cell.strip().lower() for cell in line]


def _no_columns(path, filled, columns: Mapping[str, Sequence[str]], optional: Collection[str]) -> str:
    first = _lower(filled[0][1]) if filled else []
    wanted = {key: names for key, names in columns.items() if key not in optional}
    absent = [" or ".join(names) for names in wanted.values() if _index(first, names) is None]
    return (
        f"Table {path} lacks the column {', '.join(absent)}; its first line has "
        f"{', '.join(map(shorten, first[:8])) or 'nothing'}, expected {', '.join(n[0] for n in wanted.values())}."
    )
