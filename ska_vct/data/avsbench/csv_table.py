"""Tolerant CSV reader: columns by name, any common separator, header in any line."""

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ska_vct.data.avsbench.folders import DatasetError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
# Leaves room for the suffixes of file names within the 255 bytes that file systems usually allow.
MAX_NAME_BYTES = 100
_SHOWN = 40


@dataclass
class CsvTable:
    """Contents of a CSV file.

    Attributes:
        rows: (line number, column -> value) of every row except blank rows and headers.
        header: column names in the file's order, in lower case; the assumed names if the file has no header.
        notes: kind -> sentence about an irregularity that does not prevent reading.
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
    """Read a CSV file by column name; the order of columns and further columns do not matter.

    Args:
        columns: key of the result -> accepted column names (case and surrounding blanks are ignored).
        optional: keys whose columns may be missing.
        headless: keys of the columns, in order, if the file has no header line; empty: a header is required.
        others: also return the columns that ``columns`` does not list, by their own names.

    Raises:
        DatasetError: the file or a column is missing, or a line is too short; the message names file and line.
    """
    text = _read(path)
    table = CsvTable()
    if text.startswith("\ufeff"):
        text = text[1:]
        table.notes["byte order mark"] = f"Table {path} starts with a byte order mark, which is ignored."
    lines, separator = _split(text, columns, optional, path)
    if separator != ",":
        table.notes["other separator"] = (
            f"Table {path} uses a {SEPARATORS[separator]} as its separator; it is read accordingly."
        )
    cells = [(number, [cell.strip() for cell in line]) for number, line in lines]
    filled = [(number, line) for number, line in cells if any(line)]
    blank = sum(bool(line) for _, line in cells) - len(filled)
    if blank:
        table.notes["blank rows"] = f"Table {path} has {blank} blank rows, which are ignored."
    headers = [number for number, line in filled if _is_header(line, columns, optional)]
    if headers:
        first = dict(filled)[headers[0]]
        table.header = [cell.lower() for cell in first]
        if headers[0] != filled[0][0] or len(headers) > 1:
            shown = ", ".join(map(str, headers[:5]))
            table.notes["header in another line"] = f"The header of table {path} is in line {shown}."
        filled = [(number, line) for number, line in filled if number not in set(headers)]
    elif headless and filled and len(filled[0][1]) >= len(headless) and "split" not in _lower(filled[0][1]):
        table.header = [columns[key][0] for key in headless]
        table.notes["no header line"] = (
            f"Table {path} has no header line; its columns are assumed to be {', '.join(table.header)}."
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
                f"Table {path}, line {number} has {len(line)} cells, but the header has {len(table.header)}; "
                "complete the line."
            )
        table.rows.append((number, {key: line[index] for key, index in at.items()}))
    return table


def read_table(path: str | os.PathLike, columns: Sequence[str], *, optional: Collection[str] = ()) -> list[dict]:
    """Read the rows of a CSV file as dicts; see :func:`read_csv`, which also returns line numbers.

    Raises:
        DatasetError: the file or a column is missing, or a line is too short; the message names file and line.
    """
    names = {column: (column,) for column in columns}
    return [row for _, row in read_csv(path, names, optional=optional).rows]


def check_name(value: str, *, what: str, where: str) -> None:
    """Reject a value that is not the valid name of a single file or folder.

    Args:
        value: cell of a table, or part of a clip's id.
        what: kind of thing that it names, e.g. ``clip``.
        where: file and line, for the message.

    Raises:
        DatasetError: the name is invalid.
    """
    reason = ""
    if not value:
        reason = "is empty"
    elif value in (".", "..") or "/" in value or "\\" in value:
        reason = "leads to another folder"
    elif any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        reason = "contains control characters"
    elif len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        reason = f"has more than {MAX_NAME_BYTES} bytes"
    elif any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        reason = "is not valid Unicode"
    if reason:
        raise DatasetError(
            f"{where} names a {what} {shorten(value)}, which {reason}; it must be the name of one file or folder."
        )


def shorten(value: str) -> str:
    """Quote a value for a message, with control characters escaped and long values truncated."""
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
            f"Table {path} cannot be read ({reason}); unpack the release there, or set DATASETS.ROOT to the "
            "folder that contains it (datasets/README.md shows the tree)."
        ) from None


def _split(text: str, columns, optional, path) -> tuple[list[tuple[int, list[str]]], str]:
    """Split lines into cells, with the first separator that yields a header line, else the most frequent one."""
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
