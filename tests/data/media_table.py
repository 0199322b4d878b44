#!/usr/bin/env python
"""Make every odd medium that we know, read it, and say what happened, as a table for docs/media.md.

python tests/data/media_table.py --write     # renews the table; a test compares it
"""

import argparse
import io
import pickle
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import soundfile
import torch
from PIL import Image

from ska_vct.data.audio.files import load_audio, probe_audio
from ska_vct.data.flow.store import FlowRecord, read_flow, write_flow
from ska_vct.data.images.io import check_image, read_binary_mask, read_image, read_label_map
from ska_vct.data.images.video_frames import read_video_frame
from ska_vct.evaluation.coco_files import load_coco
from ska_vct.utils.errors import SkaVctError
from tests.data.test_media_time import clicks_in, record_of, samples_from, write_clip

PAGE = Path(__file__).resolve().parents[2] / "docs" / "media.md"
BEGIN, END = "<!-- table: python tests/data/media_table.py --write -->\n", "<!-- end of the table -->\n"
RNG = np.random.default_rng(0)
INSIDE = RNG.integers(0, 2, (24, 32)).astype(bool)
GREY = Image.fromarray(INSIDE.astype(np.uint8) * 255)
PHOTO = Image.fromarray(np.kron(RNG.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8))
TURNED = Image.Exif()
TURNED[274] = 6
META = {
    "method": "dis", "weights": "", "fps": 10.0, "time_step": 0.1, "height": 96, "width": 128, "clip_id": "test/x",
    "source": "video",
}  # fmt: skip


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def frame(path: Path) -> str:
    image = read_image(path)
    return f"read, {image.shape[0]} x {image.shape[1]}"


def mask(path: Path) -> str:
    found = read_binary_mask(path)
    same = np.array_equal(found, INSIDE) or np.array_equal(found, np.rot90(INSIDE, -1))
    return f"read, {found.shape[0]} x {found.shape[1]}, the same mask" if same else "read as another mask"


def clicks(record: dict) -> str:
    found = clicks_in(load_audio(record, 4).seconds.reshape(-1, 64))
    return f"read, clicks of 1.25, 2.50, 3.25 s at {', '.join(f'{time:.2f}' for time in found)} s"


def palette(colors: list[int]) -> Image.Image:
    image = Image.fromarray(INSIDE.astype(np.uint8))
    image.putpalette(colors)
    return image


