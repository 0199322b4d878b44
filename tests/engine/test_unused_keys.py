"""Keys that were set and that nothing reads are named before a run."""

from pathlib import Path

import pytest

from ska_vct.engine.setup import chosen_keys, load_cfg
from ska_vct.engine.unused_keys import _RULES, unused_keys

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LEAVES = [
    path for folder in ("s4", "ms3", "avss", "own", "synth") for path in sorted((CONFIGS / folder).glob("*.yaml"))
]


def said(*overrides: str) -> str:
    return " ".join(unused_keys(load_cfg("", overrides), chosen_keys("", overrides)))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("MODEL.SKA.SERIES_DIM", "16", "MODEL.SKA.STEPS", "4"),
         "MODEL.SKA.SERIES_DIM (16), MODEL.SKA.STEPS (4) have no effect: MODEL.SKA.NAME is SKA, not TemporalSKA."),
        (("MODEL.SKA.ENABLED", "False", "INPUT.FLOW.SERIES", "10"),
         "INPUT.FLOW.SERIES (10) has no effect: MODEL.SKA.ENABLED is False, so no flow is read."),
        (("MODEL.SKA.NAME", "FlowMagnitude", "MODEL.SKA.NUM_HEADS", "8"), "which only measures the speed"),
        (("MODEL.SKA.NAME", "TemporalSKA", "MODEL.SKA.SPEED_FLOOR", "0.01"), "NORM is frame, not diagonal"),
        (("MODEL.TIMM.NAME", "resnet18"), "MODEL.BACKBONE.NAME is build_swin_backbone"),
        (("INPUT.AUDIO.NEGATIVE_KINDS", "['silence']"), "INPUT.AUDIO.NEGATIVES is 0"),
    ],
)  # fmt: skip
def test_a_key_without_effect_is_named_with_the_reason(overrides, sentence):
    assert sentence in said(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.SKA.NAME", "TemporalSKA", "MODEL.SKA.SERIES_DIM", "16", "INPUT.FLOW.SERIES", "10"),
        ("MODEL.SKA.NAME", "TemporalSKA", "MODEL.SKA.SPEED_FLOOR", "0.01", "INPUT.FLOW.NORM", "diagonal"),
        # What equals the default was not changed.
        ("MODEL.SKA.SERIES_DIM", "8"),
        ("INPUT.AUDIO.NEGATIVES", "0.1", "INPUT.AUDIO.NEGATIVE_KINDS", "['silence']"),
    ],
)
def test_keys_that_are_read_are_not_named(overrides):
    assert said(*overrides) == ""


def test_a_module_of_ones_own_may_read_any_key():
    cfg = load_cfg("", ["MODEL.SKA.SERIES_DIM", "16", "MODEL.SKA.FLOW_DIM", "32"])
    cfg.defrost()
    cfg.MODEL.SKA.NAME = "Mine"
    assert unused_keys(cfg) == []


def test_keys_of_a_base_are_not_the_users_choice(tmp_path):
    base, leaf = tmp_path / "base.yaml", tmp_path / "leaf.yaml"
    base.write_text("MODEL: {SKA: {SERIES_DIM: 16}}\n")
    leaf.write_text("_BASE_: base.yaml\nMODEL: {BRM: {ENABLED: False, DIM: 8}}\n")
    assert "SERIES_DIM" in " ".join(unused_keys(load_cfg(leaf)))
    assert unused_keys(load_cfg(leaf), chosen_keys(leaf)) == [
        "MODEL.BRM.DIM (8) has no effect: MODEL.BRM.ENABLED is False."
    ]


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_no_config_of_ours_sets_a_key_without_effect(path):
    assert unused_keys(load_cfg(path), chosen_keys(path)) == []


def test_all_rules_name_keys_that_exist():
    defaults = load_cfg()
    for rule in _RULES:
        node = defaults
        for part in rule.parent.split("."):
            node = node[part]
        assert set(rule.keys.split()) <= set(node), rule.parent
