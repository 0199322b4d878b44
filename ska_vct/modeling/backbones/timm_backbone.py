"""Any hierarchical timm network as a Detectron2 backbone: ResNet, PVTv2, ConvNeXt, Swin and their kin."""

import difflib
import logging
import re

import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor

from ska_vct.utils.errors import InputError

from .named import STRIDES, NamedBackbone

_LOGGER = logging.getLogger(__name__)
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


class TimmBackbone(NamedBackbone):
    """A timm feature network whose outputs at strides 4, 8, 16, 32 are named res2..res5."""

    def __init__(
        self,
        *,
        name: str,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
        drop_path_rate: float = 0.0,
        checkpoint: bool = False,
        **kwargs,
    ):
        """
        Args:
            name: timm model name, e.g. ``pvt_v2_b5`` or ``resnet50``.
            in_channels: channels of the image.
            size: (H, W) of the image, which networks of a fixed input size are built for; None for their own size.
            drop_path_rate: stochastic depth.
            checkpoint: in training store only the inputs of blocks and recompute the rest.
            kwargs: further keyword arguments of the timm model; those that it does not have, such as another
                network's in a base config, are dropped with a warning.

        Raises:
            ValueError: if timm does not know ``name``, the network lacks one of the four strides, or nothing in it
                can be checkpointed.
        """
        if drop_path_rate:
            kwargs["drop_path_rate"] = drop_path_rate
        options = {"in_chans": in_channels, **_fixed_size(name, size), **kwargs}
        network = _create(name, options)
        reductions = network.feature_info.reduction()
        wanted = list(STRIDES.values())
        if any(stride not in reductions for stride in wanted):
            raise InputError(f"MODEL.TIMM.NAME: '{name}' has strides {reductions}; 4, 8, 16 and 32 are needed.")
        if reductions != wanted:
            # The last feature of each stride.
            indices = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in wanted]
            network = _create(name, options | {"out_indices": indices})
        # Convolutions run a fifth faster with channels last; results are the same.
        network = network.to(memory_format=torch.channels_last)
        channels_are_last = str(getattr(network, "output_fmt", "")).endswith("NHWC")
        super().__init__(network, network.feature_info.channels(), checkpoint=checkpoint)
        self._channels_are_last = channels_are_last

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {res2..res5: (N, channels, ceil(H / stride), ceil(W / stride))}."""
        features = self.network(images)
        if self._channels_are_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return dict(zip(STRIDES, features, strict=True))


def _fixed_size(name: str, size: tuple[int, int] | None) -> dict:
    """The keyword argument that builds a network of a fixed input size for ``size``.

    Raises:
        InputError: timm has no such network; names the nearest.
    """
    if not timm.is_model(name):
        base = name.partition(".")[0]
        # Longer names begin with what was meant, as swin_tiny does; a mistyped one resembles it.
        near = [*timm.list_models(f"{base}*")[:3], *difflib.get_close_matches(base, timm.list_models(), n=3)]
        similar = ", ".join(dict.fromkeys(near)) or "see timm.list_models()"
        raise InputError(f"MODEL.TIMM.NAME: timm has no model '{name}'. Similar: {similar}.")
    # Only its architecture is built, so a wrong name of weights does not matter here.
    pretrained = timm.get_pretrained_cfg(name.partition(".")[0])
    fixed = pretrained is not None and pretrained.fixed_input_size
    return {"img_size": tuple(size)} if fixed and size is not None else {}


def _create(name: str, options: dict) -> torch.nn.Module:
    """The feature network; keyword arguments that it lacks are removed from ``options``."""
    while True:
        try:
            return timm.create_model(name, pretrained=False, features_only=True, **options)
        except TypeError as error:
            unexpected = _UNEXPECTED.search(str(error))
            if unexpected is None or unexpected[1] not in options:
                raise
            value = options.pop(unexpected[1])
            _LOGGER.warning(
                f"MODEL.TIMM.KWARGS: timm's '{name}' has no argument '{unexpected[1]}'; {value} is ignored."
            )
        except (AssertionError, RuntimeError, NotImplementedError) as error:
            raise InputError(
                f"MODEL.TIMM.NAME: timm's '{name}' cannot be built as a network of features at several strides "
                f"with {options} ({' '.join(str(error).split())[:200] or type(error).__name__}); choose a "
                "hierarchical one, such as resnet50, pvt_v2_b2, convnext_tiny or swin_tiny_patch4_window7_224."
            ) from None


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> TimmBackbone:
    """Network of ``cfg.MODEL.TIMM``."""
    node = cfg.MODEL.TIMM
    return TimmBackbone(
        name=node.NAME,
        in_channels=input_shape.channels,
        size=tuple(cfg.INPUT.SIZE),
        drop_path_rate=node.DROP_PATH_RATE,
        checkpoint=cfg.MODEL.BACKBONE.CHECKPOINT,
        **{key.lower(): value for key, value in node.KWARGS.items()},
    )
