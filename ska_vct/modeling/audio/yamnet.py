"""YAMNet, a MobileNet v1 that tells AudioSet's 521 classes of sounds apart, as an audio encoder.

Howard et al., "MobileNets", 2017; Gemmeke et al., "Audio Set", ICASSP 2017. The network is that of TensorFlow's
model garden (research/audioset/yamnet): no bias and no scale in front of a ReLU, a norm's epsilon of 1e-4, and
TensorFlow's padding, which for stride 2 lies behind the last row and column only.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..layers import MLP
from .registry import AUDIO_ENCODER_REGISTRY

# Stride and output channels of the depthwise separable layers after the first convolution.
_LAYERS = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), (1, 512), (1, 512), (1, 512), (1, 512), (1, 512),
    (2, 1024), (1, 1024),
)  # fmt: skip
_STEM = 32
NUM_CLASSES = 521
# Both front ends differ only in what they add before the logarithm: VGGish 0.01, YAMNet 0.001.
_VGGISH_OFFSET, _OFFSET = 0.01, 0.001


class _Conv(nn.Module):
    """A convolution without bias, a norm that only shifts, and ReLU."""

    def __init__(self, before: int, after: int, *, size: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-4)
        self.bn.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        size, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if size > 1:
            pads = [max(size - (stride if side % stride == 0 else side % stride), 0) for side in x.shape[:1:-1]]
            x = F.pad(x, [part for pad in pads for part in (pad // 2, pad - pad // 2)])
        return F.relu(self.bn(self.conv(x)))


class YAMNetBackbone(nn.Module):
    """The convolutions, and the classifier's input.

    Shape:
        log-mel of VGGish's front end (N, 1, 96, 64) -> (N, 1024, 3, 2)
    """

    out_channels = _LAYERS[-1][1]

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = [_Conv(1, _STEM, size=3, stride=2)]
        before = _STEM
        for stride, after in _LAYERS:
            layers.append(_Conv(before, before, size=3, stride=stride, groups=before))
            layers.append(_Conv(before, after, size=1))
            before = after
        self.layers = nn.Sequential(*layers)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(N, 1, t, 64), ln(mel + 0.01) -> (N, 1024, t / 32, 2)."""
        mel = (log_mel.exp() - _VGGISH_OFFSET).clamp(min=0)
        return self.layers((mel + _OFFSET).log())


class YAMNetClassifier(nn.Module):
    """The whole network, to compare it with published scores; the model itself uses its convolutions only."""

    def __init__(self):
        super().__init__()
        self.backbone = YAMNetBackbone()
        self.classifier = nn.Linear(YAMNetBackbone.out_channels, NUM_CLASSES)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(N, 1, 96, 64) -> scores (N, 521) in 0..1."""
        return self.classifier(self.backbone(log_mel).mean((2, 3))).sigmoid()


@AUDIO_ENCODER_REGISTRY.register()
class YAMNetEncoder(nn.Module):
    """Maps one second of audio to a 3 x 2 grid of audio features."""

    @configurable
    def __init__(self, *, hidden_dim: int, dim: int, freeze: bool):
        """
        Args:
            hidden_dim: width of the per-cell MLP.
            dim: width C of the audio grid.
            freeze: keep the convolutions and the statistics of their norms as loaded.
        """
        super().__init__()
        self.backbone = YAMNetBackbone()
        self.mlp = MLP([self.backbone.out_channels, hidden_dim, dim])
        self.freeze = freeze
        if freeze:
            self.backbone.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.AUDIO
        return {"hidden_dim": node.YAMNET_MLP_DIM, "dim": cfg.MODEL.HIDDEN_DIM, "freeze": node.FREEZE}

    def train(self, mode: bool = True) -> "YAMNetEncoder":
        """Norms of frozen convolutions keep their statistics."""
        super().train(mode)
        if self.freeze:
            self.backbone.eval()
        return self

    def forward(self, log_mel: Tensor) -> Tensor:
        """(N, 1, 96, 64), ln(mel + 0.01) -> (N, C, 3, 2): rows run through the second, columns are bands."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            features = self.backbone(log_mel)
        return self.mlp(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
