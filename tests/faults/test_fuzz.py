"""The short form of the fuzz harness, and that it finds faults where there are some."""

import time

import pytest

from ska_vct.utils.cpu import compute_on_cpu
from tests.faults import fuzz
from tests.faults.readers import READERS, Reader

CASES = 200


@pytest.mark.parametrize("name", READERS)
def test_readers_read_or_refuse_whatever_they_get(name):
    counts, faults = fuzz.run(name, CASES, seed=3)
    assert faults == [] and counts["ok"] + counts["refused"] == CASES
    assert counts["ok"] and counts["refused"] > CASES // 10  # damage neither spares nor breaks everything


@pytest.mark.parametrize("name", READERS)
def test_honest_files_are_read(name, tmp_path):
    reader = READERS[name]
    path = tmp_path / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    read = 0
    for data in reader.seeds():
        path.write_bytes(data)
        read += fuzz.examine(name, reader, tmp_path, len(data))[0] == "ok"
    assert read >= 1


def test_the_same_seed_makes_the_same_files():
    seeds = READERS["flow"].seeds()
    first = [fuzz.case_bytes("flow", seeds, case, 5) for case in range(50)]
    assert first == [fuzz.case_bytes("flow", seeds, case, 5) for case in range(50)]
    assert first != [fuzz.case_bytes("flow", seeds, case, 6) for case in range(50)]


def test_an_interrupted_series_continues_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "_BATCH", 7)
    path, ran = tmp_path / "fuzz.json", []
    whole = fuzz.run("npy", 30, 4)

    def run(name, cases, seed, *, first, run=fuzz.run):
        ran.append((first, cases))
        return run(name, cases, seed, first=first)

    monkeypatch.setattr(fuzz, "run", run)
    fuzz.try_reader("npy", 16, 4, first=0, progress=fuzz.Progress(path, 4))
    assert fuzz.try_reader("npy", 30, 4, first=0, progress=fuzz.Progress(path, 4)) == whole
    assert ran == [(0, 7), (7, 7), (14, 2), (16, 7), (23, 7)]
    with pytest.raises(SystemExit, match="seed 4"):
        fuzz.Progress(path, 5)


def crash(folder):
    import ctypes

    ctypes.string_at(0)


def hoard(folder):
    return b"\1" * (300 << 20)


def compute(seconds: float) -> int:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass
    return 1


FAULTY = {
    "UNDOCUMENTED": lambda folder: [][1],
    "MESSAGE": lambda folder: (_ for _ in ()).throw(ValueError("two\nlines")),
    "SILENT": lambda folder: None,
    "SLOW": lambda folder: compute(0.2),
    "HANG": lambda folder: compute(60),
    "CRASH": crash,
    "MEMORY": hoard,
}


def test_growth_is_seen_after_a_training_in_the_same_process(monkeypatch):
    compute_on_cpu()
    test_every_kind_of_fault_is_found("MEMORY", monkeypatch)


@pytest.mark.parametrize("kind", FAULTY)
def test_every_kind_of_fault_is_found(kind, monkeypatch):
    monkeypatch.setattr(fuzz, "SLOW", 0.1 if kind == "SLOW" else 60.0)
    # A busy machine may start a worker late; only the hang itself is cut short.
    monkeypatch.setattr(fuzz, "HUNG", 1.0 if kind == "HANG" else 60.0)
    monkeypatch.setattr(fuzz, "_read_honest", lambda *args: None)
    faulty = Reader(
        file="x", read=FAULTY[kind], errors=(ValueError,), seeds=lambda: [b"data"], sane=lambda value: bool(value)
    )
    monkeypatch.setitem(READERS, "faulty", faulty)
    counts, faults = fuzz.run("faulty", 2, seed=0)
    assert [fault.kind for fault in faults] == [kind] * 2 and [fault.case for fault in faults] == [0, 1]
    assert counts == {kind: 2}


def test_a_clip_with_images_of_two_sizes_is_refused(tmp_path):
    """Case 13018 of seed 0, which ended in an error of NumPy."""
    reader = READERS["coco_binary"]
    data = fuzz.case_bytes("coco_binary", reader.seeds(), 13018, 0)[1]
    (tmp_path / reader.file).write_bytes(data)
    with pytest.raises(reader.errors, match="pixels, but 8 x 8 are expected"):
        reader.read(tmp_path)
