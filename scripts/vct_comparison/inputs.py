"""Inputs of both programs: seeded numbers in a format that belongs to neither.

Shape legend: T frames of a clip, N frames of all clips, P predictions, Q queries, K classes.
"""

import torch
from torch import Tensor

SEED = 20250701
FRAMES = 5
SIDE = 384
EVAL_SIDE = 224
# Swin-B as published, and a small one with which a trial of all parts takes a minute or two.
BACKBONES = {
    "swin_b": {},
    "tiny": {"EMBED_DIM": 16, "DEPTHS": [1, 1, 1, 1], "NUM_HEADS": [1, 2, 4, 8]},
}
# Levels of the pixel decoder at 384 x 384, coarse to fine.
LEVELS = [(12, 12), (24, 24), (48, 48)]


def _generator(part: int) -> torch.Generator:
    return torch.Generator().manual_seed(SEED + part)


def make_clips(num_clips: int, *, annotated: int) -> list[dict]:
    """Clips as a camera and an annotator would provide them.

    Args:
        num_clips: how many.
        annotated: frames that carry a mask, from the first on.

    Returns:
        per clip ``images`` and ``pre_masks`` uint8 (T, 3, 384, 384), ``log_mel`` float32 (T, 1, 96, 64), ``flow``
        float32 (T, 1, 2, 24, 24), ``masks`` bool (annotated, 384, 384) and ``category``, counted from 0.
    """
    clips = []
    for index in range(num_clips):
        random = _generator(index)
        masks = torch.zeros(annotated, SIDE, SIDE, dtype=torch.bool)
        for frame, mask in enumerate(masks):
            mask[60 + 10 * frame : 250, 100 : 260 + 10 * frame] = True
        clips.append(
            {
                "images": torch.randint(256, (FRAMES, 3, SIDE, SIDE), generator=random, dtype=torch.uint8),
                "pre_masks": torch.randint(256, (FRAMES, 3, SIDE, SIDE), generator=random, dtype=torch.uint8),
                "log_mel": torch.randn(FRAMES, 1, 96, 64, generator=random),
                "flow": torch.randn(FRAMES, 1, 2, 24, 24, generator=random),
                "masks": masks,
                "category": index % 23,
            }
        )
    return clips


def make_predictions(num_clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of a decoder of nine layers: logits (10, N, 100, 3), mask embeddings (10, N, 100, 256), mask
    features (N, 256, 96, 96)."""
    random = _generator(1000)
    frames = FRAMES * num_clips
    logits = torch.randn(10, frames, 100, 3, generator=random)
    # Their products have a standard deviation of about 4.
    embeds = torch.randn(10, frames, 100, 256, generator=random) / 2
    features = torch.randn(frames, 256, SIDE // 4, SIDE // 4, generator=random) / 2
    return logits, embeds, features


@torch.no_grad()
def make_masks(predictions: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """Mask logits of every prediction of ``make_predictions``, (N, 100, 96, 96) each."""
    _, embeds, features = predictions
    return [torch.einsum("nqc,nchw->nqhw", layer, features) for layer in embeds]


def make_scored_clip() -> tuple[Tensor, Tensor]:
    """Foreground probabilities and masks, float32 (5, 224, 224) each."""
    random = _generator(2000)
    mask = torch.zeros(FRAMES, EVAL_SIDE, EVAL_SIDE)
    mask[:, 50:150, 40:180] = 1.0
    noise = torch.rand(mask.shape, generator=random)
    return 0.4 * mask + 0.6 * noise, mask


def make_attention(num_clips: int) -> dict:
    """One deformable-attention layer of the pixel decoder: its ``state`` and its arguments.

    Returns:
        ``state``: weights by name, which both sides share; ``query`` and ``memory`` (N, 3024, 256); ``reference``
        (N, 3024, 3, 2), the cells' centres.
    """
    random = _generator(3000)
    dim, heads, points = 256, 8, 4
    numbers = heads * len(LEVELS) * points
    state = {}
    for name, width in (
        ("sampling_offsets", 2 * numbers),
        ("attention_weights", numbers),
        ("value_proj", dim),
        ("output_proj", dim),
    ):
        state[f"{name}.weight"] = torch.randn(width, dim, generator=random) / dim**0.5
        state[f"{name}.bias"] = torch.randn(width, generator=random)
    centres = []
    for height, width in LEVELS:
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
        )
        centres.append(torch.stack((x, y), -1).flatten(0, 1))
    reference = torch.cat(centres)[None, :, None].expand(FRAMES * num_clips, -1, len(LEVELS), -1).contiguous()
    shape = (*reference.shape[:2], dim)
    return {
        "state": state,
        "query": torch.randn(shape, generator=random),
        "memory": torch.randn(shape, generator=random),
        "reference": reference,
    }
