import os

import numpy as np
import pytest
from PIL import Image

from ska_vct.config import get_cfg
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.images import cache as image_cache
from ska_vct.data.images.cache import ImageCache
from ska_vct.data.images.io import ImageError, read_image


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return paths


def make_cache(tmp_path, **options):
    return ImageCache(**{"root": tmp_path / "cache", "short_side": 40, "max_gb": 1.0} | options)


def entries(tmp_path):
    return sorted((tmp_path / "cache").glob("*/*.npy"))


def count_decodings(monkeypatch):
    decoded = []
    monkeypatch.setattr(image_cache, "read_image", lambda path: decoded.append(path) or read_image(path))
    return decoded


def test_a_image_is_decoded_once_and_stays_the_same(tmp_path, images, monkeypatch):
    decoded = count_decodings(monkeypatch)
    for cache in (make_cache(tmp_path), make_cache(tmp_path)):
        for _ in range(2):
            assert np.array_equal(cache.read(images[0]), read_image(images[0]))
    assert decoded == [images[0]]


def test_large_images_are_kept_smaller_and_small_ones_as_they_are(tmp_path, images):
    cache = make_cache(tmp_path, short_side=20)
    for _ in range(2):
        assert cache.read(images[0]).shape == (20, 30, 3)
    assert make_cache(tmp_path, short_side=64).read(images[0]).shape == (40, 60, 3)


def test_a_changed_image_is_another_one(tmp_path, images):
    cache = make_cache(tmp_path)
    cache.read(images[0])
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(images[0])
    os.utime(images[0], ns=(1, 1))
    assert not cache.read(images[0]).any()


def test_nothing_is_kept_beyond_the_bound(tmp_path, images):
    size = 40 * 60 * 3
    caches = [make_cache(tmp_path, max_gb=2.5 * size / 2**30) for _ in range(2)]
    for cache in caches:
        for path in images:
            assert np.array_equal(cache.read(path), read_image(path))
    assert len(entries(tmp_path)) == 2
    assert (tmp_path / "cache" / "bytes").read_text() == str(2 * size)


def test_a_damaged_entry_is_made_anew(tmp_path, images):
    cache = make_cache(tmp_path)
    cache.read(images[0])
    (entry,) = entries(tmp_path)
    entry.write_bytes(entry.read_bytes()[:500])
    for _ in range(2):
        assert np.array_equal(cache.read(images[0]), read_image(images[0]))
    assert len(entries(tmp_path)) == 1


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(ImageError, match="gone.png"):
        make_cache(tmp_path).read(tmp_path / "gone.png")


def test_a_cache_that_can_keep_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="INPUT.CACHE.MAX_GB"):
        make_cache(tmp_path, max_gb=0.0)


def test_training_reads_it_and_testing_does_not(release, tmp_path, monkeypatch):
    release.write_ms3(names=("a",))
    cfg = get_cfg()
    cfg.INPUT.SIZE = (24, 24)
    cfg.MODEL.SKA.ENABLED = False
    cfg.INPUT.CACHE.ROOT = str(tmp_path / "cache")
    decoded = count_decodings(monkeypatch)
    (record,) = load_records("ms3", "test", release.root)
    ClipMapper(cfg, is_train=False)(record)
    assert not decoded
    (record,) = load_records("ms3", "train", release.root)
    for _ in range(2):
        assert ClipMapper(cfg, is_train=True)(record)["images"].shape[-2:] == (24, 24)
    assert len(decoded) == len(entries(tmp_path)) == 5
    # The short side of the images is 32.
    assert all(np.load(entry).shape[0] == 24 for entry in entries(tmp_path))
