"""Images mean what they show: orientation, encodings of masks, whole data, named formats only."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from ska_vct.data.images.io import (
    ImageError,
    check_image,
    probe_image,
    read_binary_mask,
    read_image,
    read_label_map,
)
from ska_vct.evaluation.prediction_files import load_prediction


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples: np.ndarray, depth: int, *, color: int = 0, extra: bytes = b"", interlace: int = 0) -> bytes:
    """A PNG of packed samples, written by hand: the oracle for what Pillow does with unusual depths."""
    height, width = samples.shape
    bits = (samples[..., None] >> np.arange(depth)[::-1]) & 1
    rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_every_orientation_is_honoured_by_every_reader(tmp_path, orientation, ending):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 2, (6, 9), dtype=np.uint8) * 255)
    image = small.resize((72, 48), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"x.{ending}"
    image.convert("RGB").save(path, exif=exif, quality=95)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))  # Pillow's own, as the oracle
    found = read_image(path)
    assert found.shape == expected.shape and np.abs(found.astype(int) - expected).max() <= 4
    assert probe_image(path) == check_image(path) == expected.shape[:2]
    if ending == "png":
        image.save(path, exif=exif)
        assert np.array_equal(read_binary_mask(path) * 255, expected[..., 0])
        image.point(lambda value: value // 255).save(path, exif=exif)
        assert np.array_equal(read_label_map(path, 2), expected[..., 0] // 255)


def test_orientations_that_cannot_be_told_are_refused(tmp_path):
    path, pixels = tmp_path / "x.png", np.zeros((4, 6), int)
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0%c\0\0\0\0\0\0"
    path.write_bytes(png(pixels, 8, extra=chunk(b"eXIf", exif % 0)))
    assert read_image(path).shape == (4, 6, 3)  # cameras write 0 for "unknown"
    for body, message in (
        (exif % 9, "EXIF orientation 9"),
        (b"nothing", "cannot be read"),
        (exif[:12], "cut off"),
    ):
        path.write_bytes(png(pixels, 8, extra=chunk(b"eXIf", body)))
        with pytest.raises(ImageError, match=rf"x\.png cannot be read: it has .*{message}"):
            read_image(path)
    # ImageMagick used to write EXIF as hexadecimal text.
    text = b"Raw profile type exif\0\nexif\n      32\n" + (b"Exif\0\0" + exif % 6).hex().encode()
    path.write_bytes(png(pixels, 8, extra=chunk(b"tEXt", text)))
    assert read_image(path).shape == (6, 4, 3) and read_binary_mask(path).shape == (6, 4)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("foreground", [1, "largest"])
def test_grey_of_any_depth_is_the_same_mask(tmp_path, depth, foreground):
    inside = np.random.default_rng(0).integers(0, 2, (7, 13))
    value = 1 if foreground == 1 else (1 << depth) - 1
    path = tmp_path / "a" / "a_1.png"
    path.parent.mkdir()
    path.write_bytes(png(inside * value, depth))
    assert np.array_equal(read_binary_mask(path), inside)
    assert np.array_equal(load_prediction(tmp_path, "a", [0], binary=True)[0], inside)
    if value < 71:
        assert np.array_equal(read_label_map(path, 71), inside * value)


def test_label_maps_of_few_bits_keep_their_indices(tmp_path):
    labels = np.arange(16).reshape(4, 4)
    (tmp_path / "x.png").write_bytes(png(labels, 4))
    assert np.array_equal(read_label_map(tmp_path / "x.png", 71), labels)
    palette = chunk(b"PLTE", bytes(range(48)))
    (tmp_path / "x.png").write_bytes(png(labels, 4, color=3, extra=palette))
    assert np.array_equal(read_label_map(tmp_path / "x.png", 71), labels)


def test_other_encodings_of_one_mask(tmp_path):
    inside = np.random.default_rng(0).integers(0, 2, (7, 13)).astype(bool)
    grey, path = Image.fromarray(inside.astype(np.uint8) * 255), tmp_path / "x.png"
    opaque = Image.new("L", grey.size, 255)
    for image in (grey.convert("RGB"), Image.merge("LA", (grey, opaque)), grey.convert("RGBA"), grey.convert("1")):
        image.save(path)
        assert np.array_equal(read_binary_mask(path), inside), image.mode
    palette = Image.fromarray(inside.astype(np.uint8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(path)
    assert np.array_equal(read_binary_mask(path), inside)


def test_ambiguous_masks_are_refused(tmp_path):
    inside = np.random.default_rng(0).integers(0, 2, (7, 13)).astype(np.uint8)
    grey, path = Image.fromarray(inside * 255), tmp_path / "x.png"
    inverted = Image.fromarray(inside)
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    colour = np.zeros((7, 13, 3), np.uint8)
    colour[..., 2] = inside * 255
    for image, options, message in (
        (Image.merge("LA", (grey, grey)), {}, "partly transparent"),
        (grey, {"transparency": 0}, "partly transparent"),
        (inverted, {}, "white is index 0 and black is index 1"),
        (Image.fromarray(colour), {}, "colour image"),
    ):
        image.save(path, **options)
        with pytest.raises(ImageError, match=rf"x\.png .*{message}"):
            read_binary_mask(path)
    path.write_bytes(png(np.full((4, 12), 258), 48, color=2).replace(b"\x30\x02", b"\x10\x02", 1))
    with pytest.raises(ImageError, match="colours of 16 bits|checksum"):
        read_binary_mask(path)
    grey.save(path, format="JPEG")
    with pytest.raises(ImageError, match="is a JPEG file, which does not keep exact values"):
        read_binary_mask(path)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "BMP", "EPS", "WEBP", "PPM"])
def test_other_formats_are_not_opened_whatever_the_name(tmp_path, format, monkeypatch):
    path = tmp_path / "mask.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, format=format)
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: pytest.fail("Pillow was asked"))
    monkeypatch.setattr(cv2, "imdecode", lambda *args, **kwargs: pytest.fail("OpenCV was asked"))
    for read in (read_image, read_binary_mask, probe_image, check_image):
        with pytest.raises(ImageError, match=r"mask\.png cannot be read: it is neither PNG nor JPEG"):
            read(path)


def jpeg(**options) -> bytes:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), (0, 0), 3)
    Image.fromarray(smooth).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_a_jpeg_that_lacks_data_is_damaged_whatever_it_ends_with(tmp_path, options):
    path, data = tmp_path / "x.jpg", jpeg(**options)
    for whole in (data, data + b"behind the end", data[:-2]):  # some programs leave the end mark out
        path.write_bytes(whole)
        assert check_image(path) == read_image(path).shape[:2] == probe_image(path) == (64, 96)
    start = data.find(b"\xff\xda")
    for share in (0.2, 0.5, 0.8):
        path.write_bytes(data[: start + 14 + int(share * (len(data) - start - 16))] + b"\xff\xd9")
        for read in (check_image, read_image):
            with pytest.raises(ImageError, match=r"x\.jpg .*is damaged"):
                read(path)


def test_no_jpeg_reaches_pillow(tmp_path, monkeypatch):
    """Its decoder wrote behind its buffer until version 13 (CVE-2026-112403)."""
    path = tmp_path / "x.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(noise).save(path, progressive=True)
    monkeypatch.setattr("PIL.Image.open", lambda *args, **kwargs: pytest.fail("opened"))
    assert check_image(path) == probe_image(path) == read_image(path).shape[:2] == (16, 24)


def test_damage_of_a_png_is_found(tmp_path):
    path, data = tmp_path / "x.png", png(np.arange(48).reshape(6, 8), 8)
    path.write_bytes(data + b"behind the end")
    assert read_label_map(path, 48).max() == 47
    short = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 60, 8, 0, 0, 0, 0))
    for damaged in (data[:-12], data[:60], data[:8] + short + data[33:]):
        path.write_bytes(damaged)
        for read in (read_image, check_image, read_binary_mask):
            with pytest.raises(ImageError, match=r"x\.png .*(cut off|damaged)"):
                read(path)
    path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    with pytest.raises(ImageError, match="a checksum does not match"):
        read_label_map(path, 48)


@pytest.mark.parametrize("size", [(65535, 65535), (2147483647, 1), (20000, 3000), (0, 4)])
def test_sizes_are_checked_before_anything_is_decoded(tmp_path, size, monkeypatch):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    small = png(np.zeros((4, 4), int), 8)
    (tmp_path / "x.png").write_bytes(small[:8] + head + small[33:])
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: pytest.fail("Pillow was asked"))
    monkeypatch.setattr(cv2, "imdecode", lambda *args, **kwargs: pytest.fail("OpenCV was asked"))
    for read in (read_image, read_binary_mask, probe_image):
        with pytest.raises(ImageError, match=rf"{size[1]} x {size[0]} pixels"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 7), (8, 8), (33, 17)])
def test_interlaced_images_promise_what_they_hold(tmp_path, size):
    """OpenCV writes Adam7 with no option of Pillow's; the sum of the passes is checked on real files."""
    from ska_vct.utils.media.image_header import _png_bytes

    mask = np.random.default_rng(0).integers(0, 2, size).astype(np.uint8)
    raw = b""
    for left, across, top, down in ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4),
                                    (1, 2, 0, 2), (0, 1, 1, 2)):  # fmt: skip
        part = mask[top::down, left::across]
        raw += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    assert _png_bytes(size[1], size[0], 8, 1) == len(raw)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, 0, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(data)
    assert np.array_equal(read_binary_mask(tmp_path / "x.png"), mask)
