"""Siamese encoder of class-agnostic segment images (Yang et al., "COMBO-AVS", CVPR 2024)."""

from collections.abc import Mapping

import torch
from detectron2.modeling import Backbone
from torch import Tensor, nn


class ChannelGate(nn.Module):
    """Squeeze-and-excite gate (Hu et al., CVPR 2018): scales channels by factors computed from their averages."""

    def __init__(self, *, channels: int, reduction: int):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class PreMaskEncoder(nn.Module):
    """The visual backbone's architecture with its own weights; its gated features are added to the visual ones."""

    def __init__(self, *, backbone: Backbone, reduction: int):
        """
        Args:
            backbone: network that reads the segment image.
            reduction: factor by which the gate's hidden layer is narrower than the features.
        """
        super().__init__()
        self.backbone = backbone
        self.gates = nn.ModuleDict(
            {
                name: ChannelGate(channels=shape.channels, reduction=reduction)
                for name, shape in backbone.output_shape().items()
            }
        )

    def forward(self, pre_masks: Tensor, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add the segments' gated features to the visual features.

        Args:
            pre_masks: (N, 3, H, W), normalised like the images.
            features: visual features by name.

        Returns:
            features of the same names and shapes.
        """
        own = self.backbone(pre_masks)
        return {name: feature + self.gates[name](own[name]) for name, feature in features.items()}
