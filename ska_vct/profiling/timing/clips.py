"""Random clips with the sizes of a config, as the loader would deliver them, without a dataset."""

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ska_vct.data.facts import DatasetFacts
from ska_vct.data.registry import get_facts
from ska_vct.structures import UNKNOWN_CATEGORY, validate_clip

from .work import BenchmarkError

# Maximum number of foreground classes per frame.
_OBJECTS = 2


def make_clips(
    cfg: CfgNode, *, clips: int, train: bool, frames: int = 0, annotated: int = 0, seed: int = 0
) -> list[dict]:
    """Random clips in the form returned by the mapper (see ``ska_vct/structures/clip.py``).

    Args:
        cfg: defines sizes, subset and the optional fields that the model reads.
        clips: number of clips.
        train: make masks of the network's input size, and only the frames that training loads.
        frames: frames per clip; 0 for the subset's (AVSS: those of its short clips).
        annotated: training frames with ground truth; 0 for the subset's, e.g. 1 on S4.
        seed: random seed.

    Raises:
        BenchmarkError: a number is out of range.
    """
    subset = get_facts(cfg.DATASETS.SUBSET)
    frames = frames or subset.clip_frames()
    sparse = train and len(subset.annotated_frames("train")) < subset.clip_frames()
    annotated = annotated or (min(frames, len(subset.annotated_frames("train"))) if sparse else frames)
    if clips < 1 or not 1 <= annotated <= frames:
        raise BenchmarkError(
            f"Cannot make {clips} clips of {frames} frames with {annotated} annotated; use at least one clip and "
            "between one and all frames with ground truth."
        )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(frames)
    if train and cfg.INPUT.ONLY_ANNOTATED:
        rows = rows[:annotated]
        if 0 < cfg.INPUT.FRAMES_PER_CLIP < len(rows):
            rows = rows[: cfg.INPUT.FRAMES_PER_CLIP]
    return [_make_clip(cfg, subset, rows, annotated, train, generator, index) for index in range(clips)]


def blob_masks(frames: int, size: tuple[int, int], num_classes: int, generator: torch.Generator) -> Tensor:
    """Label maps with one or two foreground ellipses: int64 (frames, *size)."""
    height, width = size
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    masks = torch.zeros(frames, height, width, dtype=torch.int64)
    for mask in masks:
        for label in torch.randint(1, num_classes, (min(_OBJECTS, num_classes - 1),), generator=generator):
            (cx, cy), (rx, ry) = torch.rand(2, 2, generator=generator) - 0.5
            inside = ((x - cx) / (0.3 + rx.abs())) ** 2 + ((y - cy) / (0.3 + ry.abs())) ** 2 < 1
            mask[inside] = label
    return masks


def _make_clip(
    cfg: CfgNode,
    subset: DatasetFacts,
    rows: Tensor,
    annotated: int,
    train: bool,
    generator: torch.Generator,
    index: int,
) -> dict:
    size = tuple(cfg.INPUT.SIZE)
    label_size = size if train else tuple(cfg.INPUT.EVAL_SIZE)
    frames = len(rows)

    def random_images() -> Tensor:
        return torch.randint(0, 256, (frames, 3, *size), dtype=torch.uint8, generator=generator)

    category = UNKNOWN_CATEGORY
    if subset.categories:
        category = int(torch.randint(len(subset.categories), (), generator=generator))
    clip = {
        "images": random_images(),
        "log_mel": torch.randn(frames, 1, 96, 64, generator=generator),
        "audio_second": torch.randn(frames, 1, 100, 64, generator=generator),
        "frame_valid": torch.ones(frames, dtype=torch.bool),
        "mask_valid": rows < annotated,
        "masks": blob_masks(frames, label_size, cfg.MODEL.NUM_CLASSES, generator),
        "frame_index": rows,
        "category": category,
        "clip_id": f"benchmark/{index}",
        "subset": subset.name,
        "height": label_size[0],
        "width": label_size[1],
    }
    if cfg.MODEL.SKA.ENABLED:
        shape = (frames, cfg.INPUT.FLOW.SERIES, 2, *cfg.INPUT.FLOW.SIZE)
        clip["flow"] = torch.randn(shape, generator=generator)
    if cfg.MODEL.PRE_MASK.ENABLED:
        clip["pre_masks"] = random_images()
    validate_clip(clip)
    return clip


def smooth_images(count: int, size: tuple[int, int], *, step: int = 2, seed: int = 0) -> np.ndarray:
    """Views of a blurred texture, each shifted by another ``step`` pixels: uint8 (count, H, W, 3)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    coarse = torch.rand(1, 3, height // 8 + 1, (width + count * step) // 8 + 1, generator=generator)
    texture = torch.nn.functional.interpolate(coarse, size=(height, width + count * step), mode="bicubic")
    texture = (texture[0].clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return np.stack([texture[:, index * step : index * step + width] for index in range(count)])
