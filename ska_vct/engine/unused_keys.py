"""Config keys that were changed but that nothing reads, because of what other keys choose."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from detectron2.config import CfgNode

from ska_vct.config import get_cfg


class _Rule(NamedTuple):
    """Keys below ``parent`` that are read only if ``is_read``; else ``reason`` completes "no effect: ..."."""

    parent: str
    keys: str
    is_read: Callable[[CfgNode], bool]
    reason: str


def _uses_motion(cfg: CfgNode) -> bool:
    return cfg.MODEL.SKA.ENABLED and cfg.MODEL.MPQG.MOTION


def _ska_is(*names: str) -> Callable[[CfgNode], bool]:
    # A motion module of the user's own may read any key.
    builtin = {"SKA", "FlowGatedSKA", "TemporalSKA", "FlowMagnitude"}
    return lambda cfg: cfg.MODEL.SKA.NAME in names or cfg.MODEL.SKA.NAME not in builtin


_TEMPORAL = "SERIES_DIM MATCH_SCALE CENTRED STEPS AUDIO SPEED_FLOOR CONFIDENCE MAP ENERGY_UNIT CONTRAST"
_NETWORK = "FLOW_DIM NORM"
_MATCHING = "CHANNELS NUM_HEADS ENERGY_PRIOR ENERGY_INIT"
_MAP = "MAP_AS_FEATURE MAP_RADII MAP_LOSS"
# From the general to the particular; a key is reported once.
_RULES = (
    _Rule("MODEL.SKA", f"NAME {_MATCHING} {_NETWORK} {_TEMPORAL} {_MAP}", _uses_motion,
          "MODEL.SKA.ENABLED or MODEL.MPQG.MOTION is False"),
    _Rule("MODEL.MPQG", "GATE_INIT ANCHORS ANCHOR_FEATURES", _uses_motion,
          "MODEL.SKA.ENABLED or MODEL.MPQG.MOTION is False"),
    _Rule("INPUT.FLOW", "ROOT NORM DIAGONAL_SHARE SERIES GROUPING SIZE FIRST_FRAME CAMERA ONLINE METHOD",
          lambda cfg: cfg.MODEL.SKA.ENABLED, "MODEL.SKA.ENABLED is False, so no flow is read"),
    _Rule("MODEL.SKA", "MAP_RADII", lambda cfg: cfg.MODEL.SKA.MAP_AS_FEATURE, "MODEL.SKA.MAP_AS_FEATURE is False"),
    _Rule("MODEL.SKA", _TEMPORAL, _ska_is("TemporalSKA"), "MODEL.SKA.NAME is {MODEL.SKA.NAME}, not TemporalSKA"),
    _Rule("MODEL.SKA", _NETWORK, _ska_is("SKA", "FlowGatedSKA"),
          "MODEL.SKA.NAME is {MODEL.SKA.NAME}, not SKA or FlowGatedSKA"),
    _Rule("MODEL.SKA", _MATCHING, _ska_is("SKA", "FlowGatedSKA", "TemporalSKA"),
          "MODEL.SKA.NAME is {MODEL.SKA.NAME}, which only measures the speed"),
    _Rule("MODEL.SKA", "ENERGY_INIT ENERGY_UNIT",
          lambda cfg: cfg.MODEL.SKA.ENERGY_PRIOR == "on"
          or (cfg.MODEL.SKA.ENERGY_PRIOR == "auto" and _ska_is("TemporalSKA")(cfg)),
          "MODEL.SKA.ENERGY_PRIOR is {MODEL.SKA.ENERGY_PRIOR}"),
    _Rule("MODEL.SKA", "CONFIDENCE", lambda cfg: cfg.MODEL.SKA.MAP != "sigmoid", "MODEL.SKA.MAP is sigmoid"),
    _Rule("MODEL.SKA", "SPEED_FLOOR", lambda cfg: cfg.INPUT.FLOW.NORM == "diagonal",
          "INPUT.FLOW.NORM is {INPUT.FLOW.NORM}, not diagonal"),
    _Rule("INPUT.FLOW", "DIAGONAL_SHARE", lambda cfg: cfg.INPUT.FLOW.NORM == "diagonal",
          "INPUT.FLOW.NORM is {INPUT.FLOW.NORM}, not diagonal"),
    _Rule("INPUT.FLOW", "METHOD", lambda cfg: cfg.INPUT.FLOW.ONLINE, "INPUT.FLOW.ONLINE is False"),
    _Rule("MODEL.MPQG", "ANCHOR_FEATURES", lambda cfg: cfg.MODEL.MPQG.ANCHORS > 0, "MODEL.MPQG.ANCHORS is 0"),
    _Rule("MODEL.BRM", "HIGH_FREQUENCY DIM NORM POS_WEIGHT LOSS_WEIGHT", lambda cfg: cfg.MODEL.BRM.ENABLED,
          "MODEL.BRM.ENABLED is False"),
    _Rule("MODEL.PRE_MASK", "REDUCTION WEIGHTS", lambda cfg: cfg.MODEL.PRE_MASK.ENABLED,
          "MODEL.PRE_MASK.ENABLED is False"),
    _Rule("INPUT.PRE_MASK", "ROOT", lambda cfg: cfg.MODEL.PRE_MASK.ENABLED, "MODEL.PRE_MASK.ENABLED is False"),
    _Rule("MODEL.SWIN", "EMBED_DIM DEPTHS NUM_HEADS WINDOW_SIZE PATCH_SIZE PRETRAIN_IMG_SIZE MLP_RATIO QKV_BIAS "
          "APE PATCH_NORM DROP_PATH_RATE", lambda cfg: cfg.MODEL.BACKBONE.NAME != "build_timm_backbone",
          "MODEL.BACKBONE.NAME is build_timm_backbone, which reads MODEL.TIMM"),
    _Rule("MODEL.TIMM", "NAME DROP_PATH_RATE KWARGS", lambda cfg: cfg.MODEL.BACKBONE.NAME != "build_swin_backbone",
          "MODEL.BACKBONE.NAME is build_swin_backbone, which reads MODEL.SWIN"),
    _Rule("MODEL.AUDIO", "CHANNELS MLP_DIMS", lambda cfg: cfg.MODEL.AUDIO.NAME == "VGGishEncoder",
          "MODEL.AUDIO.NAME is {MODEL.AUDIO.NAME}, not VGGishEncoder"),
    _Rule("MODEL.AUDIO", "YAMNET_MLP_DIM", lambda cfg: cfg.MODEL.AUDIO.NAME != "VGGishEncoder",
          "MODEL.AUDIO.NAME is VGGishEncoder"),
    _Rule("MODEL.BACKBONE", "FREEZE_NORMS", lambda cfg: cfg.MODEL.BACKBONE.NAME != "build_swin_backbone",
          "MODEL.BACKBONE.NAME is build_swin_backbone"),
    _Rule("MODEL.CRITERION", "OVERSAMPLE_RATIO IMPORTANCE_RATIO", lambda cfg: cfg.MODEL.CRITERION.NUM_POINTS > 0,
          "MODEL.CRITERION.NUM_POINTS is 0, so no points are sampled"),
    _Rule("INPUT.AUDIO", "NEGATIVE_KINDS", lambda cfg: cfg.INPUT.AUDIO.NEGATIVES > 0,
          "INPUT.AUDIO.NEGATIVES is 0"),
    _Rule("INPUT.CACHE", "MAX_GB SHORT_SIDE", lambda cfg: bool(cfg.INPUT.CACHE.ROOT), "INPUT.CACHE.ROOT is empty"),
    _Rule("INPUT", "COLOR_AUG_PER_IMAGE", lambda cfg: cfg.INPUT.COLOR_AUG_SSD, "INPUT.COLOR_AUG_SSD is False"),
    _Rule("SOLVER", "POLY_LR_POWER POLY_LR_CONSTANT_ENDING",
          lambda cfg: cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupPolyLR",
          "SOLVER.LR_SCHEDULER_NAME is {SOLVER.LR_SCHEDULER_NAME}, not WarmupPolyLR"),
    _Rule("SOLVER.AMP", "DTYPE", lambda cfg: cfg.SOLVER.AMP.ENABLED, "SOLVER.AMP.ENABLED is False"),
)  # fmt: skip


def unused_keys(cfg: CfgNode, chosen: Collection[str] | None = None) -> list[str]:
    """Keys whose value is not the default and that have no effect in this configuration, one sentence per reason.

    Args:
        cfg: the configuration of a run.
        chosen: report only these, see :func:`ska_vct.engine.setup.chosen_keys`: a config's bases set keys for all
            variants of a model. None reports all.
    """
    defaults, found, seen = get_cfg(), {}, set()
    for rule in _RULES:
        if rule.is_read(cfg):
            continue
        for name in rule.keys.split():
            key = f"{rule.parent}.{name}"
            if key in seen or _value(cfg, key) == _value(defaults, key):
                continue
            seen.add(key)
            if chosen is None or key in chosen:
                found.setdefault(_filled(rule.reason, cfg), []).append(f"{key} ({_value(cfg, key)})")
    return [
        f"{', '.join(keys)} {'have' if len(keys) > 1 else 'has'} no effect: {reason}."
        for reason, keys in found.items()
    ]


def _filled(reason: str, cfg: CfgNode) -> str:
    head, brace, rest = reason.partition("{")
    key, _, tail = rest.partition("}")
    return f"{head}{_value(cfg, key)}{tail}" if brace else reason


def _value(cfg: CfgNode, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[part]
    return tuple(cfg) if isinstance(cfg, list) else cfg
