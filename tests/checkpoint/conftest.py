"""Small models, and checkpoints in other programs' layouts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ska_vct.checkpoint.convert.vct import from_vct
from tests.parity.golden import Golden
from tests.parity.model_kinds import _build_model


class Holder(nn.Module):
    """A model that has a backbone and nothing else."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone


def published_vct(goldens, name: str) -> tuple[Golden, dict[str, Tensor]]:
    """A golden of the whole VCT, and its state dict as the published program saves it."""
    golden = Golden(goldens / name)
    state = golden.state()
    features = golden.beside("vggish.npz").state("state/features.")
    state |= {f"audio_backbone.features.{key}": value for key, value in features.items()}
    shapes = ((8, 12), (8, 8), (4, 8))  # really 4096 x 12288 and so on
    for index, shape in zip((0, 2, 4), shapes, strict=True):
        state[f"audio_backbone.embeddings.{index}.weight"] = torch.rand(shape)
        state[f"audio_backbone.embeddings.{index}.bias"] = torch.rand(shape[0])
    return golden, state


def fresh_model(golden: Golden, state: dict[str, Tensor]) -> nn.Module:
    """A model of the golden's sizes with random weights."""
    return _build_model(golden, from_vct(state).state)


def golden_clip(golden: Golden) -> dict:
    images, log_mel = golden["in/images"], golden["in/audio_log_mel"]
    if "in/vid_temporal_mask_flag" in golden:
        log_mel = log_mel[golden["in/vid_temporal_mask_flag"][: len(log_mel)] > 0]
    clip = {
        "images": images,
        "log_mel": log_mel,
        "frame_valid": torch.ones(len(images), dtype=torch.bool),
        "mask_valid": torch.zeros(len(images), dtype=torch.bool),
        "clip_id": golden.path.name,
        "height": 224,
        "width": 224,
    }
    return clip | ({"pre_masks": golden["in/pre_masks"]} if "in/pre_masks" in golden else {})


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Gives every weight another value, so that one that is not loaded shows."""

    def apply(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    noise = torch.rand(value.shape, generator=generator)
                    value.copy_(noise + 0.5 if "running_var" in name else 0.2 * noise - 0.05)
        return module

    return apply
