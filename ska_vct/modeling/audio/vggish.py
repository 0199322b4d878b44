"""VGGish (Hershey et al., ICASSP 2017) up to its last convolution, and the per-cell MLP of VCT.

The checkpoint's fully connected layers (67.6 M parameters) are never built.
"""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from ska_vct.utils.errors import InputError

from ..layers import MLP
from .registry import AUDIO_ENCODER_REGISTRY

# Convolutions after which VGGish pools.
_POOL_AFTER = (0, 1, 3, 5)
# Time steps and mel bands of one second (docs/data.md).
PATCH_SIZE = (96, 64)


class VGGishBackbone(nn.Sequential):
    """Six 3x3 convolutions with ReLU and four 2x2 max pools.

    Shape:
        log-mel (N, 1, 96, 64) -> (N, channels[-1], 6, 4)
    """

    def __init__(self, *, channels: Sequence[int]):
        """
        Args:
            channels: outputs of the six convolutions; VGGish's are 64, 128, 256, 256, 512, 512.

        Raises:
            ValueError: if there are not six.
        """
        if len(channels) != 6:
            raise InputError(f"MODEL.AUDIO.CHANNELS must list six widths, got {list(channels)}.")
        layers: list[nn.Module] = []
        before = 1
        for index, width in enumerate(channels):
            conv = nn.Conv2d(before, width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            layers += [conv, nn.ReLU(inplace=True)]
            if index in _POOL_AFTER:
                layers.append(nn.MaxPool2d(2))
            before = width
        super().__init__(*layers)
        self.out_channels = before
        # Convolutions and pools run a fifth faster with channels last; results are the same.
        self.to(memory_format=torch.channels_last)


@AUDIO_ENCODER_REGISTRY.register()
class VGGishEncoder(nn.Module):
    """Maps one second of audio to a grid of audio features."""

    @configurable
    def __init__(self, *, channels: Sequence[int], mlp_dims: Sequence[int], dim: int, freeze: bool):
        """
        Args:
            channels: see ``VGGishBackbone``.
            mlp_dims: hidden widths of the per-cell MLP.
            dim: width C of the audio grid.
            freeze: keep the convolutions as loaded.
        """
        super().__init__()
        self.backbone = VGGishBackbone(channels=channels)
        self.mlp = MLP([self.backbone.out_channels, *mlp_dims, dim])
        if freeze:
            self.backbone.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.AUDIO
        return {
            "channels": node.CHANNELS,
            "mlp_dims": node.MLP_DIMS,
            "dim": cfg.MODEL.HIDDEN_DIM,
            "freeze": node.FREEZE,
        }

    def forward(self, log_mel: Tensor) -> Tensor:
        """Encode.

        Args:
            log_mel: (N, 1, 96, 64), ln(mel + 0.01).

        Returns:
            (N, C, 6, 4): rows run through the second, columns are bands of frequency.
        """
        # Frozen convolutions store nothing for the backward pass: neither they nor their input require a gradient.
        return self.embed(self.backbone(log_mel))

    def embed(self, features: Tensor) -> Tensor:
        """Per-cell MLP on convolution features: (N, channels, 6, 4) -> (N, C, 6, 4)."""
        return self.mlp(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
