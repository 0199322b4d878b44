"""Damage to files: random, of their structure, and by hand; every mutation depends on its generator alone."""

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

BIG = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
WORDS = [b"-1", b"0", b"1e308", b"1e999", b"NaN", b"Infinity", b"true", b"null", b'""', b"99999999999999999999"]
NESTS = [b"[", b"{", b"(", b'{"a":', b"[[" * 500, b"(" * 3000]


def mutate(data: bytes, others: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """A name and a damaged copy."""
    if rng.random() < 0.25 and (structural := _structural(data)) is not None:
        # What was damaged before may have no structure left.
        with contextlib.suppress(ValueError, KeyError, IndexError, struct.error, zipfile.BadZipFile, zlib.error,
                                 NotImplementedError, EOFError, OverflowError, RuntimeError, OSError):  # fmt: skip
            return structural(data, rng)
    name = _RANDOM[rng.integers(len(_RANDOM))]
    return name.__name__.strip("_"), name(data, others, rng)


def _bits(data, others, rng):
    array = np.frombuffer(data, np.uint8).copy()
    for at in rng.integers(0, len(array), rng.integers(1, 5)):
        array[at] ^= 1 << rng.integers(8)
    return array.tobytes()


def _header(data, others, rng):
    array = np.frombuffer(data, np.uint8).copy()
    for at in rng.integers(0, min(len(array), 200), rng.integers(1, 9)):
        array[at] = rng.integers(256)
    return array.tobytes()


def _bytes(data, others, rng):
    array = np.frombuffer(data, np.uint8).copy()
    count = min(len(array), int(rng.integers(1, 200)))
    at = rng.integers(0, len(array) - count + 1)
    array[at : at + count] = rng.integers(0, 256, count)
    return array.tobytes()


def _zeros(data, others, rng):
    at = int(rng.integers(len(data)))
    return data[:at] + bytes(min(len(data) - at, int(rng.integers(1, 64)))) + data[at + 64 :]


def _cut(data, others, rng):
    return data[: int(rng.integers(len(data)))]


def _cut_out(data, others, rng):
    at = int(rng.integers(len(data)))
    return data[:at] + data[at + int(rng.integers(1, 100)) :]


def _insert(data, others, rng):
    at = int(rng.integers(len(data)))
    return data[:at] + rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8).tobytes() + data[at:]


def _repeat(data, others, rng):
    at, count = int(rng.integers(len(data))), int(rng.integers(1, 200))
    return data[: at + count] + data[at:] * int(rng.integers(1, 4))


def _big_int(data, others, rng):
    value, at = BIG[rng.integers(len(BIG))], int(rng.integers(len(data)))
    size, order = int(rng.choice([1, 2, 4, 8])), "<" if rng.random() < 0.5 else ">"
    word = struct.pack(
        f"{order}{ {1: 'B', 2: 'H', 4: 'I', 8: 'Q'}[size] }".replace(" ", ""), value % (1 << 8 * size)
    )
    return data[:at] + word + data[at + size :]


def _word(data, others, rng):
    """Replace a number in text."""
    digits = np.flatnonzero((np.frombuffer(data, np.uint8) >= 48) & (np.frombuffer(data, np.uint8) < 58))
    if not len(digits):
        return _bits(data, others, rng)
    at = int(rng.choice(digits))
    end = at
    while end < len(data) and 48 <= data[end] < 58:
        end += 1
    return data[:at] + WORDS[rng.integers(len(WORDS))] + data[end:]


