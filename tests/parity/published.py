"""Published names and config keys of the recipe files, and our model and config for them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ska_vct.checkpoint.convert.vct import from_vct
from ska_vct.engine.setup import load_cfg

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SUBSET_NAMES = ("s4", "ms3", "avss")
# With these our model is VCT.
_AS_VCT = [
    "MODEL.DEVICE", "cpu", "MODEL.SKA.ENABLED", "False", "MODEL.MPQG.MOTION", "False",
    "MODEL.BRM.ENABLED", "False",
]  # fmt: skip
_KEYS = {
    "MODEL.SWIN.USE_CHECKPOINT": "MODEL.BACKBONE.CHECKPOINT",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": "MODEL.PIXEL_DECODER.ENC_LAYERS",
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": "MODEL.DECODER.FEEDFORWARD_DIM",
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": "MODEL.DECODER.NUM_QUERIES",
    "MODEL.MASK_FORMER.NHEADS": "MODEL.DECODER.NUM_HEADS",
    "MODEL.MASK_FORMER.HIDDEN_DIM": "MODEL.HIDDEN_DIM",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "MODEL.NUM_CLASSES",
    "MODEL.PRE_SAM.USE_PRE_SAM": "MODEL.PRE_MASK.ENABLED",
    "MODEL.AUDIO.FREEZE_AUDIO_EXTRACTOR": "MODEL.AUDIO.FREEZE",
    "INPUT.MAX_SIZE_TRAIN": "INPUT.MAX_LONG_SIDE",
    "INPUT.CROP.SIZE": "INPUT.SIZE",
}
# They say with other keys what ours follows from these.
_FOLLOWS = ("INPUT.SIZE_DIVISIBILITY",)


def subset_of(path: Path) -> str:
    """Subset that a recipe file's name gives, e.g. ``recipe_optimizer_s4.npz``.

    Raises:
        ValueError: there is none in it.
    """
    found = re.search(rf"_({'|'.join(SUBSET_NAMES)})(?![a-z0-9])", Path(path).stem)
    if found is None:
        raise ValueError(f"{path}: the file's name must name its subset, one of {', '.join(SUBSET_NAMES)}.")
    return found[1]


def published_cfg(subset: str, changes: Mapping = {}, solver: Mapping = {}) -> CfgNode:
    """Our config of the paper for ``subset``, as VCT, with published keys changed.

    Args:
        subset: s4, ms3 or avss.
        changes: published config key -> value.
        solver: facts of ``solver`` in a recipe file, where present.

    Raises:
        KeyError: naming a published key that has no counterpart here.
    """
    cfg = load_cfg(CONFIGS / subset / "swin_b_384.yaml", _AS_VCT)
    facts = {
        f"SOLVER.{key}": solver[key]
        for key in (
            "MAX_ITER", "IMS_PER_BATCH", "BASE_LR", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_EMBED",
            "BACKBONE_MULTIPLIER", "POLY_LR_POWER", "POLY_LR_CONSTANT_ENDING", "WARMUP_FACTOR", "WARMUP_ITERS",
        )
        if key in solver
    }  # fmt: skip
    if "CLIP_VALUE" in solver:
        facts["SOLVER.CLIP_FULL_MODEL_NORM"] = solver["CLIP_VALUE"] if solver.get("CLIP_ENABLED", True) else 0.0
    for key, value in {**facts, **changes}.items():
        if key in _FOLLOWS:
            continue
        if key == "MODEL.MASK_FORMER.DEC_LAYERS":
            # The published count includes the prediction before the first layer.
            key, value = "MODEL.DECODER.NUM_LAYERS", value - 1
        elif key == "INPUT.MIN_SIZE_TRAIN":
            key, value = "INPUT.SCALES", [(side + 0.5) / min(cfg.INPUT.SIZE) for side in value]
        elif key == "SOLVER.CLIP_GRADIENTS.CLIP_VALUE":
            key = "SOLVER.CLIP_FULL_MODEL_NORM"
        _set(cfg, _KEYS.get(key, key), value)
    return cfg


def _set(cfg: CfgNode, key: str, value) -> None:
    *parents, last = key.split(".")
    node = cfg
    for parent in parents:
        node = node.get(parent, {})
    if last not in node:
        raise KeyError(f"The published config key {key} has no counterpart in ska_vct/config.py.")
    kind = type(node[last])
    node[last] = kind(value) if kind in (float, list, tuple) else value


@dataclass(frozen=True)
class Names:
    """Which of our parameters a published one becomes.

    Attributes:
        ours: published name -> our names; query, key and value are one matrix there and three here.
        unused: published name -> why ours has none.
    """

    ours: dict[str, list[str]]
    unused: dict[str, str]

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> "Names":
        """Names of published parameters, through the key map of checkpoints.

        Args:
            shapes: of the parameters by published name.
        """
        numbered = {
            name: torch.full(tuple(shape[:1]), number) for number, (name, shape) in enumerate(shapes.items())
        }
        converted = from_vct(numbered)
        published = list(shapes)
        ours: dict[str, list[str]] = {}
        for name, number in converted.state.items():
            ours.setdefault(published[int(number.flatten()[0])], []).append(name)
        return cls(ours=ours, unused=converted.unused)

    def to_ours(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Some published parameters in our names."""
        result = {}
        for name, value in published.items():
            ours = self.ours[name]
            result |= dict(zip(ours, value.chunk(len(ours)) if value.dim() else [value], strict=True))
        return result


def joined(parts: list[Tensor]) -> Tensor:
    """One published parameter from ours."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name."""
    return dict(model.named_parameters())
