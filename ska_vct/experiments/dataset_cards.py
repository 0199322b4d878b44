"""Images and videos of the benchmark's splits for docs/benchmark.md."""

import os
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ska_vct.data.audio.files import load_log_mel
from ska_vct.data.catalog import load_records
from ska_vct.data.flow.store import read_flow
from ska_vct.data.images.io import read_image
from ska_vct.experiments.robustness.conditions import object_groups
from ska_vct.synth.benchmark import choose_splits, find_version
from ska_vct.synth.splits import SUBSET
from ska_vct.synth.truth import read_objects
from ska_vct.synth.writer import read_settings
from ska_vct.utils.files import atomic_write
from ska_vct.visualization import flow_to_image, overlay_labels, write_overlay_video
from ska_vct.visualization.canvas import Row, draw_grid
from ska_vct.visualization.clip_rows import SILENCE
from ska_vct.visualization.images import log_mel_image, resize_image, strongest_field

CELL = 112
_AUDIO_HEIGHT = 40
_JPEG_QUALITY = 82
# Name and color of the object groups, in the order of their codes (``structures/clip.py``).
LEGEND = (("sounding", (255, 96, 32)), ("silent, still", (70, 130, 255)), ("silent, moving", (60, 200, 90)))
_PALETTE = np.array([(0, 0, 0), *(color for _, color in LEGEND)], np.uint8)


def make_cards(
    root: str | os.PathLike, out: str | os.PathLike, *, num: int = 3, progress: bool = True
) -> list[Path]:
    """Write ``benchmark_{split}.jpg``, a strip of clips, and ``benchmark_{split}.mp4``, the first as a video.

    Args:
        root: folder of the benchmark's splits.
        out: folder for the files.
        num: number of clips per strip.

    Returns:
        the files written.

    Raises:
        DatasetError, TruthError, FlowError: a split is missing or incomplete.
        OSError: the folder cannot be written.
    """
    files = []
    for split in tqdm(choose_splits(), "Drawing", unit="split", disable=not progress):
        part = "test" if split.test else "train"
        folder = Path(root, split.name)
        records = choose_clips(load_records(SUBSET, part, folder, prefer_rebuilt=False), folder, num)
        files += [Path(out, f"benchmark_{split.name}.{ending}") for ending in ("jpg", "mp4")]
        with atomic_write(files[-2]) as file:
            image = draw_card(records, folder, title=_title(folder, split.name, part))
            Image.fromarray(image).save(file, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
        write_clip_video(records[0], folder, files[-1])
    return files


def _title(folder: Path, name: str, part: str) -> str:
    version, settings = find_version(folder, name), read_settings(folder, SUBSET)
    released = f"version {version}" if version else "not of the benchmark"
    return f"{name} ({part}, {released}, seed {settings['seed'] if settings else 'unknown'})"


def choose_clips(records: list[dict], root: Path, num: int) -> list[dict]:
    """A varied choice of clips: kinds and roles not shown yet first, most objects first."""
    seen: dict[tuple, list[dict]] = {}
    for record in records:
        truth = read_objects(root, record)
        seen.setdefault((truth.kind, tuple(sorted(truth.roles))), []).append(record)
    groups = sorted(seen.items(), key=lambda item: (-len(set(item[0][1])), -len(item[0][1]), item[0]))
    rounds = [[group[turn] for _, group in groups if turn < len(group)] for turn in range(num)]
    return [record for turn in rounds for record in turn][:num]


def draw_card(records: list[dict], root: Path, *, title: str) -> np.ndarray:
    """An image, uint8 (H, W, 3), that shows each clip's frames with outlined objects, flow and log-mel."""
    rows = []
    for record in records:
        truth = read_objects(root, record)
        frames = [resize_image(read_image(path), (CELL, CELL)) for path in record["image_paths"]]
        labels = object_groups(truth, truth.masks.shape[2:])
        flow = read_flow(record["flow_path"]).flow.astype(np.float32)
        log_mel = load_log_mel(record, len(frames), source="wav")[:, 0]
        audio = [log_mel_image(patch, (_AUDIO_HEIGHT, CELL), low=SILENCE, high=log_mel.max()) for patch in log_mel]
        fields = [resize_image(field, (CELL, CELL)) for field in flow_to_image(strongest_field(flow))]
        overlays = [overlay_labels(frame, label, _PALETTE) for frame, label in zip(frames, labels, strict=True)]
        rows += [
            Row("Frames", overlays, "\n".join((truth.kind, *truth.classes))),
            Row("Flow", fields, "strongest field\nof each second"),
            Row("Sound", audio),
        ]
    return draw_grid(
        rows, title=title, headings=[f"second {t + 1}" for t in range(len(rows[0].cells))], legend=LEGEND
    )


def write_clip_video(record: dict, root: Path, path: Path) -> None:
    """The clip's video with audio and with its objects outlined as in each second's sampled frame."""
    truth = read_objects(root, record)
    write_overlay_video(
        path,
        np.stack([read_image(image) for image in record["image_paths"]]),
        object_groups(truth, truth.masks.shape[2:]),
        audio=record["wav_path"],
        video=record["video_path"],
        palette=_PALETTE,
        captions=False,
    )