def half_jpeg(path: Path) -> Path:
    saved(PHOTO, path, quality=95)
    data = path.read_bytes()
    start = data.find(b"\xff\xda")
    path.write_bytes(data[: (start + len(data)) // 2] + b"\xff\xd9")
    return path


def wav(path: Path, *, scale: float = 1.0, rate: int = 16000, subtype: str = "PCM_16") -> Path:
    samples = samples_from(0.0, 16000)[0] / 32768 * scale
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def wav_with_size(path: Path, size: int, keep: float = 1.0) -> dict:
    data = wav(path).read_bytes()
    at = data.index(b"data") + 4
    data = data[:at] + (size or len(data) - at - 4).to_bytes(4, "little") + data[at + 4 :]
    path.write_bytes(data[: int(len(data) * keep)])
    return record_of(wav_path=str(path))


def turned_video(path: Path) -> Path:
    write_clip(path, "mov-aac")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def left_of_turned(path: Path) -> str:
    image = read_video_frame(turned_video(path), 1.5)
    # The band of brightness that lies on top of the stored frame is on the right of the shown one.
    return "read, turned as the matrix says" if image[:, -6:-2].std() < 10 < image[:6].std() else "read as stored"


def log_mel(path: Path, value: object, write: Callable | None = None) -> str:
    if write is None:
        path.write_bytes(pickle.dumps(value))
    else:
        with path.open("wb") as file:
            write(value, file)
    kind = "npy" if path.suffix == ".npy" else "pickle"
    found = load_audio(record_of(log_mel_paths={"pickle": None, "npy": None, kind: str(path)}), 2).log_mel
    return f"read, {len(found)} seconds of {found.dtype}"


def flow(path: Path, largest: float, **meta) -> str:
    from unittest import mock

    record = FlowRecord(flow=np.full((2, 1, 2, 4, 4), largest, np.float16), meta={**META, **meta})
    with mock.patch("ska_vct.data.flow.store._check_flow"), mock.patch("ska_vct.data.flow.store._check_meta"):
        write_flow(path, record)
    return f"read, {len(read_flow(path).flow)} frames"


def published(folder: Path, values: np.ndarray) -> str:
    folder.mkdir()
    np.save(folder / "flow_0000.npy", values.astype(np.float32))
    return f"read, {len(read_flow(folder.with_suffix('.npz')).flow)} frames"


def coco(path: Path, region: object, category: int = 1) -> str:
    import json

    images = [{"id": 1, "file_name": "a/a_1.png", "height": 4, "width": 4}]
    annotations = [{"image_id": 1, "category_id": category, "segmentation": region}]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return f"read, {load_coco(path, binary=True).load('a', [0]).sum()} pixels"


def video(path: Path, form: str, **options) -> str:
    return clicks(record_of(video_path=write_clip(path, form, **options)))


def eps_as_png(path: Path) -> Path:
    saved(GREY, path, format="EPS")
    return path


MEL = RNG.uniform(-4, 3, (2, 1, 96, 64)).astype(np.float32)
RUNS = {"size": [4, 4], "counts": [5, 6, 5]}
CASES: dict[str, dict[str, Callable[[Path], str]]] = {
    "Orientation": {
        "frame, JPEG with EXIF orientation 6": lambda d: frame(saved(PHOTO, d / "x.jpg", exif=TURNED)),
        "frame, PNG with EXIF orientation 6": lambda d: frame(saved(PHOTO, d / "x.png", exif=TURNED)),
        "mask, PNG with EXIF orientation 6": lambda d: mask(saved(GREY, d / "x.png", exif=TURNED)),
        "video with a quarter turn in its display matrix": lambda d: left_of_turned(d / "x.mov"),
    },
    "Time": {
        "wav": lambda d: clicks(record_of(wav_path=str(wav(d / "x.wav")))),
        "mp4, AAC": lambda d: video(d / "x.mp4", "mp4-aac"),
        "mp4, audio begins 0.9 s after the first frame": lambda d: video(d / "x.mp4", "mp4-aac", audio_start=0.9),
        "mkv, audio begins 0.4 s before the first frame": lambda d: video(
            d / "x.mkv", "mkv-opus", zero=3.0, audio_start=-0.4
        ),
        "mpegts, first frame at 3 s": lambda d: video(d / "x.ts", "ts-aac", zero=3.0),
        "avi, MP3 (AVI cannot say that the encoder adds 25 ms)": lambda d: video(d / "x.avi", "avi-mp3"),
    },
    "Meaning": {
        "mask, grey 0 / 255": lambda d: mask(saved(GREY, d / "x.png")),
        "mask, 1 bit": lambda d: mask(saved(GREY.convert("1"), d / "x.png")),
        "mask, grey 0 / 1": lambda d: mask(saved(GREY.point(lambda v: v // 255), d / "x.png")),
        "mask, 16 bit 0 / 65535": lambda d: mask(
            saved(Image.fromarray(INSIDE.astype(np.uint16) * 65535), d / "x.png")
        ),
        "mask, palette black and white": lambda d: mask(saved(palette([0, 0, 0, 255, 255, 255]), d / "x.png")),
        "mask, palette white and black": lambda d: mask(saved(palette([255, 255, 255, 0, 0, 0]), d / "x.png")),
        "mask, RGB of equal channels": lambda d: mask(saved(GREY.convert("RGB"), d / "x.png")),
        "mask, opaque alpha": lambda d: mask(saved(GREY.convert("LA"), d / "x.png")),
        "mask, transparent where it is black": lambda d: mask(saved(Image.merge("LA", (GREY, GREY)), d / "x.png")),
        "mask, JPEG": lambda d: mask(saved(GREY, d / "x.png", format="JPEG")),
        "label map with class 71 of 71": lambda d: str(
            read_label_map(saved(Image.fromarray(np.full((4, 4), 71, np.uint8)), d / "x.png"), 71)
        ),
        "COCO, uncompressed run lengths": lambda d: coco(d / "p.json", RUNS),
        "COCO, polygon": lambda d: coco(d / "p.json", [[0, 0, 3, 0, 3, 3, 0, 3]]),
        "COCO, run lengths of another size": lambda d: coco(d / "p.json", {**RUNS, "size": [2, 8]}),
        "COCO, category 7 in a binary dataset": lambda d: coco(d / "p.json", RUNS, category=7),
    },
    "Wholeness": {
        "frame, JPEG with half its data and an end mark": lambda d: frame(half_jpeg(d / "x.jpg")),
        "frame, JPEG without an end mark": lambda d: (
            (d / "x.jpg").write_bytes(saved(PHOTO, d / "y.jpg").read_bytes()[:-2]),
            check_image(d / "x.jpg"),
            frame(d / "x.jpg"),
        )[-1],
        "wav of unknown length (0xFFFFFFFF), as pipes write it": lambda d: clicks(
            wav_with_size(d / "x.wav", 0xFFFFFFFF)
        ),
        "wav, cut in half": lambda d: str(probe_audio(wav_with_size(d / "x.wav", 0, keep=0.5))),
    },
    "Formats and sizes": {
        "PostScript named mask.png": lambda d: mask(eps_as_png(d / "mask.png")),
        "GIF named mask.png": lambda d: mask(saved(GREY, d / "mask.png", format="GIF")),
        "PNG whose header says 65535 x 65535": lambda d: (
            (d / "x.png").write_bytes(
                (data := saved(GREY, d / "y.png").read_bytes())[:16] + b"\0\0\xff\xff" * 2 + data[24:]
            ),
            frame(d / "x.png"),
        )[-1],
        "FLAC named x.wav": lambda d: (
            soundfile.write(d / "x.wav", np.zeros(16000), 16000, format="FLAC"),
            clicks(record_of(wav_path=str(d / "x.wav"))),
        )[-1],
        "wav at 1 Hz": lambda d: clicks(record_of(wav_path=str(wav(d / "x.wav", rate=1)))),
        "log-mel pickle that calls a function": lambda d: (
            (d / "x.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR."),
            load_audio(record_of(log_mel_paths={"pickle": str(d / "x.pkl"), "npy": None}), 2),
        )[-1],
    },
    "Values": {
        "log-mel, bfloat16 tensor": lambda d: log_mel(d / "x.pkl", torch.from_numpy(MEL).bfloat16()),
        "log-mel, torch.save before 1.6": lambda d: log_mel(
            d / "x.pkl",
            torch.from_numpy(MEL),
            lambda value, file: torch.save(value, file, _use_new_zipfile_serialization=False),
        ),
        "log-mel, complex tensor": lambda d: log_mel(d / "x.pkl", torch.from_numpy(MEL).to(torch.complex64)),
        "log-mel of 80": lambda d: log_mel(d / "x.npy", MEL + 80, lambda value, file: np.save(file, value)),
        "wav of floats up to 20000": lambda d: clicks(
            record_of(wav_path=str(wav(d / "x.wav", scale=32768, subtype="FLOAT")))
        ),
        "flow of 65504": lambda d: flow(d / "x.npz", 65504),
        "flow whose metadata says an infinite height": lambda d: flow(d / "x.npz", 1, height=float("inf")),
        "published magnitude below zero": lambda d: published(d / "x", np.full((4, 4), -0.5)),
    },
}


def outcome(case: Callable[[Path], str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return case(Path(folder))
        except SkaVctError as error:
            said = str(error).replace(f"{folder}/", "").replace(folder, ".")
            return f"refused: {said.split('; ')[0].rstrip('.')}"


def table() -> str:
    lines = io.StringIO()
    for title, cases in CASES.items():
        lines.write(f"\n**{title}**\n\n| file | what happens |\n|---|---|\n")
        for name, case in cases.items():
            lines.write(f"| {name} | {outcome(case)} |\n")
    return lines.getvalue() + "\n"


def written() -> str:
    """The table on the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="renew docs/media.md instead of printing")
    if parser.parse_args().write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
    else:
        print(table())
