"""Every golden file agrees; the harness itself can fail."""

import numpy as np
import pytest

from tests.parity.golden import SHARED_GOLDENS
from tests.parity.run import run_file

FILES = sorted(path for path in SHARED_GOLDENS.glob("*.npz") if not path.stem.startswith("recipe_"))


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
