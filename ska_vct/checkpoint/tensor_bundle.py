"""Reads TensorFlow's checkpoints (tensor bundles, as in SavedModels) without TensorFlow.

A bundle is ``NAME.index``, a LevelDB table of name -> ``BundleEntryProto``, and raw little-endian tensors in
``NAME.data-00000-of-00001`` (tensorflow/core/util/tensor_bundle, tensorflow/core/lib/io/table_format.txt). Only
this form is read: one uncompressed shard. Everything in the files is treated as untrusted data.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ska_vct.utils.errors import SkaVctError

# The last bytes of a table.
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5  # compression type and checksum behind every block
_MAX_INDEX = 64 << 20
_MAX_RANK = 8
# tensorflow/core/framework/types.proto
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 10: "?", 19: "<f2"}


class BundleError(SkaVctError, ValueError):
    """A tensor bundle is damaged, or in a form that is not read."""


def is_bundle(path: str | os.PathLike) -> bool:
    """Whether a file ends as the index of a tensor bundle does."""
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) < _FOOTER:
            return False
        file.seek(-len(MAGIC), os.SEEK_END)
        return file.read() == MAGIC


def read_bundle(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All numeric tensors of a bundle; texts (the object graph) are left out.

    Args:
        path: of ``NAME.index``; the data file is expected beside it.

    Raises:
        BundleError: a file is damaged or missing, or the bundle is compressed or in several shards.
    """
    path = Path(path)
    data = path.with_suffix(".data-00000-of-00001")
    if not data.is_file():
        raise BundleError(f"its data are missing: put {data.name} beside it")
    if path.stat().st_size > _MAX_INDEX:
        raise BundleError("its index is too large")
    try:
        return dict(_tensors(path.read_bytes(), np.memmap(data, np.uint8, "r")))
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise BundleError(str(error)) from None


def _tensors(index: bytes, data: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for _, handle in _entries(_block(index, _index_handle(index))):
        for key, value in _entries(_block(index, handle)):
            if not key:
                continue  # the header of the bundle
            entry = dict(_fields(value))
            dtype = _DTYPES.get(_number(entry.get(1, 0)))
            if dtype is None:
                continue
            shape = _shape(entry.get(2, b""))
            shard, offset, size = (_number(entry.get(field, 0)) for field in (3, 4, 5))
            if shard or 7 in entry:
                raise BundleError("it is in several parts")
            wanted = math.prod(shape) * np.dtype(dtype).itemsize
            if size != wanted or offset + size > len(data):
                raise BundleError(f"the sizes of '{key.decode(errors='replace')[:80]}' do not fit")
            yield key.decode(errors="replace"), np.array(data[offset : offset + size]).view(dtype).reshape(shape)


def _index_handle(index: bytes) -> bytes:
    if len(index) < _FOOTER or index[-8:] != MAGIC:
        raise BundleError("it does not end as an index does")
    footer = index[-_FOOTER:]
    _, position = _varint(footer, 0)  # the table's own metadata
    _, position = _varint(footer, position)
    return footer[position:]


def _block(index: bytes, handle: bytes) -> bytes:
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    if offset + size + _TRAILER > len(index):
        raise BundleError("a block lies beyond its end")
    if index[offset + size]:
        raise BundleError("it is compressed")
    return index[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key repeats the start of the key before it."""
    if len(block) < 4:
        raise BundleError("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end, position, key = len(block) - 4 * (restarts + 1), 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + own + length > end:
            raise BundleError("an entry lies beyond its block")
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a protocol buffer: numbers, and bytes for everything nested."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value = message[position : position + length]
            position += length
        else:
            raise BundleError("a field has an unknown type")
        if position > len(message):
            raise BundleError("a field lies beyond its message")
        yield tag >> 3, value


def _shape(message: int | bytes) -> tuple[int, ...]:
    if isinstance(message, int):
        raise BundleError("a shape is a number")
    sizes = [_number(dict(_fields(value)).get(1, 0)) for field, value in _fields(message) if field == 2]
    if len(sizes) > _MAX_RANK:
        raise BundleError("a tensor has too many dimensions")
    return tuple(sizes)


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise BundleError("a number is missing")
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise BundleError("a number is too long")
