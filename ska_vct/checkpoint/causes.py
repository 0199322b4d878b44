"""Explains why a checkpoint does not fit the model, and which config key to set."""

import math
import re
from collections.abc import Callable, Collection, Mapping

from .convert.formats import BACKBONE

Shape = tuple[int, ...]


def _skip(*starts: str) -> str:
    return f'MODEL.WEIGHTS_SKIP "{list(starts)}"'


# Entry name -> explanation from its (found, wanted) shapes; the first matching entry is used.
_SHAPES: tuple[tuple[str, Callable[[Shape, Shape], str | None]], ...] = (
    (
        r"decoder\.norm\.weight",
        lambda f, w: f"the decoder is {f[0]} wide in the file, {w[0]} in the config: set MODEL.HIDDEN_DIM {f[0]}",
    ),
    (
        r"decoder\.class_embed\.bias",
        lambda f, w: (
            f"the file has {f[0] - 1} classes, the config {w[0] - 1}: use the config of its dataset "
            f"(MODEL.NUM_CLASSES {f[0] - 1}), or train new ones with {_skip('decoder.class_embed.')}"
        ),
    ),
    (
        r"decoder\.query_embed\.weight",
        lambda f, w: (
            _unless_equal(f[0], w[0])
            and f"the file has {f[0]} queries, the config {w[0]}: set MODEL.DECODER.NUM_QUERIES {f[0]}"
        ),
    ),
    (
        r"mpqg\.prototypes\.weight",
        lambda f, w: (
            _unless_equal(f[0], w[0])
            and f"the file has {f[0]} prototypes, the config {w[0]}: use the config of its dataset "
            f"(MODEL.MPQG.NUM_PROTOTYPES {f[0]}), or learn new ones with {_skip('mpqg.prototypes.')}"
        ),
    ),
    (
        r"mpqg\.query_mixer\.0\.weight",
        lambda f, w: (
            _unless_equal(f[1], w[1])
            and f"the query mixer was made for {_grid(f[1])}, the config's input gives {_grid(w[1])}: set "
            "INPUT.SIZE or MODEL.MPQG.MIXER_GRID to the file's, or MODEL.RESIZE_ON_LOAD True"
        ),
    ),
    (
        r".*relative_position_bias_table",
        lambda f, w: (
            _unless_equal(f[0], w[0])
            and f"the file's windows are {_window(f[0])} wide, the config's {_window(w[0])}: set "
            f"MODEL.SWIN.WINDOW_SIZE {_window(f[0])}, or MODEL.RESIZE_ON_LOAD True"
        ),
    ),
    (
        r".*patch_embed\.proj\.bias",
        lambda f, w: (
            f"the backbone is {f[0]} wide in the file, {w[0]} in the config: it is a different size of "
            "backbone, so choose its config"
        ),
    ),
    (
        r"pixel_decoder\.mask_features\.bias",
        lambda f, w: (
            f"the mask features are {f[0]} wide in the file, {w[0]} in the config: set "
            f"MODEL.PIXEL_DECODER.MASK_DIM {f[0]}"
        ),
    ),
    (r"pixel_decoder\.layers\.0\.linear1\.bias", lambda f, w: f"set MODEL.PIXEL_DECODER.FEEDFORWARD_DIM {f[0]}"),
    (
        r"decoder\.layers\.0\.feed_forward\.linear1\.bias",
        lambda f, w: f"set MODEL.DECODER.FEEDFORWARD_DIM {f[0]}",
    ),
    (
        r"audio_encoder\.backbone\.",
        lambda f, w: "the audio backbone has different widths: see MODEL.AUDIO.CHANNELS",
    ),
    (
        r"audio_encoder\.mlp\.0\.bias",
        lambda f, w: f"the audio MLP is {f[0]} wide in the file, {w[0]} in the config: see MODEL.AUDIO.MLP_DIMS",
    ),
)
# Name prefix -> cause if only the model has it, and cause if only the file has it.
_PARTS: tuple[tuple[str, str, str], ...] = (
    (
        r"pre_mask_encoder\.",
        "the file has no pre-mask encoder: set MODEL.PRE_MASK.ENABLED False, or train one with "
        + _skip("pre_mask_encoder."),
        "the file was trained with a pre-mask encoder: set MODEL.PRE_MASK.ENABLED True, or start without it with "
        + _skip("pre_mask_encoder."),
    ),
    (
        r"ska\.energy_weight",
        "the file's SKA has no energy prior: set MODEL.SKA.ENERGY_PRIOR off",
        "the file's SKA has an energy prior: set MODEL.SKA.ENERGY_PRIOR on",
    ),
    (
        r"(ska\.(?!energy_weight)|mpqg\.motion_gate|mpqg\.retrieved_proj)",
        "the file has no SKA: set MODEL.SKA.ENABLED False and it is VCT, or train SKA with "
        + _skip("ska.", "mpqg.motion_gate", "mpqg.retrieved_proj."),
        "the file was trained with SKA: set MODEL.SKA.ENABLED True, MODEL.MPQG.MOTION True and MODEL.SKA.NAME as "
        "there",
    ),
    (
        r"brm\.",
        "the file has no BRM: set MODEL.BRM.ENABLED False, or train one with " + _skip("brm."),
        "the file was trained with BRM: set MODEL.BRM.ENABLED True",
    ),
    (
        r"(mpqg\.prototype|prototype_alignment)",
        "the file has no prototypes: set MODEL.MPQG.NUM_PROTOTYPES 0, or learn some with "
        + _skip("mpqg.prototype", "prototype_alignment."),
        "the file has prototypes, the config none: set MODEL.MPQG.NUM_PROTOTYPES as in training, or start without "
        "them with " + _skip("mpqg.prototype", "prototype_alignment."),
    ),
    (
        r"audio_encoder\.backbone\.",
        "the file has no VGGish: it does not hold the whole model",
        "the file's audio backbone has different layers",
    ),
    (
        r"pixel_decoder\.layers\.\d",
        "the file's pixel decoder has fewer layers: see MODEL.PIXEL_DECODER.ENC_LAYERS",
        "the file's pixel decoder has more layers: see MODEL.PIXEL_DECODER.ENC_LAYERS",
    ),
    (
        r"decoder\.layers\.\d",
        "the file's decoder has fewer layers: see MODEL.DECODER.NUM_LAYERS",
        "the file's decoder has more layers: see MODEL.DECODER.NUM_LAYERS",
    ),
)
_OTHER_BACKBONE = (
    "the file's backbone ({}) is not the config's ({}): choose the config with that backbone "
    "(MODEL.BACKBONE.NAME, MODEL.TIMM.NAME)"
)
_OTHER_DEPTH = (
    "the file's backbone has a different number of blocks, so it is a different size: choose its config "
    "(MODEL.SWIN.DEPTHS, MODEL.TIMM.NAME)"
)


