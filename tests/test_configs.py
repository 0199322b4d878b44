"""Every config builds, and fragments cannot overrule each other unseen."""

import fnmatch
from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg as detectron2_cfg
from detectron2.modeling import build_model

from ska_vct import config_values
from ska_vct.config import get_cfg
from ska_vct.data.registry import get_facts
from ska_vct.engine.checks import check_cfg
from ska_vct.engine.datasets import register_datasets
from ska_vct.engine.setup import load_cfg
from ska_vct.experiments.ablation.plan import read_ablation

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# Lists of variants name configs and are none.
LISTS = [
    path
    for path in sorted(CONFIGS.rglob("*.yaml"))
    if {"rows", "rows_from"} & set(yaml.safe_load(path.read_text()))
]
ALL = [path for path in sorted(CONFIGS.rglob("*.yaml")) if path not in LISTS]
FRAGMENTS = [path for path in ALL if "_base_" in path.parts]
LEAVES = [path for path in ALL if path not in FRAGMENTS]
# Millions of parameters of the published networks, as timm lists them with their 1000-class classifiers, less
# those classifiers; Swin has three norms more (one per stage instead of one).
BACKBONES = {"r50": 25.557 - 2.049, "pvtv2_b5": 81.956 - 0.513, "swin_b_384": 87.904 - 1.025 + 0.002}
SAME_BACKBONE = ("ppqg", "ska", "ska_mpqg", "full", "swin_b_384_temporal", "swin_b_384_ska_recipe")
BACKBONES |= dict.fromkeys(SAME_BACKBONE, BACKBONES["swin_b_384"])
BACKBONES["benchmark_gpu"] = BACKBONES["r50"]


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def leaf_keys(tree: dict, prefix: str = "") -> set[str]:
    keys = set()
    for key, value in tree.items():
        keys |= leaf_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return keys


def bases(path: Path) -> list[Path]:
    found = yaml.safe_load(path.read_text()).get("_BASE_", [])
    return [path.parent / base for base in ([found] if isinstance(found, str) else found)]


def test_layout_is_complete():
    expected = {
        f"{subset}/{net}.yaml"
        for subset in ("s4", "ms3", "avss")
        for net in ("swin_b_384", "swin_b_384_ska_recipe", "swin_b_384_temporal", "pvtv2_b5", "r50")
    }
    expected |= {"synth/quickstart.yaml"} | {f"ablations/{n}.yaml" for n in ("ppqg", "ska", "ska_mpqg", "full")}
    assert expected <= {name(path) for path in LEAVES}


def test_every_key_is_in_the_table_of_values_or_left_out_on_purpose():
    """A new key needs a line in ska_vct/config_values.py."""
    keys = {key for key, _ in config_values.leaves(get_cfg())}
    unchecked = {key for key in keys if config_values.is_unchecked(key)}
    assert keys - unchecked == set(config_values.RULES)
    # Only keys that are Detectron2's and keys of users' own parts are left out.
    assert unchecked - {key for key, _ in config_values.leaves(detectron2_cfg())} == set()
    idle = [pattern for pattern in config_values.UNREAD if not fnmatch.filter(keys, pattern)]
    assert idle == [], "patterns that match no key"


@pytest.mark.parametrize("path", FRAGMENTS, ids=name)
def test_fragments_have_no_base(path):
    assert "_BASE_" not in yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", LEAVES, ids=name)
def test_bases_of_one_list_share_no_key(path):
    seen = {}
    for base in bases(path):
        for key in leaf_keys(yaml.safe_load(base.read_text())) - {"_BASE_"}:
            assert key not in seen, f"{key} is in {seen.get(key)} and {base}"
            seen[key] = base


@pytest.mark.parametrize("path", LEAVES, ids=name)
def test_head_says_command_cost_and_result(path):
    head = path.read_text().split("_BASE_", 1)[0]
    assert f"--config configs/{name(path)}" in head
    assert "# Cost:" in head and "# Result:" in head


@pytest.mark.parametrize("path", LEAVES, ids=name)
def test_leaf_builds(path):
    cfg = load_cfg(path, ["MODEL.DEVICE", "cpu"])
    register_datasets(cfg)
    # Only whether the parts fit together: weights are the user's to name.
    check_cfg(cfg, resume=True)
    model = build_model(cfg)
    if path.parent.name == "synth" and path.stem != "benchmark_gpu":
        assert sum(p.numel() for p in model.parameters()) < 3e6
    elif path.parent.name == "demo":
        # Shipped with the package at two bytes a number.
        assert 2 * sum(p.numel() for p in model.parameters()) < 20e6
    else:
        millions = sum(p.numel() for p in model.backbone.parameters()) / 1e6
        assert millions == pytest.approx(BACKBONES[path.stem], abs=0.002)
    assert cfg.MODEL.NUM_CLASSES == get_facts(cfg.DATASETS.SUBSET).num_classes


def test_the_papers_model_is_the_default():
    cfg, default = load_cfg(CONFIGS / "ms3" / "swin_b_384.yaml"), get_cfg()
    # What VCT does otherwise than our defaults.
    otherwise = {"MODEL.PIXEL_DECODER.AMP", "INPUT.COLOR_AUG_PER_IMAGE"}
    for group in ("MODEL.SWIN", "MODEL.DECODER", "MODEL.PIXEL_DECODER", "MODEL.CRITERION", "INPUT"):
        keys = leaf_keys(_get(cfg, group), f"{group}.") - otherwise
        assert {key for key in keys if _get(cfg, key) != _get(default, key)} == set()


def test_ablations_differ_from_their_parent_in_the_named_keys_only():
    parent = load_cfg(CONFIGS / "ablations" / "full.yaml")
    differences = {
        "ppqg": {"MODEL.SKA.ENABLED", "MODEL.MPQG.MOTION", "MODEL.BRM.ENABLED"},
        "ska": {"MODEL.BRM.ENABLED", "SOLVER.FROZEN"},
        "ska_mpqg": {"MODEL.BRM.ENABLED"},
    }
    for ablation, keys in differences.items():
        cfg = load_cfg(CONFIGS / "ablations" / f"{ablation}.yaml")
        found = {key for key in leaf_keys(cfg) if _get(cfg, key) != _get(parent, key)}
        assert found == keys, ablation


def test_synthetic_ablations_name_their_keys_over_the_benchmarks_recipe():
    parent = load_cfg(CONFIGS / "synth" / "benchmark.yaml")
    for path in LEAVES:
        if path.parent == CONFIGS / "ablations" / "synth":
            cfg = load_cfg(path)
            own = leaf_keys(yaml.safe_load(path.read_text())) - {"_BASE_"}
            found = {key for key in leaf_keys(cfg) if _get(cfg, key) != _get(parent, key)}
            # uvm builds upon ska_gate, which builds upon ska
            assert own <= found or path.stem == "ska_gate", path.stem
            assert bool(found) == (path.stem != "full"), path.stem


def _get(cfg, key: str):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def test_lists_of_variants_are_whole(monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    for path in LISTS:
        for row in read_ablation(path).rows:
            load_cfg(row.config, [*row.overrides])
        head = path.read_text().split("benchmark:", 1)[0]
        assert f"--list configs/{name(path)}" in head and "# Cost:" in head and "# Result:" in head
