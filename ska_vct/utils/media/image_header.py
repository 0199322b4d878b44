"""What a PNG or JPEG file says of itself, read from its bytes before anything is decoded.

The formats are those of the PNG Specification (W3C, third edition) and of JPEG (ITU-T T.81); orientation is tag
274 of EXIF 2.3. No other format is recognised, so no other decoder is ever reached.
"""

import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ska_vct.utils.media.errors import ImageError

# 8K video has 33 million pixels per frame.
MAX_PIXELS = 64_000_000
# Deflate codes at most 1032 bytes in one.
_MAX_DEFLATE = 1032
# Huffman-coded JPEG spends at least 2 bits on a block of 64 pixels; progressive JPEG can spend less.
_MAX_JPEG_PIXELS_PER_BYTE = 4096
_PNG = b"\x89PNG\r\n\x1a\n"
# Colour type -> its depths and samples per pixel.
_PNG_KINDS = {0: ((1, 2, 4, 8, 16), 1), 2: ((8, 16), 3), 3: ((1, 2, 4, 8), 1), 4: ((8, 16), 2), 6: ((8, 16), 4)}
# Start, step of the columns and of the rows of Adam7's passes.
_ADAM7 = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = re.compile(rb"\xff\xda")
_ORIENTATION = 274
_MAX_PROFILE = 1 << 16


class HeaderError(ImageError):
    """A file is not a whole PNG or JPEG file; the message says why, as part of a sentence."""


@dataclass(frozen=True)
class ImageHeader:
    """Facts of an image file.

    Attributes:
        format: ``PNG`` or ``JPEG``.
        size: stored height and width, before orientation.
        orientation: EXIF's, 1 to 8; 1 where the file says nothing.
        depth, color: PNG's bit depth and colour type; 8 and 2 for JPEG.
        palette: PNG's palette, RGB triples; empty without one.
        alpha: PNG's tRNS chunk; empty without one.
        end: JPEG: offset of the end mark, None where it is missing.
        progressive: JPEG: sent in several scans.
    """

    format: str
    size: tuple[int, int]
    orientation: int = 1
    depth: int = 8
    color: int = 2
    palette: bytes = b""
    alpha: bytes = b""
    end: int | None = None
    progressive: bool = False

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width as the image is shown."""
        return self.size if self.orientation < 5 else self.size[::-1]


def read_header(data: bytes | mmap.mmap, *, whole: bool = False) -> ImageHeader:
    """Parse and check a file's header and structure.

    Args:
        data: the file's bytes, or the mapped file, of which few pages are touched.
        whole: also check PNG's checksums and that its data unpack to exactly the promised size.

    Raises:
        HeaderError: another format, damaged, cut off, or of an impossible size.
    """
    if data[:8] == _PNG:
        return _png(data, whole)
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    raise HeaderError("is neither PNG nor JPEG, and other formats are not opened")


def _png(data: bytes | mmap.mmap, whole: bool) -> ImageHeader:
    chunks = list(_png_chunks(data, whole))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise HeaderError("is damaged: it does not begin with an image header")
    width, height, depth, color, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    if color not in _PNG_KINDS or depth not in _PNG_KINDS[color][0] or compression or filtering or interlace > 1:
        raise HeaderError("is damaged: its header names a colour type or compression that PNG does not have")
    names = [name for name, _ in chunks]
    if names[-1] != b"IEND":
        raise HeaderError("is cut off: its end mark is missing")
    if b"acTL" in names:
        raise HeaderError("is animated; store one image per file")
    stored = [body for name, body in chunks if name == b"IDAT"]
    if not stored:
        raise HeaderError("is damaged: it holds no image data")
    bits = depth * _PNG_KINDS[color][1]
    promised = _png_bytes(width, height, bits, interlace)
    _check_size(height, width, fits=promised <= _MAX_DEFLATE * sum(map(len, stored)))
    if whole and _unpacked(stored, promised) != promised:
        raise HeaderError("is damaged: it holds less image data than its header promises")
    first = {name: body for name, body in reversed(chunks)}
    palette = bytes(first.get(b"PLTE", b""))
    if len(palette) % 3 or len(palette) > 768 or (color == 3 and not palette):
        raise HeaderError("is damaged: its palette is missing or incomplete")
    return ImageHeader(
        format="PNG", size=(height, width), orientation=_png_orientation(chunks), depth=depth, color=color,
        palette=palette, alpha=bytes(first.get(b"tRNS", b"")),
    )  # fmt: skip


def _png_chunks(data: bytes | mmap.mmap, whole: bool) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(_PNG)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise HeaderError("is cut off or damaged: a part of it is shorter than it says")
        body = view[at + 8 : at + 8 + length]
        if whole and zlib.crc32(body, zlib.crc32(name)) != struct.unpack_from(">I", data, at + 8 + length)[0]:
            raise HeaderError("is damaged: a checksum does not match")
        yield name, body
        at += 12 + length
        if name == b"IEND":
            return  # some programs write behind it


def _png_bytes(width: int, height: int, bits: int, interlace: int) -> int:
    """Bytes that the image data unpack to: one filter byte and the packed pixels of each row."""
    if not interlace:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, across, top, down in _ADAM7:
        columns, rows = max(0, -(-(width - left) // across)), max(0, -(-(height - top) // down))
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total


def _unpacked(stored: list, limit: int) -> int:
    """Number of bytes that the data unpack to, at most one more than ``limit``."""
    unpacker, count = zlib.decompressobj(), 0
    try:
        for part in stored:
            rest = bytes(part)
            while rest and count <= limit and not unpacker.eof:
                count += len(unpacker.decompress(rest, min(1 << 20, limit + 1 - count)))
                rest = unpacker.unconsumed_tail
        while count <= limit and not unpacker.eof:
            more = unpacker.decompress(unpacker.unconsumed_tail, min(1 << 20, limit + 1 - count))
            if not more:
                break
            count += len(more)
    except zlib.error:
        raise HeaderError("is damaged: its image data cannot be unpacked") from None
    return count


def _png_orientation(chunks: list) -> int:
    for name, body in chunks:
        if name == b"eXIf":
            return _exif_orientation(bytes(body))
        key, _, text = bytes(body[:_MAX_PROFILE]).partition(b"\0")
        if name in (b"tEXt", b"zTXt") and key.lower() in (b"raw profile type exif", b"raw profile type app1"):
            return _exif_orientation(_raw_profile(name, text))
    return 1


def _raw_profile(name: bytes, text: bytes) -> bytes:
    """EXIF as ImageMagick writes it: lines of a title and a length, then hexadecimal digits."""
    try:
        if name == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_PROFILE)
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:])).removeprefix(b"Exif\0\0")
    except (zlib.error, ValueError):
        raise HeaderError("has EXIF data that cannot be read, so its orientation is not known") from None


def _jpeg(data: bytes | mmap.mmap) -> ImageHeader:
    at, size, orientation, kind = 2, None, 1, 0
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1  # fill bytes
        if at + 4 > len(data) or data[at] != 0xFF:
            raise HeaderError("is cut off or damaged: its header is not whole")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker == 0xD9 or length < 2 or len(body) != length - 2:
            raise HeaderError("is cut off or damaged: its header is not whole")
        if marker in _JPEG_FRAMES:
            if len(body) < 6 or size:
                raise HeaderError("is damaged: its frame header is not one")
            size, kind = struct.unpack_from(">HH", body, 1), marker
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(body[6:])
        at += 2 + length
        if marker == 0xDA:
            break
    if size is None:
        raise HeaderError("is damaged: it has no frame header")
    _check_size(*size, fits=size[0] * size[1] <= _MAX_JPEG_PIXELS_PER_BYTE * (len(data) - at) + 65536)
    end = data.rfind(b"\xff\xd9", at)
    return ImageHeader(
        format="JPEG", size=size, orientation=orientation, end=end if end >= 0 else None,
        progressive=kind not in (0xC0, 0xC1),
    )  # fmt: skip


def without_extras(data: bytes) -> bytes:
    """A PNG's pixels and palette alone, without the profiles and texts that decoders parse as well."""
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[at : at + 12 + length])
        at += 12 + length
        if name == b"IEND":
            break
    return b"".join(kept)


