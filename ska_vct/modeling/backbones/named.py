"""What our backbones share: four outputs, res2..res5, at strides 4, 8, 16, 32."""

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from ska_vct.utils.errors import InputError

from ..layers.checkpoint import checkpoint_blocks, repeated_blocks

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class NamedBackbone(Backbone):
    """A backbone that wraps a ``network``; subclasses return a feature for every name of ``STRIDES``."""

    def __init__(self, network: nn.Module, channels: list[int], *, checkpoint: bool):
        """
        Args:
            network: the wrapped network.
            channels: of the four outputs, fine to coarse.
            checkpoint: in training store only the inputs of the network's blocks and recompute the rest.

        Raises:
            ValueError: there is nothing to checkpoint.
        """
        super().__init__()
        self.network = network
        if checkpoint:
            blocks = repeated_blocks(network)
            if not blocks:
                raise InputError(
                    f"MODEL.BACKBONE.CHECKPOINT: no repeated blocks were found in {type(network).__name__}; "
                    "set it to False."
                )
            checkpoint_blocks(blocks)
        self._out_features = list(STRIDES)
        self._shapes = {
            name: ShapeSpec(channels=width, stride=stride)
            for (name, stride), width in zip(STRIDES.items(), channels, strict=True)
        }

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output."""
        return dict(self._shapes)
