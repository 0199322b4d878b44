"""Config files are strict, and what is wrong in them is said in one sentence."""

from pathlib import Path

import pytest
import yaml

from ska_vct.cli.train import build_parser
from ska_vct.engine.checks import CheckError, check_cfg
from ska_vct.engine.datasets import register_datasets, resolve_root
from ska_vct.engine.setup import load_cfg, prepare_run, setup_cfg
from ska_vct.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = str(ROOT / "configs" / "synth" / "quickstart.yaml")


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_later_bases_and_the_file_itself_win(tmp_path):
    write(tmp_path / "a.yaml", "SOLVER: {MAX_ITER: 1, BASE_LR: 0.5}\nMODEL: {HIDDEN_DIM: 32}\n")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "b.yaml", "SOLVER: {MAX_ITER: 2}\n")
    leaf = write(tmp_path / "sub" / "leaf.yaml", "_BASE_: [../a.yaml, ../b.yaml]\nMODEL: {HIDDEN_DIM: 64}\n")
    cfg = load_cfg(leaf, ["SOLVER.BASE_LR", "0.25"])
    assert (cfg.SOLVER.MAX_ITER, cfg.MODEL.HIDDEN_DIM, cfg.SOLVER.BASE_LR) == (2, 64, 0.25)


def test_a_typo_names_the_file_that_has_it_and_the_key_that_was_meant(tmp_path):
    base = write(tmp_path / "base.yaml", "SOLVER: {MAX_ITTER: 3}\n")
    leaf = write(tmp_path / "leaf.yaml", "_BASE_: base.yaml\n")
    with pytest.raises(ConfigError) as info:
        load_cfg(leaf)
    message = str(info.value)
    assert base in message and "'SOLVER.MAX_ITTER'" in message and "did you mean SOLVER.MAX_ITER" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MODEL: {NUM_QUERIES: 3}", ["MODEL.NUM_QUERIES", "MODEL.DECODER.NUM_QUERIES"]),
        ("MODEL: {DECODER: 3}", ["MODEL.DECODER", "a group of keys"]),
        ("MODEL: {SKA: {ENABLED: 3}}", ["MODEL.SKA.ENABLED takes a value of type bool, not the int 3"]),
        ("INPUT: !!python/tuple [1, 2]", ["cannot be read as plain YAML"]),
        ("MODEL: [", ["cannot be read as plain YAML"]),
        ("- 1", ["holds no keys"]),
        ("_BASE_: nowhere.yaml", ["There is no config file", "nowhere.yaml"]),
        ("_BASE_: leaf.yaml", ["leaf.yaml is its own base"]),
        ("SOLVER: {BASE_LR: fast}", ["SOLVER.BASE_LR takes a value of type float, not the str fast"]),
    ],
)
def test_wrong_files_give_one_sentence(tmp_path, text, words):
    with pytest.raises(ConfigError) as info:
        load_cfg(write(tmp_path / "leaf.yaml", text))
    assert all(word in str(info.value) for word in words), str(info.value)
    assert "\n" not in str(info.value)


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    cfg = load_cfg(
        write(tmp_path / "a.yaml", "SOLVER: {BASE_LR: 2e-4, WEIGHT_DECAY: 1}"), ["MODEL.BRM.POS_WEIGHT", "3"]
    )
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.MODEL.BRM.POS_WEIGHT) == (2e-4, 1.0, 3.0)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["SOLVER.BASE_LR"], ["'SOLVER.BASE_LR' has no partner"]),
        (["SOLVER.BASE_LRR", "1"], ["'SOLVER.BASE_LRR'", "did you mean SOLVER.BASE_LR"]),
        (["MODEL.DECODER", "1"], ["MODEL.DECODER"]),
        (["MODEL.HIDDEN_DIM.X", "1"], ["MODEL.HIDDEN_DIM"]),
    ],
)
def test_wrong_overrides(overrides, words):
    with pytest.raises(ConfigError) as info:
        load_cfg(QUICKSTART, overrides)
    assert all(word in str(info.value) for word in words), str(info.value)


