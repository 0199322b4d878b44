"""Every golden file agrees; the harness itself can fail."""

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tests.parity import recipe_mapper
from tests.parity.golden import EXCERPTS, SHARED_GOLDENS
from tests.parity.run import run_file

SHIPPED = sorted(EXCERPTS.glob("*.npz"))
FILES = sorted(SHARED_GOLDENS.glob("*.npz"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_excerpt(path):
    rows = run_file(path)
    assert [f"{row.name}: {row.relative:.2e}" for row in rows if not row.ok] == []


def test_excerpts_are_small_and_hold_no_objects():
    assert len(SHIPPED) >= 5
    for path in SHIPPED:
        assert path.stat().st_size <= 300 * 1024, path
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)


def test_a_changed_output_of_an_excerpt_is_noticed(tmp_path):
    arrays = dict(np.load(EXCERPTS / "matcher.npz"))
    arrays["s4/out/cost0"] = arrays["s4/out/cost0"] + np.float32(0.01)
    np.savez(tmp_path / "matcher.npz", **arrays)
    wrong = [row.name for row in run_file(tmp_path / "matcher.npz") if not row.ok]
    assert wrong == ["s4/out/cost0"]


@pytest.mark.skipif(not FILES, reason="the golden files are not beside the repository")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path):
    rows = run_file(path)
    assert [f"{row.name}: {row.relative:.2e}" for row in rows if not row.ok] == []


def test_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must begin with its kind"):
        run_file(tmp_path / "nonsense.npz")


@pytest.mark.skipif(not FILES, reason="the golden files are not beside the repository")
def test_a_changed_weight_is_noticed(tmp_path):
    source = SHARED_GOLDENS / "pixel_decoder.npz"
    arrays = dict(np.load(source))
    arrays["state/mask_features.bias"] = arrays["state/mask_features.bias"] + np.float16(0.01)
    np.savez(tmp_path / "pixel_decoder_changed.npz", **arrays)
    rows = {row.name: row for row in run_file(tmp_path / "pixel_decoder_changed.npz")}
    assert not rows["out/mask_features"].ok
    assert rows["out/multi_scale_0"].ok


@pytest.mark.skipif(not FILES, reason="the golden files are not beside the repository")
def test_a_weight_too_many_is_noticed(tmp_path):
    source = SHARED_GOLDENS / "pixel_decoder.npz"
    arrays = dict(np.load(source))
    arrays["state/mask_features.stray"] = np.zeros(3, np.float16)
    np.savez(tmp_path / "pixel_decoder_stray.npz", **arrays)
    with pytest.raises(KeyError, match="stray"):
        run_file(tmp_path / "pixel_decoder_stray.npz")


def changed(source: Path, folder: Path, **arrays) -> list[str]:
    """Names of the rows that differ once some arrays of a golden file are others."""
    path = folder / source.name
    np.savez(
        path, **{**dict(np.load(source)), **{name.replace("__", "/"): array for name, array in arrays.items()}}
    )
    return [row.name for row in run_file(path) if not row.ok]


@pytest.mark.skipif(not FILES, reason="the golden files are not beside the repository")
def test_another_decay_and_another_gradient_are_noticed(tmp_path):
    source = SHARED_GOLDENS / "recipe_optimizer_ms3.npz"
    arrays = np.load(source)
    params = json.loads(str(arrays["small/params"]))
    entry = next(entry for entry in params if entry["name"].endswith("transformer.level_embed"))
    assert entry["weight_decay"] == 0.05
    entry["weight_decay"] = 0.0
    gradient = "steps/grad2/sem_seg_head.predictor.decoder_norm.weight"
    found = changed(
        source,
        tmp_path,
        small__params=np.array(json.dumps(params)),
        **{gradient: arrays[gradient] * np.float32(1.5)},
    )
    assert found == ["small/weight_decay of 328 parameters", "steps/grad_norm", "steps/after2, absolute"]


@pytest.mark.skipif(not FILES, reason="the golden files are not beside the repository")
def test_one_draw_of_jitter_per_clip_and_a_shifted_crop_are_noticed(tmp_path, monkeypatch):
    source = SHARED_GOLDENS / "recipe_mapper_avss.npz"
    wanted = np.load(source)["v1m_tall/train1/images"]
    shifted = np.roll(wanted, 1, axis=-1)
    cfg_of = recipe_mapper.published_cfg

    def one_draw(*args):
        cfg = cfg_of(*args)
        cfg.INPUT.COLOR_AUG_PER_IMAGE = False
        return cfg

    monkeypatch.setattr(recipe_mapper, "published_cfg", one_draw)
    found = changed(source, tmp_path, v1m_tall__train1__images=shifted)
    assert "v1m_tall/train1/images, grey values" in found and "v1m_tall/train2/images, grey values" not in found
    assert any(name.startswith("jitter/pairs_equal: 600 of 600") for name in found)
    assert any(name.startswith("jitter/spread within a clip") for name in found)


@pytest.mark.skipif(not FILES, reason="the golden files are not beside the repository")
@pytest.mark.slow
def test_another_distribution_is_noticed(monkeypatch):
    normal = nn.init.normal_

    def uniform_where_narrow(tensor, mean=0.0, std=1.0):
        # Of what is drawn normally, the prototype projections alone are narrow.
        half = std * 3**0.5
        return nn.init.uniform_(tensor, -half, half) if std < 0.1 else normal(tensor, mean, std)

    monkeypatch.setattr(nn.init, "normal_", uniform_where_narrow)
    found = [row.name for row in run_file(SHARED_GOLDENS / "recipe_init.npz") if not row.ok]
    assert {name.split(" ")[0] for name in found} == {
        f"{subset}/{statistic}" for subset in ("s4", "avss") for statistic in ("min", "max", "excess_kurtosis")
    }
