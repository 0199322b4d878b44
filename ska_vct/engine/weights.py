"""Published weights for parts of the model: visual backbone, pre-mask encoder, VGGish (spec: model.md)."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import Tensor, nn

from ska_vct.checkpoint.checkpointer import CheckpointError, load_state_dict, load_strictly

_LOGGER = logging.getLogger(__name__)
# Entries of published files that our networks do not have: classifiers, what follows from sizes, VGGish's
# fully connected layers and post-processing.
_UNUSED = re.compile(
    r"(head|fc|classifier|norm|embeddings|pproc)\.|.*(attn_mask|relative_position_index|num_batches_tracked)$"
)
# Norms of Swin's stages exist in segmentation checkpoints only; they start at the identity.
_OPTIONAL = re.compile(r"norm\d\.(weight|bias)$|.*(relative_position_index|num_batches_tracked)$")


@dataclass(frozen=True)
class _Part:
    key: str  # config key that names the file
    path: str
    module: nn.Module
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def load_part_weights(cfg: CfgNode, model: nn.Module) -> None:
    """Load the files that ``MODEL.BACKBONE_WEIGHTS``, ``PRE_MASK.WEIGHTS`` and ``AUDIO.WEIGHTS`` name.

    Args:
        cfg: the config.
        model: an ``SKAVCT``.

    Raises:
        FileNotFoundError: a file is missing.
        CheckpointError: a file does not hold the weights of that part, listing the keys.
    """
    for part in _parts(cfg, model):
        state = part.convert(load_state_dict(part.path))
        own = part.module.state_dict()
        dropped = [key for key in state if key not in own and _UNUSED.match(key)]
        state = {key: value for key, value in state.items() if key not in dropped}
        kept = {key: value for key, value in own.items() if key not in state and _OPTIONAL.match(key)}
        try:
            load_strictly(part.module, state | kept, path=part.path)
        except CheckpointError as error:
            raise CheckpointError(f"{part.key}: {error}") from None
        _LOGGER.info(
            f"{part.key}: loaded {len(state)} entries of {part.path}; {len(dropped)} of other layers left out"
            + (f", {', '.join(sorted(kept))} not in the file" if kept else "")
        )


def _parts(cfg: CfgNode, model: nn.Module) -> list[_Part]:
    node = cfg.MODEL
    parts = []
    if node.BACKBONE_WEIGHTS:
        network = model.backbone.network
        parts.append(_Part("MODEL.BACKBONE_WEIGHTS", node.BACKBONE_WEIGHTS, network, _visual_names(cfg)))
    if node.PRE_MASK.ENABLED and node.PRE_MASK.WEIGHTS:
        network = model.pre_mask_encoder.backbone.network
        parts.append(_Part("MODEL.PRE_MASK.WEIGHTS", node.PRE_MASK.WEIGHTS, network, _visual_names(cfg)))
    if node.AUDIO.WEIGHTS:
        parts.append(_Part("MODEL.AUDIO.WEIGHTS", node.AUDIO.WEIGHTS, model.audio_encoder.backbone, _vggish_names))
    return parts


def _vggish_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``features.0.weight`` of the published VGGish is ``0.weight`` of our convolutions."""
    return {key.removeprefix("features."): value for key, value in state.items()}


def _visual_names(cfg: CfgNode) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """Names of the original networks -> those of the networks we build."""
    if cfg.MODEL.BACKBONE.NAME == "build_swin_backbone":
        return lambda state: {key.removeprefix("backbone."): value for key, value in state.items()}
    return lambda state: _timm_names(cfg, state)


def _timm_names(cfg: CfgNode, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {key.removeprefix("backbone."): value for key, value in state.items()}
    name = cfg.MODEL.TIMM.NAME
    if name.startswith("pvt_v2"):
        from timm.models.pvt_v2 import checkpoint_filter_fn

        # Whether the original's stages are taken apart depends on the file only; the model is not looked at.
        state = checkpoint_filter_fn(dict(state), None)
    # timm's feature networks flatten "stages.0" to "stages_0".
    return {re.sub(r"^(stages|layers|blocks)\.(\d+)\.", r"\1_\2.", key): value for key, value in state.items()}