def test_config_is_an_alias_and_the_result_is_frozen(monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    first, second = (
        build_parser("").parse_args([option, QUICKSTART, "--num-gpus", "0"])
        for option in ("--config", "--config-file")
    )
    assert first == second
    cfg = setup_cfg(first.config_file, first.opts, num_gpus=first.num_gpus)
    assert cfg.is_frozen() and cfg.MODEL.DEVICE == "cpu"
    assert Path(cfg.OUTPUT_DIR) == Path("output/synth/quickstart")


def test_dataset_root_comes_from_config_then_environment_then_default(monkeypatch, tiny_cfg):
    monkeypatch.setenv("DETECTRON2_DATASETS", "elsewhere")
    assert resolve_root(tiny_cfg) == Path("elsewhere")
    tiny_cfg.DATASETS.ROOT = "here"
    assert resolve_root(tiny_cfg) == Path("here")
    monkeypatch.delenv("DETECTRON2_DATASETS")
    tiny_cfg.DATASETS.ROOT = ""
    assert resolve_root(tiny_cfg) == Path("datasets")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["MODEL.NUM_CLASSES", "3"], ["MODEL.NUM_CLASSES is 3", "has 2 classes"]),
        (["MODEL.MPQG.NUM_PROTOTYPES", "5"], ["NUM_PROTOTYPES is 5", "MS3"]),
        (["DATASETS.SUBSET", "ms4"], ["'ms4'", "s4, ms3, avss"]),
        (["DATASETS.TRAIN", "('avsbench_ms3_trian',)"], ["avsbench_ms3_trian", "avsbench_ms3_train"]),
        (["DATASETS.TRAIN", "()"], ["DATASETS.TRAIN is empty"]),
        (["MODEL.AUDIO.FREEZE", "True"], ["MODEL.AUDIO.FREEZE", "MODEL.AUDIO.WEIGHTS"]),
        (["MODEL.DECODER.NUM_HEADS", "5"], ["MODEL.HIDDEN_DIM is 64", "5 heads (MODEL.DECODER.NUM_HEADS)"]),
    ],
)
def test_contradictions_are_found_before_anything_is_built(overrides, words):
    with pytest.raises(CheckError) as info:
        setup_cfg(QUICKSTART, overrides, num_gpus=0)
    assert all(word in str(info.value) for word in words), str(info.value)


def test_scoring_needs_weights_or_a_checkpoint_to_resume(tiny_cfg):
    register_datasets(tiny_cfg)
    with pytest.raises(CheckError, match="--eval-only needs a model"):
        check_cfg(tiny_cfg, eval_only=True)
    tiny_cfg.MODEL.WEIGHTS = "model.pth"
    check_cfg(tiny_cfg, eval_only=True)


@pytest.mark.parametrize("dtype", ["auto", "fp16"])
def test_mixed_precision_is_switched_off_on_the_cpu(tiny_cfg, caplog, dtype):
    register_datasets(tiny_cfg)
    tiny_cfg.SOLVER.AMP.ENABLED, tiny_cfg.SOLVER.AMP.DTYPE = True, dtype
    check_cfg(tiny_cfg)
    assert not tiny_cfg.SOLVER.AMP.ENABLED
    assert "full precision" in caplog.text


def test_mixed_precision_on_the_cpu_must_be_bfloat16(tiny_cfg):
    register_datasets(tiny_cfg)
    tiny_cfg.SOLVER.AMP.ENABLED, tiny_cfg.SOLVER.AMP.DTYPE = True, "bf16"
    check_cfg(tiny_cfg)
    assert tiny_cfg.SOLVER.AMP.ENABLED


def test_prepare_run_writes_a_config_that_builds_the_same_run(tmp_path):
    cfg = setup_cfg(QUICKSTART, ["OUTPUT_DIR", str(tmp_path / "out")], num_gpus=0)
    prepare_run(cfg)
    # Through YAML, which knows no tuples: Detectron2's own keys have some inside others.
    assert yaml.safe_load(load_cfg(tmp_path / "out" / "config.yaml").dump()) == yaml.safe_load(cfg.dump())
    text = (tmp_path / "out" / "environment.txt").read_text()
    assert "PyTorch" in text and text.startswith("Command: ") and "Code:    SKA-VCT" in text
    assert "not built" not in text
    assert (tmp_path / "out" / "config.yaml").read_text().startswith("# SKA-VCT ")
    assert "command: " in (tmp_path / "out" / "log.txt").read_text()
    assert not list((tmp_path / "out").glob(".*"))


def test_one_key_trains_without_pretrained_weights():
    overrides = ["MODEL.PRETRAINED", "False", "DATASETS.ROOT", "nowhere"]
    cfg = setup_cfg(ROOT / "configs" / "s4" / "swin_b_384.yaml", overrides, num_gpus=0)
    weights = (cfg.MODEL.BACKBONE_WEIGHTS, cfg.MODEL.PRE_MASK.WEIGHTS, cfg.MODEL.AUDIO.WEIGHTS)
    assert weights == ("", "", "") and not cfg.MODEL.AUDIO.FREEZE
