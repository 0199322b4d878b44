"""What is kept in memory, up to which bound, and that training reads its files once."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from ska_vct.config import get_cfg
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.flow.store import FlowRecord, write_flow
from ska_vct.data.memory_cache import MemoryCache


def test_arrays_are_read_once_and_cannot_be_written_to():
    cache, reads = MemoryCache(1), []

    def read():
        reads.append(1)
        return np.zeros(4)

    first = cache.get("a", read)
    assert cache.get("a", read) is first and len(reads) == 1
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_nothing_is_kept_beyond_the_bound_and_processes_start_empty():
    cache = MemoryCache(1000 / (1 << 30))
    small, large = (np.zeros(60), np.zeros(20)), np.zeros(200)  # 640 and 1600 bytes
    assert cache.get("large", lambda: large) is large and large.flags.writeable
    assert cache.get("small", lambda: small) is small and not small[1].flags.writeable
    assert cache.get("more", lambda: np.ones(60)) is not cache.get("more", lambda: np.ones(60))
    other = pickle.loads(pickle.dumps(cache))
    assert other.get("small", lambda: None) is None  # nothing came along
    assert other.get("again", lambda: small) is small and other.get("again", lambda: None) is small


def test_training_reads_every_file_once_and_gets_the_same_clips(release):
    release.write_ms3(names=("a", "b"), splits=("train",))
    records = load_records("ms3", "train", release.root)
    meta = {
        "method": "dis", "weights": "", "source": "frames", "fps": 1.0, "time_step": 1.0, "height": 32,
        "width": 40,
    }  # fmt: skip
    flow = np.random.default_rng(0).normal(size=(5, 1, 2, 8, 8)).astype(np.float16)
    for record in records:
        write_flow(record["flow_path"], FlowRecord(flow=flow, meta=meta | {"clip_id": record["clip_id"]}))
    cfg = get_cfg()
    cfg.INPUT.SIZE, cfg.INPUT.FLOW.SIZE, cfg.INPUT.AUDIO.GAIN_DB = (48, 48), (8, 8), 6.0
    cfg.INPUT.AUDIO.NEGATIVES = 0.5

    def epochs(mapper: ClipMapper) -> list[dict]:
        rng = np.random.default_rng(1)
        return [mapper(record, rng=rng) for _ in range(4) for record in records]

    wanted = epochs(ClipMapper(cfg, is_train=True, donors=records))
    cfg.INPUT.CACHE.MEMORY_GB = 0.1
    mapper = ClipMapper(cfg, is_train=True, donors=records)
    for record in records:  # once with its own audio, so that everything is read
        while "condition" in mapper(record, rng=np.random.default_rng()):
            pass
    for folder in (release.ms3, release.root / "flow"):
        shutil.rmtree(folder)
    for clip, same in zip(epochs(mapper), wanted, strict=True):
        assert clip.keys() == same.keys()
        for key, value in same.items():
            equal = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert (
                equal(clip[key].nan_to_num(), value.nan_to_num())
                if key == "audio_second"
                else equal(clip[key], value)
            ), key
