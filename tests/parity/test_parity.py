"""Every golden file agrees; the harness itself can fail."""

import numpy as np
import pytest

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
