"""Strict readers of NumPy's ``.npy`` and ``.npz``: nothing is evaluated, and no size is taken on trust.

Formats: NumPy Enhancement Proposal 1 and PKWARE's APPNOTE 6.3. ``numpy.load`` evaluates the header as Python and
allocates what it says; here a header must match its file's size to the byte first.
"""

import io
import json
import math
import os
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ska_vct.utils.errors import InputError

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_MAX_DIMS = 8
_MAX_MEMBERS = 64
# An hour of log-mel takes 88 MB, a clip of ten seconds with ten flow fields each 4 MB.
MAX_BYTES = 1 << 30
_HEADER = re.compile(
    r"\{'descr': '(?P<descr>[<>|=]?[a-zA-Z][0-9]+)', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:[0-9]{1,15}(?:, ?[0-9]{1,15})*,?)?)\),? *\} *\n?"
)
_MAX_JSON = 1 << 29


class ArrayFileError(InputError):
    """A file does not hold the arrays it should; the message says why, as part of a sentence."""


def parse_npy(data: bytes, *, kinds: str) -> np.ndarray:
    """An array from the bytes of a ``.npy`` file, read-only.

    Args:
        data: the whole file.
        kinds: NumPy's letters of the kinds of numbers expected, e.g. ``f``; ``U`` for text.

    Raises:
        ArrayFileError: another format, another kind, or a header that does not match the file's size.
    """
    if data[:6] != _MAGIC or len(data) < 10:
        raise ArrayFileError("is not a .npy file")
    wide = data[6] in (2, 3)
    if data[6] not in (1, 2, 3) or (wide and len(data) < 12):
        raise ArrayFileError("has an unknown version of the .npy format")
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    start = (12 if wide else 10) + length
    if length > _MAX_HEADER or start > len(data):
        raise ArrayFileError("is cut off or damaged: its header is not whole")
    match = _HEADER.fullmatch(data[start - length : start].decode("latin-1"))
    if not match:
        raise ArrayFileError("is damaged: its header does not describe an array of numbers")
    descr = match["descr"].replace("=", "<")
    kind, size = descr.lstrip("<>|")[0], int(descr.lstrip("<>|")[1:6] or 0)
    if kind not in kinds or not _exists(kind, size):
        raise ArrayFileError(f"holds numbers of type {match['descr'][:12]}, which are not expected")
    dtype = np.dtype(descr)
    shape = tuple(int(side) for side in match["shape"].replace(" ", "").split(",") if side)
    if len(shape) > _MAX_DIMS:
        raise ArrayFileError(f"has {len(shape)} dimensions")
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ArrayFileError(
            f"holds {len(data) - start} bytes, but its header describes {match['descr']} of shape {shape}"
        )
    if kind == "U":
        points = np.frombuffer(data, np.dtype("u4").newbyteorder(dtype.byteorder), offset=start)
        if points.size and points.max() > sys.maxunicode:
            raise ArrayFileError("is damaged: it holds text with characters that do not exist")
    order: Literal["F", "C"] = "F" if match["fortran"] == "True" else "C"
    array = np.frombuffer(data, dtype, offset=start).reshape(shape, order=order)
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_npy(path: str | os.PathLike, *, kinds: str) -> np.ndarray:
    """An array from a ``.npy`` file; see :func:`parse_npy`.

    Raises:
        ArrayFileError: also where the file cannot be opened.
    """
    return parse_npy(read_bytes(path), kinds=kinds)


def read_npz(path: str | os.PathLike, wanted: Mapping[str, str], *, optional: tuple[str, ...] = ()) -> dict:
    """Arrays from a ``.npz`` file.

    Args:
        wanted: name -> kinds of numbers expected; members beside these are not unpacked.
        optional: those of ``wanted`` that may be missing.

    Raises:
        ArrayFileError: it is not a whole archive of such arrays, or unpacks to more than its size allows.
    """
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            members = {info.filename.removesuffix(".npy"): info for info in infos}
            if len(infos) > _MAX_MEMBERS or len(members) != len(infos):
                raise ArrayFileError("is damaged: its list of arrays is too long or repeats a name")
            missing = [name for name in wanted if name not in members and name not in optional]
            if missing:
                raise ArrayFileError(f"lacks the array {', '.join(missing)}")
            return {
                name: parse_npy(_unpack(archive, members[name]), kinds=kinds)
                for name, kinds in wanted.items()
                if name in members
            }
    except ArrayFileError:
        raise
    # What zipfile raises of damaged archives is not documented, and is more with every version of Python.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, ValueError, KeyError,
            OverflowError, RuntimeError, struct.error, UnicodeError) as error:  # fmt: skip
        raise ArrayFileError(f"is not a whole .npz archive ({one_line(error)})") from None


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ArrayFileError("is damaged, or packed in a way that is not read")
    # Deflate codes at most 1032 bytes in one.
    if info.file_size > min(MAX_BYTES, 1032 * info.compress_size + 64):
        raise ArrayFileError(f"is damaged: '{info.filename[:40]}' says it unpacks to {info.file_size} bytes")
    with archive.open(info) as member:
        data = member.read(info.file_size)
        if len(data) != info.file_size or member.read(1):
            raise ArrayFileError(f"is damaged: '{info.filename[:40]}' does not unpack to the size it says")
    return data


def read_bytes(path: str | os.PathLike, *, limit: int = MAX_BYTES) -> bytes:
    """A file's content.

    Raises:
        ArrayFileError: it cannot be read, is empty, or larger than ``limit``.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise ArrayFileError(f"is larger than {limit >> 20} MiB")
            data = file.read()
    except ArrayFileError:
        raise
    except (OSError, ValueError) as error:
        raise ArrayFileError(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None
    if not data:
        raise ArrayFileError("is empty")
    return data


def parse_json(text: str | bytes) -> Any:
    """JSON of bounded size, without NaN and infinities.

    Raises:
        ArrayFileError: it is not.
    """
    if len(text) > _MAX_JSON:
        raise ArrayFileError("holds more than 512 MiB of JSON")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ArrayFileError:
        raise
    except RecursionError:
        raise ArrayFileError("holds JSON that is nested too deep") from None
    except ValueError as error:
        raise ArrayFileError(f"is not valid JSON ({one_line(error)})") from None


def one_line(error: Exception) -> str:
    """What an exception says, on one line of bounded length."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _refuse_constant(name: str) -> None:
    raise ArrayFileError(f"holds {name}, which is not a number")


def _exists(kind: str, size: int) -> bool:
    sizes = {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,), "U": range(1, 100_000)}
    return size in sizes.get(kind, ())
