"""Images of class-agnostic segments in random colours, COMBO's pre-masks (Yang et al., CVPR 2024).

The segments come from a Segment Anything model of Hugging Face's ``transformers``; the weights are the user's.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.facts import expand
from ska_vct.data.images.io import read_image, write_png
from ska_vct.data.images.video_frames import split_fragment
from ska_vct.data.registry import get_facts

# Bright enough to differ from black, which means "no segment".
_DARKEST = 32


def draw_segments(segments: Sequence[np.ndarray], size: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Paint segments in random colours, smaller ones over larger ones, on black.

    Args:
        segments: bool (h, w) each.
        size: (h, w).
        seed: same seed, same colours.

    Returns:
        uint8 (h, w, 3), RGB.

    Raises:
        ValueError: a segment has another size.
    """
    image = np.zeros((*size, 3), np.uint8)
    rng = np.random.default_rng(seed)
    for segment in sorted(map(np.asarray, segments), key=lambda segment: -int(segment.sum())):
        if segment.shape != tuple(size):
            raise ValueError(f"A segment is {segment.shape}, its image {tuple(size)}; both must agree.")
        image[segment.astype(bool)] = rng.integers(_DARKEST, 256, 3)
    return image


def load_segmenter(
    weights: str, *, device: str = "cpu", points_per_batch: int = 64
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function that finds segments, bool (h, w) each, in an RGB image.

    Args:
        weights: folder, or name on Hugging Face's hub, of a SAM or SAM 2 model in ``transformers``' format.
        device: as PyTorch names it.
        points_per_batch: prompts per step; fewer need less memory.

    Raises:
        DatasetError: ``transformers`` is not installed, or the weights cannot be loaded; says what to do.
    """
    try:
        from transformers import pipeline
    except ImportError:
        raise DatasetError(
            "Making segment images needs the package transformers, which is not installed: pip install -e "
            "'.[premasks]'; or use the published images (INPUT.PRE_MASK.ROOT, datasets/README.md), or do "
            "without (MODEL.PRE_MASK.ENABLED False)."
        ) from None
    from PIL import Image

    try:
        generate = pipeline("mask-generation", model=weights, device=device)
    # transformers raises nearly anything for a folder that holds no model.
    except Exception as error:
        raise DatasetError(
            f"No segment-anything model could be loaded from '{weights}' ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); download one in transformers' format, for example "
            "facebook/sam-vit-base, and name its folder with --weights."
        ) from None

    def segment(image: np.ndarray) -> list[np.ndarray]:
        found = generate(Image.fromarray(image), points_per_batch=points_per_batch)
        return [np.asarray(mask, dtype=bool) for mask in found["masks"]]

    return segment


def pre_mask_path(out: str | os.PathLike, record: dict, frame: int) -> str:
    """Where the reader looks for the segment image of a frame below ``INPUT.PRE_MASK.ROOT``."""
    facts = get_facts(record["subset"])
    image, time = split_fragment(record["image_paths"][frame])
    folder, _, file = image.rpartition("/")
    values = {key: record[key] for key in ("split", "name", "category", "label")}
    inside = expand(facts.pre_mask_clips[0], values | {"images": folder.rpartition("/")[2]})
    stem = os.path.splitext(file)[0] if time is None else facts.number(frame)["second"]
    return f"{out}/{inside}/{stem}_mask_color.png"


def make_pre_masks(
    records: Sequence[dict],
    segment: Callable[[np.ndarray], list[np.ndarray]],
    out: str | os.PathLike,
    *,
    progress: bool = True,
) -> tuple[int, int]:
    """Write the segment images of all frames that have none yet, each whole or not at all.

    Args:
        records: of ``load_records``.
        segment: of ``load_segmenter``.
        out: folder; what ``INPUT.PRE_MASK.ROOT`` will name.

    Returns:
        images written, and those that were there.

    Raises:
        ImageError: a frame cannot be read.
    """
    frames = [(record, index) for record in records for index in range(len(record["image_paths"]))]
    written = 0
    for record, index in tqdm(frames, desc="Segments", unit="frame", disable=not progress):
        path = pre_mask_path(out, record, index)
        if os.path.isfile(path):
            continue
        image = read_image(record["image_paths"][index])
        write_png(path, draw_segments(segment(image), image.shape[:2], seed=index))
        written += 1
    return written, len(frames) - written
