"""A small model and made-up clips."""

import pytest
import torch
from detectron2.modeling import build_model

import ska_vct.modeling  # noqa: F401  registers the meta-architecture
from ska_vct.config import get_cfg

TINY = [
    "INPUT.SIZE", (64, 64),
    "MODEL.DEVICE", "cpu",
    "MODEL.HIDDEN_DIM", 32,
    "MODEL.BACKBONE.NAME", "build_timm_backbone",
    "MODEL.TIMM.NAME", "resnet10t",
    "MODEL.AUDIO.CHANNELS", [4, 8, 8, 8, 16, 16],
    "MODEL.AUDIO.MLP_DIMS", [16, 16],
    "MODEL.AUDIO.FREEZE", False,
    "MODEL.PIXEL_DECODER.ENC_LAYERS", 1,
    "MODEL.PIXEL_DECODER.FEEDFORWARD_DIM", 32,
    "MODEL.DECODER.NUM_QUERIES", 6,
    "MODEL.DECODER.NUM_LAYERS", 4,
    "MODEL.DECODER.FEEDFORWARD_DIM", 32,
    "MODEL.MPQG.PRE_DIM", 32,
    "MODEL.MPQG.MIXER_DIM", 32,
    "MODEL.BRM.DIM", 16,
    "MODEL.CRITERION.NUM_POINTS", 0,
]  # fmt: skip


def make_model(*overrides):
    """A tiny SKAVCT with further ``KEY, value`` pairs."""
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, *overrides])
    torch.manual_seed(0)
    return build_model(cfg)


def make_clip(frames, annotated=None, size=(64, 64), seed=0, **fields):
    """A clip of noise with a square to find; the first ``annotated`` frames have masks."""
    generator = torch.Generator().manual_seed(seed)
    annotated = frames if annotated is None else annotated
    mask_valid = torch.arange(frames) < annotated
    masks = torch.full((frames, *size), 255)
    masks[:annotated] = 0
    masks[:annotated, 10:30, 20:50] = 1
    clip = {
        "images": torch.randint(0, 256, (frames, 3, *size), dtype=torch.uint8, generator=generator),
        "log_mel": torch.randn(frames, 1, 96, 64, generator=generator),
        "audio_second": torch.randn(frames, 1, 100, 64, generator=generator),
        "flow": torch.randn(frames, 1, 2, 24, 24, generator=generator),
        "frame_valid": torch.ones(frames, dtype=torch.bool),
        "mask_valid": mask_valid,
        "masks": masks,
        "category": 1,
        "clip_id": f"made/up_{seed}",
        "height": 56,
        "width": 48,
    }
    return clip | fields


@pytest.fixture
def tiny():
    """Factories of tiny models and clips."""
    return make_model, make_clip
