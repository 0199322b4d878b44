"""What the machine does to a run is said in one sentence, and its traceback is in the log file only."""

import logging
import os
import signal
import sys
from datetime import timedelta

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

import ska_vct.engine.trainer as trainer_module
from ska_vct.engine import ranks
from ska_vct.engine.failures import FailedRunError, explain, hide_tracebacks, named_failures
from ska_vct.engine.trainer import Trainer
from ska_vct.profiling.costs import step_bytes

NAME = "clips_of_a_failing_machine"


def test_out_of_memory_names_keys_and_the_predicted_need(tiny_cfg):
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
    ):
        text = explain(error, tiny_cfg, training=True, predict_memory=lambda cfg: 3 * 2**30)
        assert "Out of memory: the machine has" in text and "needs about 3.0 GiB" in text
        for key in ("SOLVER.IMS_PER_BATCH (2)", "INPUT.SIZE ((64, 64))", "MODEL.BACKBONE.CHECKPOINT"):
            assert key in text
        assert "TEST.BATCH_SIZE (1)" in explain(error, tiny_cfg, training=False)


def test_the_prediction_may_fail(tiny_cfg):
    def fail(cfg):
        raise MemoryError

    assert "Out of memory" in explain(MemoryError(), tiny_cfg, training=True, predict_memory=fail)


def test_the_predicted_need_grows_with_batch_and_size(tiny_cfg):
    first = step_bytes(tiny_cfg)
    tiny_cfg.SOLVER.IMS_PER_BATCH *= 2
    second = step_bytes(tiny_cfg)
    assert 1.2 * first < second < 2 * first, "the activations double, the weights do not"


WORKER = "DataLoader worker (pid 7) is killed by signal: "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{WORKER}Killed. ", ["worker that loads clips was killed (Killed)"]),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", ["worker that loads clips was ended"]),
        (
            f"{WORKER}Bus error. It is possible that dataloader's workers are out of shared memory.",
            ["Shared memory is full", "/dev/shm has", "--shm-size"],
        ),
        ("unable to allocate shared memory(shm) for file </torch_7>: No space left", ["Shared memory is full"]),
        ("unable to write to file </torch_7_1_0>: No space left on device (28)", ["Shared memory is full"]),
        ("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]", ["has lost another process"]),
    ],
)
def test_workers_shared_memory_and_processes_are_named(tiny_cfg, text, words):
    found = explain(RuntimeError(text), tiny_cfg, training=True)
    assert all(word in found for word in words), found
    assert "\n" not in found


def test_other_errors_stay_what_they_are(tiny_cfg):
    assert explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), tiny_cfg, training=True) == ""
    with pytest.raises(ZeroDivisionError), named_failures(tiny_cfg, training=True):
        raise ZeroDivisionError


class Killed:
    """A mapper whose process is ended by the system, as when memory runs out."""

    def __init__(self, cfg, is_train, donors=()):
        pass

    def __call__(self, record, rng=None):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def run(tiny_cfg, tmp_path):
    DatasetCatalog.register(NAME, lambda: [{"clip_id": "test/a"}, {"clip_id": "test/b"}])
    tiny_cfg.DATASETS.TRAIN, tiny_cfg.DATASETS.VAL = (NAME,), ()
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    tiny_cfg.SOLVER.MAX_ITER = 1
    yield tiny_cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def train(cfg) -> None:
    with named_failures(cfg, training=True):
        Trainer(cfg).train()


def test_a_worker_that_the_system_kills_is_named(run, monkeypatch):
    monkeypatch.setattr(trainer_module, "build_mapper", Killed)
    run.DATALOADER.NUM_WORKERS = 1
    with pytest.raises(FailedRunError, match=r"killed \(Killed\).*lower DATALOADER.NUM_WORKERS \(1\)"):
        train(run)


def test_memory_that_a_worker_lacks_is_named(run, monkeypatch):
    class Greedy(Killed):
        def __call__(self, record, rng=None):
            return bytearray(1 << 60)

    monkeypatch.setattr(trainer_module, "build_mapper", Greedy)
    run.DATALOADER.NUM_WORKERS = 1
    with pytest.raises(FailedRunError, match="Out of memory, in a worker that loads clips"):
        train(run)


def test_tracebacks_go_to_files_only(tmp_path, capsys):
    logger = logging.getLogger("ska_vct_test_of_tracebacks")
    logger.propagate = False
    console, file = logging.StreamHandler(sys.stdout), logging.FileHandler(tmp_path / "log.txt")
    logger.addHandler(console), logger.addHandler(file)
    hide_tracebacks(logger)
    try:
        raise RuntimeError("deep inside")
    except RuntimeError:
        logger.exception("It failed")
    logger.warning("a plain line")
    file.close()
    assert capsys.readouterr().out == "a plain line\n"
    assert "deep inside" in (tmp_path / "log.txt").read_text()


@pytest.fixture
def store(monkeypatch):
    """What two processes of a run share; returns a function that publishes for one of them."""
    shared = torch.distributed.HashStore()
    monkeypatch.setattr(ranks.dist.distributed_c10d, "_get_default_store", lambda: shared)
    monkeypatch.setattr(ranks.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(ranks, "_PATIENCE", timedelta(milliseconds=10))

    def publish(rank: int, iteration: int) -> None:
        monkeypatch.setattr(ranks.comm, "get_rank", lambda: rank)
        ranks.publish(iteration)

    return publish


def test_the_process_that_is_behind_is_named(store):
    store(0, 7)
    assert ranks.late_ranks() == " Process 1 does not answer; see log.txt.rank1."
    store(1, 6)
    text = ranks.late_ranks()
    assert "have begun iteration 8, is process 1" in text and "log.txt.rank1" in text
    store(1, 7)
    assert ranks.late_ranks() == ""


def test_a_process_alone_asks_nobody():
    ranks.publish(3)
    assert ranks.late_ranks() == ""
