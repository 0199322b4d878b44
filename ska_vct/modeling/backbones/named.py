"""What our backbones share: four outputs, res2..res5, at strides 4, 8, 16, 32."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class NamedBackbone(Backbone):
    """A backbone that wraps a ``network``; subclasses return a feature for every name of ``STRIDES``."""

    def __init__(self, channels: list[int]):
        """
        Args:
            channels: of the four outputs, fine to coarse.
        """
        super().__init__()
        self._out_features = list(STRIDES)
        self._shapes = {
            name: ShapeSpec(channels=width, stride=stride)
            for (name, stride), width in zip(STRIDES.items(), channels, strict=True)
        }

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output."""
        return dict(self._shapes)
