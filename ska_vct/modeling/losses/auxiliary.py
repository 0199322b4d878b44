"""Losses beside the set criterion that a configuration adds by name (docs/extending.md, Loss)."""

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

They are built from the configuration, and their parameters train and are saved under ``losses.<name>.``."""

# Losses that a weight of MODEL.SKA switches on.
_BY_WEIGHT = {"MapLoss": "MAP_LOSS", "ContrastLoss": "CONTRAST"}


@dataclass(frozen=True)
class LossInputs:
    """Everything a loss may read in one training step.

    Attributes:
        clips: as the mapper made them, see ``ska_vct.structures.clip``.
        batch: their annotated frames in one block of N.
        targets: ground truth of these frames, as masks and as label maps.
        outputs: what every stage of the model made of them.
    """

    clips: Sequence[Mapping]
    batch: FrameBatch
    targets: Targets
    outputs: FrameOutputs


def build_losses(cfg: CfgNode) -> nn.ModuleDict:
    """The modules that ``MODEL.LOSSES`` names, and the losses on the motion map that have a weight.

    Raises:
        InputError: a name is listed twice.
        UnknownNameError: a name is not registered.
    """
    names = [*cfg.MODEL.LOSSES, *(name for name, key in _BY_WEIGHT.items() if cfg.MODEL.SKA[key])]
    if len(set(names)) < len(names):
        raise InputError(f"MODEL.LOSSES lists a loss twice: {', '.join(names)}.")
    return nn.ModuleDict({name: find_registered(LOSS_REGISTRY, name, key="MODEL.LOSSES")(cfg) for name in names})


def add_losses(losses: dict[str, Tensor], modules: nn.ModuleDict, inputs: LossInputs) -> None:
    """Add to ``losses`` what ``modules`` return.

    Raises:
        InputError: a module's loss has a name that is taken.
    """
    for name, module in modules.items():
        found = module(inputs)
        taken = sorted(found.keys() & losses.keys())
        if taken:
            raise InputError(f"MODEL.LOSSES: '{name}' returns {', '.join(taken)}, a name that is taken.")
        losses |= found