def lacks_scans(data: bytes) -> bool:
    """Whether a progressive JPEG ends before every coefficient has been sent to its last bit."""
    left: dict[int, set[int]] = {}
    for match in _JPEG_SCAN.finditer(data):
        body = data[match.end() + 2 : match.end() + 2 + 260]
        count = body[0] if body else 0
        if len(body) < 2 * count + 4:
            return True
        first, last, bits = body[2 * count + 1], min(63, body[2 * count + 2]), body[2 * count + 3] & 15
        for component in body[1 : 2 * count + 1 : 2]:
            missing = left.setdefault(component, set(range(64)))
            if not bits:
                missing.difference_update(range(first, last + 1))
    return not left or any(left.values())


def _check_size(height: int, width: int, *, fits: bool) -> None:
    if not height or not width:
        raise HeaderError(f"is damaged: its header says {height} x {width} pixels")
    if height * width > MAX_PIXELS:
        raise HeaderError(
            f"has {height} x {width} pixels, more than the {MAX_PIXELS // 1_000_000} million allowed"
        )
    if not fits:
        raise HeaderError(f"is damaged: its header promises {height} x {width} pixels, for which it is too short")


def _exif_orientation(exif: bytes) -> int:
    """The orientation in a TIFF structure; 1 where there is none, or 0, which cameras write for "unknown"."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None or struct.unpack_from(f"{order}H", exif, 2)[0] != 42:
            raise HeaderError("has EXIF data that cannot be read, so its orientation is not known")
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(count):
            tag, kind, number = struct.unpack_from(f"{order}HHI", exif, at + 2 + 12 * entry)
            if tag != _ORIENTATION:
                continue
            if kind not in (3, 4) or number != 1:
                raise HeaderError("has an EXIF orientation of an unknown type")
            form = "H" if kind == 3 else "I"
            (value,) = struct.unpack_from(f"{order}{form}", exif, at + 10 + 12 * entry)
            if value > 8:
                raise HeaderError(f"has EXIF orientation {value}, which does not exist")
            return value or 1
    except struct.error:
        raise HeaderError("has EXIF data that are cut off, so its orientation is not known") from None
    return 1