def likely_causes(
    *, shapes: Mapping[str, tuple[Shape, Shape]], missing: Collection[str], unexpected: Collection[str]
) -> list[str]:
    """Explain each difference in one sentence without a full stop, naming the key to set.

    Args:
        shapes: entry -> (shape in the file, shape in the model).
        missing: entries that only the model has.
        unexpected: entries that only the file has.
    """
    causes = []
    for pattern, explain in _SHAPES:
        name = next((name for name in shapes if re.match(pattern, name)), None)
        if name is not None:
            causes.append(explain(*shapes[name]))
    for pattern, absent, surplus in _PARTS:
        for names, cause in ((missing, absent), (unexpected, surplus)):
            if any(re.match(pattern, name) for name in names):
                causes.append(cause)
    causes.append(_backbone_cause(missing, unexpected))
    return list(dict.fromkeys(cause for cause in causes if cause))


def _backbone_cause(missing: Collection[str], unexpected: Collection[str]) -> str | None:
    absent, surplus = ({n for n in names if BACKBONE in n} for names in (missing, unexpected))
    if absent and surplus:
        kinds = [_kind(surplus), _kind(absent)]
        if kinds[0] != kinds[1]:
            return _OTHER_BACKBONE.format(*kinds)
    return _OTHER_DEPTH if absent or surplus else None


def _kind(names: Collection[str]) -> str:
    for start, kind in (("layers.", "Swin"), ("stages_", "PVTv2 or similar"), ("layer1.", "ResNet")):
        if any(name.split(BACKBONE, 1)[1].startswith(start) for name in names):
            return kind
    return "unknown"


def _unless_equal(found: int, wanted: int) -> bool:
    return found != wanted


def _window(rows: int) -> int:
    return (math.isqrt(rows) + 1) // 2


def _grid(cells: int) -> str:
    side = math.isqrt(cells)
    return f"{side} x {side} cells" if side * side == cells else f"{cells} cells"
