"""Any hierarchical timm network as a Detectron2 backbone: PVTv2, ResNet and their kin."""

import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor, nn

from ska_vct.utils.errors import InputError

from .named import STRIDES, NamedBackbone


class TimmBackbone(NamedBackbone):
    """A timm feature network whose outputs at strides 4, 8, 16, 32 are named res2..res5."""

    def __init__(
        self,
        *,
        name: str,
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        checkpoint: bool = False,
        freeze_norms: bool = False,
        **kwargs,
    ):
        """
        Args:
            name: timm model name, e.g. ``pvt_v2_b5`` or ``resnet50``.
            in_channels: channels of the image.
            drop_path_rate: stochastic depth.
            checkpoint: in training store only the inputs of blocks and recompute the rest.
            freeze_norms: batch norms keep their statistics, scale and shift, as fits small or unlike batches.
            kwargs: further keyword arguments of the timm model.

        Raises:
            ValueError: if timm does not know ``name``, the network lacks one of the four strides, or nothing in it
                can be checkpointed.
        """
        if drop_path_rate:
            kwargs["drop_path_rate"] = drop_path_rate
        if not timm.is_model(name):
            close = timm.list_models(f"*{name.split('.')[0][:6]}*")[:8]
            raise InputError(
                f"MODEL.TIMM.NAME: timm has no model '{name}'. Similar: {', '.join(close) or 'none'}."
            )
        options = {"pretrained": False, "features_only": True, "in_chans": in_channels, **kwargs}
        network = timm.create_model(name, **options)
        reductions = network.feature_info.reduction()
        wanted = list(STRIDES.values())
        if any(stride not in reductions for stride in wanted):
            raise InputError(f"MODEL.TIMM.NAME: '{name}' has strides {reductions}; 4, 8, 16 and 32 are needed.")
        if reductions != wanted:
            # The last feature of each stride.
            indices = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in wanted]
            network = timm.create_model(name, out_indices=indices, **options)
        # Convolutions run a fifth faster with channels last; results are the same.
        network = network.to(memory_format=torch.channels_last)
        super().__init__(network, network.feature_info.channels(), checkpoint=checkpoint)
        self._frozen_norms = []
        if freeze_norms:
            self._frozen_norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            for norm in self._frozen_norms:
                norm.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Frozen norms stay in inference mode."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {res2..res5: (N, channels, ceil(H / stride), ceil(W / stride))}."""
        return dict(zip(STRIDES, self.network(images), strict=True))


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> TimmBackbone:
    """Network of ``cfg.MODEL.TIMM``."""
    node = cfg.MODEL.TIMM
    return TimmBackbone(
        name=node.NAME,
        in_channels=input_shape.channels,
        drop_path_rate=node.DROP_PATH_RATE,
        checkpoint=cfg.MODEL.BACKBONE.CHECKPOINT,
        freeze_norms=cfg.MODEL.BACKBONE.FREEZE_NORMS,
        **{key.lower(): value for key, value in node.KWARGS.items()},
    )