def _nest(data, others, rng):
    at = int(rng.integers(len(data)))
    return data[:at] + NESTS[rng.integers(len(NESTS))] * int(rng.choice([1, 3, 100, 20_000 // 6])) + data[at:]


def _splice(data, others, rng):
    other = others[rng.integers(len(others))]
    return data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]


_RANDOM = [_bits, _bits, _header, _header, _bytes, _zeros, _cut, _cut_out, _insert, _repeat, _big_int, _big_int,
           _word, _nest, _splice]  # fmt: skip


def _structural(data: bytes) -> Callable | None:
    """What keeps a format's checksums right, so that damage reaches what lies behind them."""
    if data[:4] == b"PK\x03\x04":
        return _zip
    if data[:4] == b"\x89PNG":
        return _png
    if data[:6] == b"\x93NUMPY":
        return _npy
    return None


def _zip(data, rng):
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as target:
        infos = source.infolist()
        chosen = rng.integers(len(infos))
        for index, info in enumerate(infos):
            body = source.read(info)
            if index == chosen and body:
                body = _npy(body, rng)[1] if body[:6] == b"\x93NUMPY" else mutate(body, [body], rng)[1]
            if index != chosen or rng.random() < 0.9:
                stored = zipfile.ZIP_STORED if rng.random() < 0.3 else info.compress_type
                # A fixed date: the same seed makes the same bytes.
                target.writestr(zipfile.ZipInfo(info.filename), body, compress_type=stored)
    return "zip member", result.getvalue()


def _npy(data, rng):
    length = struct.unpack_from("<H", data, 8)[0]
    header, body = data[10 : 10 + length].decode("latin-1").rstrip(), data[10 + length :]
    kind = rng.integers(5)
    if kind == 0:
        shapes = [
            "(1000000000,1,96,64)",
            "(-1,)",
            "()",
            "(0,)",
            "(2,2",
            "(99999999999999999999,)",
            "(1,)*9",
            "(2,)",
        ]
        at = header.index("'shape':")
        header = header[:at] + f"'shape': {shapes[rng.integers(len(shapes))]}, }}"
    elif kind == 1:
        kinds = ["|O", "<c16", "<M8[s]", ">f4", "<f8", "<f2", "<U9999999", "|V4", "<i4", "[('a','<f4')]", "<f4'"]
        at = header.index("'descr':")
        end = header.index(",", at)
        header = f"{header[:at]}'descr': '{kinds[rng.integers(len(kinds))]}'{header[end:]}"
    elif kind == 2:
        header = header.replace("False", str(rng.choice(["True", "None", "1", "__import__('os')"])))
    elif kind == 3 and body:
        special = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 65504, -1, 1e9], np.float32)
        array = np.frombuffer(body, np.uint8).copy()
        word = (special[rng.integers(len(special))]).astype(rng.choice(["<f2", "<f4"])).tobytes()
        at = int(rng.integers(max(1, len(array) // len(word)))) * len(word)
        array[at : at + len(word)] = np.frombuffer(word, np.uint8)[: len(array) - at]
        body = array.tobytes()
    else:
        body = mutate(body, [body], rng)[1] if len(body) else b"1"
    text = header.encode("latin-1")
    return "npy", data[:8] + struct.pack("<H", len(text) % 65536) + text + body


def _png(data, rng):
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + length]])
        at += 12 + length
    kind = rng.integers(4)
    if kind == 0:
        body = bytearray(chunks[0][1])
        body[rng.integers(len(body))] = rng.integers(256)
        chunks[0][1] = bytes(body)
    elif kind == 1:
        size = struct.pack(">II", BIG[rng.integers(len(BIG))] % (1 << 32), BIG[rng.integers(len(BIG))] % (1 << 32))
        chunks[0][1] = size + chunks[0][1][8:]
    elif kind == 2:
        chunk = chunks[rng.integers(len(chunks))]
        chunk[1] = mutate(chunk[1], [chunk[1]], rng)[1] if chunk[1] else b"x"
    else:
        names = [b"eXIf", b"tEXt", b"zTXt", b"PLTE", b"tRNS", b"acTL", b"IDAT", b"iCCP", b"IHDR"]
        body = rng.integers(0, 256, int(rng.integers(0, 60)), np.uint8).tobytes()
        prefix = [b"", b"MM\0*\0\0\0\x08", b"Raw profile type exif\0\n", b"II*\0"][rng.integers(4)]
        chunks.insert(int(rng.integers(1, len(chunks))), [names[rng.integers(len(names))], prefix + body])
    pieces = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    return "PNG chunk", data[:8] + b"".join(pieces)
