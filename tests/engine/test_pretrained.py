"""Trained models by name: the config travels with the weights, in checkpoints and in folders."""

import shutil

import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import load_file, save_file

import ska_vct
from ska_vct.checkpoint.checkpointer import StrictCheckpointer
from ska_vct.checkpoint.writing import read_config
from ska_vct.config_files import config_folder, find_config, portable_config
from ska_vct.engine.setup import load_cfg
from ska_vct.modeling import SKAVCT
from ska_vct.modeling.hub import HubError, is_hub_id
from ska_vct.utils.errors import ConfigError, InputError, MissingFileError


@pytest.fixture
def model(tiny_cfg):
    return build_model(tiny_cfg).eval()


def answer(model, make_clip):
    with torch.no_grad():
        return model([make_clip(frames=2, eval_side=48)])[0]["sem_seg"]


def test_public_names():
    assert set(ska_vct.__all__) == {"Predictor", "load_model", "get_cfg", "__version__"}
    assert all(getattr(ska_vct, name) is not None for name in ska_vct.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ska_vct.nothing  # noqa: B018


def test_a_checkpoint_needs_no_config(tiny_cfg, model, make_clip, tmp_path):
    tiny_cfg.MODEL.WEIGHTS = "somewhere.pth"
    StrictCheckpointer(model, str(tmp_path), config=portable_config(tiny_cfg)).save("m")
    assert "somewhere" not in read_config(tmp_path / "m.pth")
    found = ska_vct.load_model(tmp_path / "m.pth", device="cpu")
    assert not found.training
    assert torch.equal(answer(found, make_clip), answer(model, make_clip))


def test_a_checkpoint_without_config_asks_for_it(tiny_cfg, model, make_clip, tmp_path):
    torch.save({"model": model.state_dict()}, tmp_path / "old.pth")
    with pytest.raises(ConfigError, match="old.pth' holds no config.*config=.*--config FILE"):
        ska_vct.load_model(tmp_path / "old.pth")
    (tmp_path / "config.yaml").write_text(tiny_cfg.dump())
    found = ska_vct.load_model(tmp_path / "old.pth", tmp_path / "config.yaml", "cpu")
    assert torch.equal(answer(found, make_clip), answer(model, make_clip))


def test_a_folder_of_the_hubs_layout(model, make_clip, tmp_path):
    folder = model.save_pretrained(tmp_path / "my-model")
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.yaml", "README.md"}
    assert "my-model" in (folder / "README.md").read_text()
    wanted = answer(model, make_clip)
    assert torch.equal(answer(SKAVCT.from_pretrained(folder, device="cpu"), make_clip), wanted)
    assert torch.equal(answer(ska_vct.load_model(folder, device="cpu"), make_clip), wanted)
    # A card that somebody has written stays.
    (folder / "README.md").write_text("mine")
    again = SKAVCT.from_pretrained(folder, device="cpu").save_pretrained(tmp_path / "again")
    model.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert (again / "config.yaml").read_text() == (folder / "config.yaml").read_text()


def test_folders_that_cannot_be_used(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "m")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    state = load_file(folder / "model.safetensors")
    state.pop(next(name for name in state if name.endswith(".weight")))
    save_file(state, broken / "model.safetensors")
    with pytest.raises(InputError, match="does not hold the weights.*Missing key"):
        SKAVCT.from_pretrained(broken, device="cpu")
    (broken / "config.yaml").write_text("MODEL: {NOTHING: 1}")
    with pytest.raises(ConfigError, match="config.yaml: .*NOTHING"):
        SKAVCT.from_pretrained(broken, device="cpu")
    (broken / "config.yaml").unlink()
    with pytest.raises(MissingFileError, match="is not a folder with model.safetensors and config.yaml"):
        SKAVCT.from_pretrained(broken)


def test_the_hub_is_asked_for_names_only(monkeypatch, tmp_path, model):
    monkeypatch.chdir(tmp_path)
    names = ("org/model", "output/model.pth", "/a/b", "model", "hf://a/b/c.pth")
    assert [is_hub_id(name) for name in names] == [True, False, False, False, False]
    (tmp_path / "org").mkdir()
    assert not is_hub_id("org/model")
    asked = []

    def download(name, **options):
        asked.append((name, options["allow_patterns"]))
        if name == "lab/absent":
            raise OSError("no route to host")
        return str(model.save_pretrained(tmp_path / "cache"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert isinstance(SKAVCT.from_pretrained("lab/model", device="cpu"), SKAVCT)
    assert asked == [("lab/model", ["model.safetensors", "config.yaml"])]
    with pytest.raises(HubError, match="'lab/absent' .*no route to host"):
        SKAVCT.from_pretrained("lab/absent")


def test_configs_are_found_by_name_in_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    wanted = config_folder() / "ms3" / "swin_b_384.yaml"
    for name in ("ms3/swin_b_384", "ms3/swin_b_384.yaml", "configs/ms3/swin_b_384.yaml", wanted):
        assert find_config(name) == wanted
    assert load_cfg("configs/ms3/swin_b_384.yaml").DATASETS.SUBSET == "ms3"
    (tmp_path / "ms3").mkdir()
    (tmp_path / "ms3" / "swin_b_384.yaml").write_text("SEED: 7")
    assert load_cfg("ms3/swin_b_384.yaml").SEED == 7
    with pytest.raises(ConfigError, match="no config file 'ms4/r50'.*ms3/r50"):
        find_config("ms4/r50")
