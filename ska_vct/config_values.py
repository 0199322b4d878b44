"""What every config value may be: one table, beside the defaults of :mod:`ska_vct.config`.

:func:`check_values` compares a whole config with it, once, before anything is built. Names that users can register
themselves (backbones, losses, ...) are passed in by the caller.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from detectron2.config import CfgNode

from ska_vct.utils.errors import ConfigError

_SHOWN = 120  # characters of a value in a message


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    Attributes:
        fits: whether a value is allowed.
        allowed: what is, for the message.
        registered: the value, or each of its entries, must also be a registered name.
    """

    fits: Callable[[Any], bool]
    allowed: str
    registered: bool = False


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _limits(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}" if low < high else f" {low:g}"
    return "" if low is None else f" of at least {low:g}"


def integer(low: int, high: int | None = None, *, multiple_of: int = 1, meaning: str = "") -> Rule:
    """A whole number from ``low`` to ``high``, both included."""
    several = f" that is a multiple of {multiple_of}" if multiple_of > 1 else ""
    return Rule(
        lambda v: _is_int(v) and v >= low and (high is None or v <= high) and v % multiple_of == 0,
        f"a whole number{_limits(low, high)}{several}{meaning and f' ({meaning})'}",
    )


def number(low: float | None = None, high: float | None = None, *, meaning: str = "") -> Rule:
    """A finite number from ``low`` to ``high``, both included."""
    return Rule(
        lambda v: _is_number(v) and (low is None or v >= low) and (high is None or v <= high),
        f"a finite number{_limits(low, high)}{meaning and f' ({meaning})'}",
    )


def above_zero(high: float = math.inf) -> Rule:
    """A finite number above 0."""
    most = f" and at most {high:g}" if high < math.inf else ""
    return Rule(lambda v: _is_number(v) and 0 < v <= high, f"a finite number above 0{most}")


