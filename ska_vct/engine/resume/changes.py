"""Which config keys differ between a run and its continuation, and which of them take effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from ska_vct.config import get_cfg
from ska_vct.config_files import portable_config
from ska_vct.utils.bounded_yaml import parse_yaml
from ska_vct.utils.errors import SkaVctError

_FROM_CHECKPOINT = "the weights are the checkpoint's"
_INITIAL = "it is an initial value"
# Keys that a resumed run cannot follow.
_NO_EFFECT = {
    "SEED": "a run keeps its random numbers",
    "MODEL.WEIGHTS": _FROM_CHECKPOINT,
    "MODEL.BACKBONE_WEIGHTS": _FROM_CHECKPOINT,
    "MODEL.AUDIO.WEIGHTS": _FROM_CHECKPOINT,
    "MODEL.PRE_MASK.WEIGHTS": _FROM_CHECKPOINT,
    "MODEL.WEIGHTS_SKIP": _FROM_CHECKPOINT,
    "MODEL.RESIZE_ON_LOAD": _FROM_CHECKPOINT,
    "MODEL.SKA.ENERGY_INIT": _INITIAL,
    "MODEL.MPQG.GATE_INIT": _INITIAL,
}
# Not in checkpoints, because they name files of one machine; config.yaml has them.
_LOCAL = ("MODEL.WEIGHTS", "MODEL.BACKBONE_WEIGHTS", "MODEL.AUDIO.WEIGHTS", "MODEL.PRE_MASK.WEIGHTS")
# Beginnings of keys below MODEL that do not say what the network is.
_NOT_THE_NETWORK = (
    "MODEL.DEVICE",
    "MODEL.COMPILE",
    "MODEL.EXTRA.",
    "MODEL.LOSSES",
    "MODEL.CRITERION.",
    "MODEL.AUDIO.FREEZE",
    "MODEL.BACKBONE.FREEZE_AT",
    "MODEL.BACKBONE.CHECKPOINT",
    "MODEL.PIXEL_DECODER.CHECKPOINT",
    "MODEL.PIXEL_DECODER.DROPOUT",
    "MODEL.PIXEL_DECODER.DEFORM_ATTN",
    "MODEL.PIXEL_DECODER.AMP",
    "MODEL.DECODER.CHECKPOINT",
    "MODEL.SWIN.DROP_PATH_RATE",
    "MODEL.TIMM.DROP_PATH_RATE",
    "MODEL.SKA.MAP_LOSS",
    "MODEL.SKA.CONTRAST",
    "MODEL.MPQG.GUMBEL_TAU",
    "MODEL.BRM.FUSION",
    "MODEL.BRM.POS_WEIGHT",
    "MODEL.BRM.LOSS_WEIGHT",
)
# What a validation score depends on besides the weights.
_SCORE_KEYS = ("TEST.CONVENTION", "DATASETS.VAL", "INPUT.EVAL_SIZE", "INPUT.SIZE")


class ResumeError(SkaVctError, ValueError):
    """A run cannot be continued as asked, or a folder cannot be trained in."""


@dataclass(frozen=True)
class Change:
    """A key whose value is not that of the run so far.

    Attributes:
        key: full name.
        before, after: values.
        no_effect: why the key has no effect on a resumed run; empty where it takes effect.
    """

    key: str
    before: Any
    after: Any
    no_effect: str = ""

    def __str__(self) -> str:
        ending = f", no effect: {self.no_effect}" if self.no_effect else ""
        return f"{self.key} {self.before!r} -> {self.after!r}{ending}"


def find_changes(cfg: CfgNode, stored: str, config_file: Path | None = None) -> list[Change]:
    """Keys of ``cfg`` that differ from the config in a run's checkpoint.

    Args:
        cfg: of the continuation.
        stored: YAML of the checkpoint, as ``portable_config`` writes it; empty: nothing is known.
        config_file: the run's ``config.yaml``, for the weights that the run started from.
    """
    before, after = _flat(stored), _flat(portable_config(cfg))
    if not before:
        return []
    defaults = _flat(get_cfg().dump())
    local, now = _flat(_read(config_file)), _flat(cfg.dump())
    for key in _LOCAL:
        before.pop(key, None), after.pop(key, None)
        if key in local:
            before[key], after[key] = local[key], now[key]
    # A key that the run's version did not know had its default, which is today's behaviour.
    return [
        Change(key, was, after[key], _NO_EFFECT.get(key, ""))
        for key in sorted(after)
        if (was := before.get(key, defaults.get(key))) != after[key]
    ]


def check_changes(changes: Sequence[Change], checkpoint: str) -> None:
    """Refuse to go on with another network or other classes.

    Raises:
        ResumeError: names the keys.
    """
    wrong = [
        change
        for change in changes
        if not change.no_effect
        and (
            change.key == "DATASETS.SUBSET"
            or (change.key.startswith("MODEL.") and not change.key.startswith(_NOT_THE_NETWORK))
        )
    ]
    if wrong:
        raise ResumeError(
            f"--resume: the run of '{checkpoint}' is of another model: {'; '.join(map(str, wrong))}. Continue it "
            "with its own values (config.yaml beside it), or train in another folder (OUTPUT_DIR)."
        )


def effective_config(cfg: CfgNode, changes: Sequence[Change]) -> CfgNode:
    """``cfg`` with the run's values where a key has no effect, frozen: what the continuation really does."""
    cfg = cfg.clone()
    cfg.defrost()
    for change in changes:
        if change.no_effect:
            *parents, last = change.key.split(".")
            node = cfg
            for parent in parents:
                node = node[parent]
            node[last] = change.before
    cfg.freeze()
    return cfg


def scored_by(cfg: CfgNode) -> dict[str, Any]:
    """The keys that scores depend on, as plain data: scores are comparable where these are equal."""
    flat = _flat(cfg.dump())
    return {key: flat[key] for key in _SCORE_KEYS}


def _read(path: Path | None) -> str:
    try:
        return path.read_text(encoding="utf-8") if path is not None else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _flat(text: str) -> dict[str, Any]:
    """Full key -> value; tuples and lists alike, as YAML has them."""
    try:
        tree = parse_yaml(text) if text else {}
    except (ValueError, yaml.YAMLError):
        tree = {}
    return dict(_leaves(tree)) if isinstance(tree, dict) else {}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Any:
    for key, value in tree.items():
        # Free groups (MODEL.EXTRA, TIMM.KWARGS) may be empty.
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif not isinstance(value, dict):
            yield f"{prefix}{key}", value
