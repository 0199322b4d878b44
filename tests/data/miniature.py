"""Miniature releases in both wild states: as released, and as COMBO's and VCT's scripts rebuild them.

Clips come from the synthetic generator; what the scripts do is done again here, with PIL as they do it.
"""

import csv
import pickle
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ska_vct.data.audio.files import samples_to_log_mel
from ska_vct.synth import SynthSettings, generate
from ska_vct.utils.media.audio import read_wav

OBJECT = {"s4": "Single-source", "ms3": "Multi-sources"}
LABEL = {"s4": "v1s", "ms3": "v1m"}
DASHED = "-HeRZsisQLY_10000"


def make_original(root: Path, subset: str, *, train: int = 2, val: int = 1, test: int = 2) -> Path:
    """A synthetic release at 32 px; its first test clip gets a name that begins with a dash."""
    settings = SynthSettings(subset=subset, train=train, val=val, test=test, size=32, flow_size=8, series=2, fps=8)
    generate(root, settings, jobs=1, progress=False)
    shutil.rmtree(root / "synth_truth")
    return root


def table_of(root: Path, subset: str) -> Path:
    if subset == "avss":
        return root / "AVSBench_semantic" / "metadata.csv"
    return root / "AVSBench_object" / OBJECT[subset] / f"{subset}_meta_data.csv"


def rows_of(root: Path, subset: str) -> list[dict]:
    with table_of(root, subset).open(newline="") as file:
        return list(csv.DictReader(file))


def name_of(row: dict) -> str:
    """The clip's name in a row of S4's or MS3's table."""
    return row.get("video_id") or row["name"]


def write_rows(root: Path, subset: str, rows: list[dict], columns: list[str] | None = None) -> None:
    with table_of(root, subset).open("w", newline="") as file:
        table = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def with_dash(root: Path) -> str:
    """Rename MS3's first test clip as AVSBench names its clips; returns the new name."""
    rows = rows_of(root, "ms3")
    row = next(row for row in rows if row["split"] == "test")
    old, row["video_id"] = row["video_id"], DASHED
    write_rows(root, "ms3", rows)
    for path in sorted(root.rglob(f"*{old}*"), key=lambda path: -len(path.parts)):
        if path.suffix == ".npz":
            path.unlink()  # a flow file knows its clip's name
        else:
            path.rename(path.with_name(path.name.replace(old, DASHED)))
    return DASHED


def make_rebuilt(root: Path, subset: str, **counts: int) -> Path:
    """The same after ``preprocess_avss_audio``, ``process_avssimg2fixsize`` and ``generate_data_384``."""
    make_original(root, subset, **counts)
    (_rebuild_avss if subset == "avss" else _rebuild_object)(root, subset)
    return root


def _rebuild_object(root: Path, subset: str) -> None:
    base = root / "AVSBench_object" / OBJECT[subset]
    data, rebuilt = base / f"{subset}_data", base / f"{subset}_data_384"
    frames = data / "visual_frames"
    for path in sorted(frames.rglob("*.png")):
        # VCT's scripts drop MS3's ".mp4" from the names of images.
        inside = path.relative_to(frames).with_name(path.name.replace(".mp4_", "_"))
        _resize(path, rebuilt / "visual_frames_384" / inside, 48, Image.Resampling.BILINEAR)
        segments = rebuilt / "pre_SAM_mask_384" / inside.with_name(f"{inside.stem}_mask_color.png")
        _resize(path, segments, 48, Image.Resampling.NEAREST)
    for path in sorted((data / "gt_masks").rglob("*.png")):
        inside = path.relative_to(data / "gt_masks")
        for side, name in ((48, "gt_masks_384"), (28, "gt_masks_224")):
            _resize(path, rebuilt / name / inside, side, Image.Resampling.NEAREST)
    for path in sorted((data / "audio_wav").rglob("*.wav")):
        _pickle_log_mel(path, data / "audio_log_mel" / path.relative_to(data / "audio_wav").with_suffix(".pkl"), 5)


def _rebuild_avss(root: Path, subset: str) -> None:
    base = root / "AVSBench_semantic"
    for row in rows_of(root, subset):
        clip = base / row["label"] / row["uid"]
        segments = base / "pre_SAM_mask" / "AVSBench_semantic" / row["label"] / row["uid"]
        for path in sorted((clip / "frames").iterdir()):
            _resize(path, clip / "processed_frames" / path.name, 28, Image.Resampling.BILINEAR)
            _resize(path, segments / "frames" / f"{path.stem}_mask_color.png", 32, Image.Resampling.NEAREST)
            if row["split"] != "train":
                _resize(path, clip / "processed_frames_384" / path.name, 48, Image.Resampling.BILINEAR)
        for path in sorted((clip / "labels_semantic").iterdir()):
            _resize(path, clip / "processed_labels_semantic" / path.name, 28, Image.Resampling.NEAREST)
            if row["split"] != "train":
                _resize(path, clip / "processed_labels_semantic_384" / path.name, 48, Image.Resampling.NEAREST)
        _pickle_log_mel(clip / "audio.wav", clip / "audio.pkl", 10)


def _resize(source: Path, path: Path, side: int, how: Image.Resampling) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as picture:
        picture.resize((side, side), how).save(path)


def _pickle_log_mel(wav: Path, path: Path, seconds: int) -> None:
    """A float32 tensor with ``requires_grad``, as AVSBench's authors pickle theirs."""
    patches = samples_to_log_mel(*read_wav(wav))
    filled = np.zeros((seconds, 1, 96, 64), np.float32)
    filled[: len(patches)] = patches[:seconds]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(torch.from_numpy(filled).requires_grad_()))