def below_one() -> Rule:
    """A rate that may be 0 but not 1."""
    return Rule(lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1")


def one_of(*names: str) -> Rule:
    """One of a few names."""
    return Rule(lambda v: isinstance(v, str) and v in names, f"one of {', '.join(names)}")


def text(pattern: str = "", allowed: str = "text; empty for none") -> Rule:
    """Text, matching a regular expression as a whole if there is one; never with a NUL character."""
    return Rule(
        lambda v: isinstance(v, str) and "\0" not in v and (not pattern or bool(re.fullmatch(pattern, v))), allowed
    )


def list_of(rule: Rule, *, length: int | None = None, empty: bool = False, repeats: bool = True) -> Rule:
    """A list or tuple; all entries follow ``rule``."""
    size = f"of {length} entries" if length is not None else "that may be empty" if empty else "that is not empty"

    def fits(value: Any) -> bool:
        if not isinstance(value, list | tuple) or not all(rule.fits(entry) for entry in value):
            return False
        if not repeats and len(set(value)) < len(value):
            return False
        return len(value) == length if length is not None else empty or len(value) > 0

    different = "" if repeats else ", all different"
    return Rule(fits, f"a list {size}{different}, each entry {rule.allowed}", rule.registered)


def either(first: Rule, second: Rule) -> Rule:
    """What one of two rules allows."""
    return Rule(lambda v: first.fits(v) or second.fits(v), f"{first.allowed}, or {second.allowed}")


BOOLEAN = Rule(lambda v: isinstance(v, bool), "True or False")
COUNT = integer(1)
FRACTION = number(0, 1)
WEIGHT = number(0)
PATH = text()
NAME = text(r".+", "text that is not empty")
REGISTERED = Rule(lambda v: isinstance(v, str), "a registered name", registered=True)
NORM = one_of("BN", "GN")
SIDES = list_of(integer(1, 8192), length=2)
# The network's coarsest features have a stride of 32.
IMAGE_SIDES = list_of(integer(32, 8192), length=2)
DATASETS = list_of(NAME, empty=True, repeats=False)

RULES: Mapping[str, Rule] = {
    "VERSION": integer(2, 2),
    "IMPORTS": list_of(NAME, empty=True),
    "OUTPUT_DIR": NAME,
    "SEED": integer(-1, 2**31 - 1, meaning="-1: another one in every run"),
    "CUDNN_BENCHMARK": BOOLEAN,
    "DATALOADER.NUM_WORKERS": integer(0, 512),
    "DATASETS.SUBSET": NAME,
    "DATASETS.TRAIN": DATASETS,
    "DATASETS.VAL": DATASETS,
    "DATASETS.TEST": DATASETS,
    "DATASETS.ROOT": PATH,
    "DATASETS.PREFER_REBUILT": BOOLEAN,
    "DATASETS.PREPARED": PATH,
    "DATASETS.LEAVE_OUT": PATH,
    "DATASETS.CHECK_SECONDS": number(0),
    "DATASETS.OWN.NAME": text(r"\w*", "letters, digits and underscores; empty for none"),
    "DATASETS.OWN.TITLE": PATH,
    "DATASETS.OWN.CLASSES": either(
        list_of(NAME, length=2, repeats=False),
        Rule(
            lambda v: isinstance(v, list | tuple) and len(v) > 2 and all(isinstance(n, str) and n for n in v),
            "of more, background first",
        ),
    ),
    **dict.fromkeys(
        (f"DATASETS.OWN.{key}" for key in ("TABLE", "IMAGES", "VIDEO", "AUDIO", "LOG_MEL", "MASKS")), PATH
    ),
    "DATASETS.OWN.FRAME_RATE": number(1, 1000),
    "DATASETS.OWN.FIRST_NUMBER": integer(0),
    "DATASETS.OWN.DIGITS": integer(0, 20),
    "DATASETS.OWN.SECONDS": integer(0, 3600, meaning="0: as long as the clip's video or images"),
    "DATASETS.OWN.ANNOTATED": one_of("all", "first", "existing"),
    "INPUT.SIZE": IMAGE_SIDES,
    "INPUT.EVAL_SIZE": SIDES,
    "INPUT.FORMAT": one_of("RGB"),
    "INPUT.SCALES": list_of(above_zero(16)),
    "INPUT.MAX_LONG_SIDE": integer(1, 16384),
    "INPUT.FLIP_PROB": FRACTION,
    "INPUT.COLOR_AUG_SSD": BOOLEAN,
    "INPUT.COLOR_AUG_PER_IMAGE": BOOLEAN,
    "INPUT.RANDOM_CROP": BOOLEAN,
    "INPUT.PAD_VALUE": integer(0, 255),
    "INPUT.ONLY_ANNOTATED": BOOLEAN,
    "INPUT.FRAMES_PER_CLIP": integer(0, meaning="0: all"),
    "INPUT.AUDIO.SOURCE": one_of("auto", "pickle", "npy", "wav"),
    "INPUT.AUDIO.GAIN_DB": number(0, 60),
    "INPUT.AUDIO.NEGATIVES": FRACTION,
    "INPUT.AUDIO.NEGATIVE_KINDS": list_of(one_of("silence", "noise", "other"), repeats=False),
    "INPUT.FLOW.ROOT": PATH,
    "INPUT.FLOW.NORM": one_of("frame", "clip", "diagonal"),
    "INPUT.FLOW.DIAGONAL_SHARE": above_zero(),
    "INPUT.FLOW.SERIES": integer(1, 1000),
    "INPUT.FLOW.GROUPING": one_of("mean", "middle"),
    "INPUT.FLOW.SIZE": SIDES,
    "INPUT.FLOW.FIRST_FRAME": one_of("forward", "zero"),
    "INPUT.FLOW.MISSING": one_of("error", "zero"),
    "INPUT.FLOW.CAMERA": one_of("none", "affine", "affine_soft"),
    "INPUT.FLOW.ONLINE": BOOLEAN,
    "INPUT.FLOW.METHOD": one_of("dis", "farneback"),
    "INPUT.CACHE.ROOT": PATH,
    "INPUT.CACHE.MAX_GB": above_zero(),
    "INPUT.CACHE.MEMORY_GB": number(0, 100000),
    "INPUT.CACHE.SHORT_SIDE": integer(0, 8192, meaning="0: that of INPUT.SIZE"),
    "INPUT.PRE_MASK.ROOT": PATH,
    "MODEL.DEVICE": text(r"cpu|mps|cuda(:\d+)?", "cpu, cuda, cuda:N or mps"),
    "MODEL.META_ARCHITECTURE": REGISTERED,
    "MODEL.NUM_CLASSES": integer(2, 65535, meaning="background included"),
    "MODEL.HIDDEN_DIM": integer(32, multiple_of=32),
    "MODEL.PIXEL_MEAN": list_of(number(), length=3),
    "MODEL.PIXEL_STD": list_of(above_zero(), length=3),
    "MODEL.COMPILE": BOOLEAN,
    "MODEL.PRETRAINED": BOOLEAN,
    "MODEL.WEIGHTS": PATH,
    "MODEL.BACKBONE_WEIGHTS": PATH,
    "MODEL.RESIZE_ON_LOAD": BOOLEAN,
    "MODEL.WEIGHTS_SKIP": list_of(NAME, empty=True),
    "MODEL.BACKBONE.NAME": REGISTERED,
    "MODEL.BACKBONE.FREEZE_AT": integer(-1, 5),
    "MODEL.BACKBONE.CHECKPOINT": BOOLEAN,
    "MODEL.BACKBONE.FREEZE_NORMS": BOOLEAN,
    "MODEL.SWIN.EMBED_DIM": COUNT,
    "MODEL.SWIN.DEPTHS": list_of(COUNT, length=4),
    "MODEL.SWIN.NUM_HEADS": list_of(COUNT, length=4),
    "MODEL.SWIN.WINDOW_SIZE": integer(2),
    "MODEL.SWIN.PATCH_SIZE": integer(4, 4),
    "MODEL.SWIN.PRETRAIN_IMG_SIZE": integer(32),
    "MODEL.SWIN.MLP_RATIO": above_zero(),
    "MODEL.SWIN.QKV_BIAS": BOOLEAN,
    "MODEL.SWIN.APE": BOOLEAN,
    "MODEL.SWIN.PATCH_NORM": BOOLEAN,
    "MODEL.SWIN.DROP_PATH_RATE": below_one(),
    "MODEL.TIMM.NAME": NAME,
    "MODEL.TIMM.DROP_PATH_RATE": below_one(),
    "MODEL.PRE_MASK.ENABLED": BOOLEAN,
    "MODEL.PRE_MASK.REDUCTION": COUNT,
    "MODEL.PRE_MASK.WEIGHTS": PATH,
    "MODEL.AUDIO.NAME": REGISTERED,
    "MODEL.AUDIO.CHANNELS": list_of(COUNT, length=6),
    "MODEL.AUDIO.MLP_DIMS": list_of(COUNT, empty=True),
    "MODEL.AUDIO.FREEZE": BOOLEAN,
    "MODEL.AUDIO.WEIGHTS": PATH,
    "MODEL.AUDIO.YAMNET_MLP_DIM": COUNT,
    "MODEL.PIXEL_DECODER.IN_FEATURES": list_of(NAME, length=4, repeats=False),
    "MODEL.PIXEL_DECODER.ENC_LAYERS": COUNT,
    "MODEL.PIXEL_DECODER.NUM_HEADS": COUNT,
    "MODEL.PIXEL_DECODER.NUM_POINTS": COUNT,
    "MODEL.PIXEL_DECODER.FEEDFORWARD_DIM": COUNT,
    "MODEL.PIXEL_DECODER.DROPOUT": below_one(),
    "MODEL.PIXEL_DECODER.CHECKPOINT": BOOLEAN,
    "MODEL.PIXEL_DECODER.DEFORM_ATTN": one_of("auto", "torch", "triton", "ms_deform_attn", "grid_sample"),
    "MODEL.PIXEL_DECODER.AMP": BOOLEAN,
    "MODEL.PIXEL_DECODER.MASK_DIM": integer(0, meaning="0: MODEL.HIDDEN_DIM"),
    "MODEL.SKA.ENABLED": BOOLEAN,
    "MODEL.SKA.NAME": REGISTERED,
    "MODEL.SKA.CHANNELS": one_of("magnitude", "uvm"),
    "MODEL.SKA.GRID": SIDES,
    "MODEL.SKA.FLOW_DIM": COUNT,
    "MODEL.SKA.NUM_HEADS": COUNT,
    "MODEL.SKA.ENERGY_PRIOR": one_of("auto", "on", "off"),
    "MODEL.SKA.ENERGY_INIT": number(),
    "MODEL.SKA.ENERGY_UNIT": one_of("flow", "frame"),
    "MODEL.SKA.SERIES_DIM": COUNT,
    "MODEL.SKA.MATCH_SCALE": number(),
    "MODEL.SKA.CENTRED": BOOLEAN,
    "MODEL.SKA.STEPS": either(integer(0, 0), integer(2, 1000)),
    "MODEL.SKA.AUDIO": one_of("second", "patch"),
    "MODEL.SKA.MAP": one_of("softmax", "sigmoid"),
    "MODEL.SKA.SPEED_FLOOR": number(0),
    "MODEL.SKA.CONFIDENCE": BOOLEAN,
    "MODEL.SKA.NORM": NORM,
    "MODEL.SKA.MAP_AS_FEATURE": BOOLEAN,
    "MODEL.SKA.MAP_RADII": list_of(above_zero(0.5), empty=True),
    "MODEL.SKA.MAP_LOSS": WEIGHT,
    "MODEL.SKA.CONTRAST": WEIGHT,
    "MODEL.MPQG.MOTION": BOOLEAN,
    "MODEL.MPQG.GATE_INIT": number(),
    "MODEL.MPQG.ANCHORS": integer(0, meaning="0: off"),
    "MODEL.MPQG.ANCHOR_FEATURES": one_of("modulated", "plain"),
    "MODEL.MPQG.PRE_DIM": COUNT,
    "MODEL.MPQG.MIXER_DIM": COUNT,
    "MODEL.MPQG.MIXER_GRID": either(SIDES, Rule(lambda v: list(v) == [0, 0], "(0, 0) for INPUT.SIZE / 4")),
    "MODEL.MPQG.NUM_PROTOTYPES": integer(0, meaning="0: none"),
    "MODEL.MPQG.NUM_HEADS": COUNT,
    "MODEL.MPQG.GUMBEL_TAU": above_zero(),
    "MODEL.DECODER.NUM_QUERIES": COUNT,
    "MODEL.DECODER.NUM_LAYERS": COUNT,
    "MODEL.DECODER.NUM_HEADS": COUNT,
    "MODEL.DECODER.FEEDFORWARD_DIM": COUNT,
    "MODEL.DECODER.CHECKPOINT": BOOLEAN,
    "MODEL.BRM.ENABLED": BOOLEAN,
    "MODEL.BRM.HIGH_FREQUENCY": BOOLEAN,
    "MODEL.BRM.FUSION": WEIGHT,
    "MODEL.BRM.DIM": COUNT,
    "MODEL.BRM.NORM": NORM,
    "MODEL.BRM.POS_WEIGHT": above_zero(),
    "MODEL.BRM.LOSS_WEIGHT": WEIGHT,
    "MODEL.LOSSES": list_of(REGISTERED, empty=True, repeats=False),
    **dict.fromkeys(
        (f"MODEL.CRITERION.{name}_WEIGHT" for name in ("CLASS", "MASK", "DICE", "PROTO", "NO_OBJECT")), WEIGHT
    ),
    "MODEL.CRITERION.DEEP_SUPERVISION": BOOLEAN,
    "MODEL.CRITERION.NUM_POINTS": integer(0, meaning="0: every cell of the mask grid"),
    "MODEL.CRITERION.OVERSAMPLE_RATIO": number(1),
    "MODEL.CRITERION.IMPORTANCE_RATIO": FRACTION,
    "SOLVER.OPTIMIZER": one_of("ADAMW"),
    "SOLVER.BASE_LR": above_zero(),
    "SOLVER.BASE_LR_END": number(0),
    "SOLVER.WEIGHT_DECAY": WEIGHT,
    "SOLVER.WEIGHT_DECAY_NORM": WEIGHT,
    "SOLVER.WEIGHT_DECAY_EMBED": WEIGHT,
    "SOLVER.BACKBONE_MULTIPLIER": WEIGHT,
    "SOLVER.AUDIO_MULTIPLIER": number(-1, meaning="-1: as SOLVER.BACKBONE_MULTIPLIER"),
    "SOLVER.LR_SCHEDULER_NAME": one_of(
        "WarmupPolyLR", "WarmupCosineLR", "WarmupMultiStepLR", "WarmupStepWithFixedGammaLR"
    ),
    "SOLVER.POLY_LR_POWER": number(0),
    "SOLVER.POLY_LR_CONSTANT_ENDING": FRACTION,
    "SOLVER.STEPS": list_of(integer(0), empty=True),
    "SOLVER.GAMMA": above_zero(),
    "SOLVER.NUM_DECAYS": COUNT,
    "SOLVER.RESCALE_INTERVAL": BOOLEAN,
    "SOLVER.WARMUP_ITERS": integer(0),
    "SOLVER.WARMUP_FACTOR": FRACTION,
    "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
    "SOLVER.CLIP_FULL_MODEL_NORM": number(0, meaning="0: off"),
    "SOLVER.SKIP_SICK_STEPS": integer(0, meaning="0: none"),
    "SOLVER.MAX_ITER": COUNT,
    "SOLVER.IMS_PER_BATCH": COUNT,
    "SOLVER.CHECKPOINT_PERIOD": COUNT,
    "SOLVER.CHECKPOINTS_TO_KEEP": integer(0, meaning="0: all"),
    "SOLVER.AMP.ENABLED": BOOLEAN,
    "SOLVER.AMP.DTYPE": one_of("auto", "bf16", "fp16"),
    "SOLVER.FROZEN": list_of(NAME, empty=True),
    "TEST.EVAL_PERIOD": integer(0, meaning="0: only after the last iteration"),
    "TEST.BATCH_SIZE": COUNT,
    "TEST.RETURN_EXTRAS": BOOLEAN,
    "TEST.THRESHOLD": number(0, 1, meaning="0: the class with the highest score"),
    "TEST.CONVENTION": one_of("combo", "tpavi", "dataset", "pooled"),
    "TEST.IMAGES": integer(0),
    "TEST.SAVE_PREDICTIONS": BOOLEAN,
    "LOG.WANDB": text(),
}

# Whatever a user's own parts, or timm's network, take.
FREE = ("MODEL.EXTRA.*", "MODEL.TIMM.KWARGS.*")
# Keys that Detectron2 has for its own detectors and SKA-VCT never reads, so that no value of theirs can matter.
UNREAD = (
    *(f"INPUT.{key}" for key in ("*_SIZE_TRAIN", "*_SIZE_TEST", "MIN_SIZE_TRAIN_SAMPLING", "RANDOM_FLIP")),
    "INPUT.CROP.*", "INPUT.MASK_FORMAT", "DATASETS.PROPOSAL_FILES_*", "DATASETS.PRECOMPUTED_PROPOSAL_*",
    *(f"DATALOADER.{key}" for key in ("ASPECT_RATIO_GROUPING", "SAMPLER_TRAIN", "REPEAT_*", "FILTER_EMPTY_*")),
    *(f"MODEL.{key}" for key in ("LOAD_PROPOSALS", "MASK_ON", "KEYPOINT_ON")),
    *(f"MODEL.{key}.*" for key in ("FPN", "PROPOSAL_GENERATOR", "ANCHOR_GENERATOR", "RPN", "ROI_*")),
    *(f"MODEL.{key}.*" for key in ("SEM_SEG_HEAD", "PANOPTIC_FPN", "RETINANET", "RESNETS")),
    *(f"SOLVER.{key}" for key in ("MOMENTUM", "NESTEROV", "REFERENCE_WORLD_SIZE", "BIAS_LR_FACTOR")),
    "SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.CLIP_GRADIENTS.*", "TEST.EXPECTED_RESULTS", "TEST.KEYPOINT_OKS_SIGMAS",
    "TEST.DETECTIONS_PER_IMAGE", "TEST.AUG.*", "TEST.PRECISE_BN.*", "VIS_PERIOD", "GLOBAL.HACK",
)  # fmt: skip


def check_value(key: str, value: Any, registered: Mapping[str, Collection[str]] | None = None) -> None:
    """Check one value.

    Args:
        key: its full name.
        value: what the config says.
        registered: names that the keys of registered parts may have, by key; None: any.

    Raises:
        ConfigError: the value is not allowed; the message says what is.
    """
    rule = RULES[key]
    allowed, fits = rule.allowed, rule.fits(value)
    if fits and rule.registered and registered is not None:
        names = registered[key]
        fits = all(name in names for name in ([value] if isinstance(value, str) else value))
        known = ", ".join(sorted(names)) or "there are none"
        allowed = f"{allowed}: {known}; modules of your own register theirs when IMPORTS names them"
    if not fits:
        raise ConfigError(f"{key} is {shorten(repr(value))}; allowed is {allowed}.")


def check_values(cfg: CfgNode, registered: Mapping[str, Collection[str]] | None = None) -> None:
    """Check all values of a config.

    Args:
        cfg: the config.
        registered: see :func:`check_value`.

    Raises:
        ConfigError: a value is not allowed; the message names the first such key, its value and what is allowed.
    """
    for key, value in leaves(cfg):
        if not is_unchecked(key):
            check_value(key, value, registered)


def shorten(value: str) -> str:
    """The start of what may be very long, for a message."""
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."


def is_unchecked(key: str) -> bool:
    """Whether a key is left out of the table on purpose."""
    return any(fnmatchcase(key, pattern) for pattern in (*FREE, *UNREAD))


def leaves(node: Mapping, prefix: str = "") -> list[tuple[str, Any]]:
    """Full names and values of all keys of a config."""
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [(f"{prefix}{key}", value)]
    return found
