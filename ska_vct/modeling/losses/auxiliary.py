"""Losses in addition to the set criterion, which a config adds by name (docs/extending.md, Loss)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from ska_vct.utils.errors import InputError
from ska_vct.utils.registry import find_registered

from ..batch import FrameBatch
from ..outputs import FrameOutputs
from .targets import Targets

LOSS_REGISTRY = Registry("LOSS")
LOSS_REGISTRY.__doc__ = """Modules that map ``LossInputs`` to weighted losses by name; MODEL.LOSSES lists them.

They are built from the config; their parameters are trained and are stored under ``losses.<name>.``."""

# Losses enabled by a non-zero weight in MODEL.SKA.
_BY_WEIGHT = {"MapLoss": "MAP_LOSS", "ContrastLoss": "CONTRAST"}


@dataclass(frozen=True)
class LossInputs:
    """Everything a loss may read in one training step.

    Attributes:
        clips: as the mapper made them, see ``ska_vct.structures.clip``.
        batch: their annotated frames, stacked to N.
        targets: ground truth of these frames, as masks and as label maps.
        outputs: results of every stage of the model.
    """

    clips: Sequence[Mapping]
    batch: FrameBatch
    targets: Targets
    outputs: FrameOutputs


def build_losses(cfg: CfgNode) -> nn.ModuleDict:
    """Build the losses listed in ``MODEL.LOSSES`` and the losses on the motion map whose weight is not zero.

    Raises:
        InputError: a name is listed twice, or its class is not a module.
        UnknownNameError: a name is not registered.
    """
    names = [*cfg.MODEL.LOSSES, *(name for name, key in _BY_WEIGHT.items() if cfg.MODEL.SKA[key])]
    if len(set(names)) < len(names):
        raise InputError(f"MODEL.LOSSES lists a loss twice: {', '.join(names)}.")
    losses = {name: find_registered(LOSS_REGISTRY, name, key="MODEL.LOSSES")(cfg) for name in names}
    wrong = [name for name, loss in losses.items() if not isinstance(loss, nn.Module)]
    if wrong:
        raise InputError(f"MODEL.LOSSES: '{wrong[0]}' is not a torch.nn.Module; derive its class from that.")
    return nn.ModuleDict(losses)


def add_losses(losses: dict[str, Tensor], modules: nn.ModuleDict, inputs: LossInputs) -> None:
    """Add the results of ``modules`` to ``losses``.

    Raises:
        InputError: a module returns a loss whose name is already in use.
    """
    for name, module in modules.items():
        found = module(inputs)
        taken = sorted(found.keys() & losses.keys())
        if taken:
            raise InputError(f"MODEL.LOSSES: '{name}' returns {', '.join(taken)}, a name that is already in use.")
        losses |= found
