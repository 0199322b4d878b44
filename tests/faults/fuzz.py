#!/usr/bin/env python
"""Damage small honest files in every way, and see that every reader reads them or refuses them in one sentence.

Examples:
    python tests/faults/fuzz.py --reader all --cases 1000 --seed 0
    python tests/faults/fuzz.py --reader wav video_audio --cases 100000 --progress OUT/fuzz.json

Readers run in processes of their own, a batch of files each. With --progress, what is done is written after every
batch, and the same command continues there. Reported are errors that a reader does not document, messages of
several lines, values that cannot be right, crashes, hangs, more than 2 s of a core for a file, and growth of
memory beyond 10 times the file's size (and 96 MiB). The same seed makes the same files. Exit status: 0 nothing
found, 1 something.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import mmap
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.mutations import mutate
from tests.faults.readers import READERS, Reader

# Seconds of a core: on a busy machine the clock on the wall says little. Of its time, _WAITING as much.
SLOW, HUNG = 2.0, 20.0
_WAITING = 15
_START = 300.0  # seconds in which a child must reach its first case; a busy machine starts it late
_SPARE = 96 << 20
_ADDRESS_SPACE = 2 << 30
_LONGEST_MESSAGE = 1500
_SHOWN = 5
_BATCH = 2000  # files per process: what a stop loses, and what a reader may leave behind
# What a child and its parent share: the case, when it began on both clocks, and how many were read and refused.
_STATE = struct.Struct("qddqq")


@dataclass(frozen=True)
class Fault:
    """What a reader did wrong with one case."""

    reader: str
    kind: str
    case: int
    detail: str


def case_bytes(name: str, seeds: list[bytes], case: int, seed: int) -> tuple[str, bytes]:
    """The file of a case."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), case])
    data = seeds[rng.integers(len(seeds))]
    what = []
    for _ in range(1 if rng.random() < 0.7 else 2):
        kind, data = mutate(data, seeds, rng)
        what.append(kind)
        if not data:
            break
    return "+".join(what), data


def examine(name: str, reader: Reader, folder: Path, size: int) -> tuple[str, str]:
    """Read one file; ``ok`` or ``refused``, or the kind of fault and its detail.

    A slow case is read again: what is loaded on first use is slow once, a slow reader always.
    """
    verdict = _examine(reader, folder, size)
    return _examine(reader, folder, size) if verdict[0] == "SLOW" else verdict


def _examine(reader: Reader, folder: Path, size: int) -> tuple[str, str]:
    _reset_peak()
    before, start, used = _memory("VmRSS"), time.monotonic(), time.process_time()
    try:
        value = reader.read(folder)
        verdict = ("ok", "") if reader.sane(value) else ("SILENT", f"returned {type(value).__name__}")
    except reader.errors as error:
        message = str(error)
        verdict = ("refused", message)
        if "\n" in message or len(message) > _LONGEST_MESSAGE:
            verdict = ("MESSAGE", f"{len(message)} characters: {message[:80]!r}")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        verdict = ("UNDOCUMENTED", f"{type(error).__name__}: {str(error)[:120]!r} from {at.name}:{at.lineno}")
    took = max(time.process_time() - used, (time.monotonic() - start) / _WAITING)
    grown = _memory("VmHWM") - before
    if took > SLOW:
        return "SLOW", f"{took:.1f} s"
    if grown > 10 * size + _SPARE:
        return "MEMORY", f"{grown >> 20} MiB for {size} bytes"
    return verdict


def run(name: str, cases: int, seed: int, *, first: int = 0) -> tuple[Counter, list[Fault]]:
    """Try ``cases`` files on one reader, in a child process that is started again after a crash or a hang."""
    reader, counts, faults = READERS[name], Counter(), []
    seeds = reader.seeds()
    # A child would copy what it collects: half of the time of the quickest readers.
    gc.collect()
    gc.freeze()
    try:
        _run(name, reader, seeds, range(first, first + cases), seed, counts, faults)
    finally:
        gc.unfreeze()
    return counts, faults


def _run(name, reader, seeds, cases, seed, counts, faults) -> None:
    at = cases.start
    while at < cases.stop:
        shared = mmap.mmap(-1, _STATE.size)
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            _child(name, reader, seeds, range(at, cases.stop), seed, shared, send)
        os.close(send)
        lines, status = _watch(child, receive, shared)
        case, _, _, read, refused = _STATE.unpack(shared)
        counts.update({kind: number for kind, number in (("ok", read), ("refused", refused)) if number})
        for line in lines:
            kind, number, detail = line.split("\t", 2)
            counts[kind] += 1
            faults.append(Fault(name, kind, int(number), detail))
        if status == 0:
            break
        kind = "HANG" if status == "hung" else "CRASH"
        faults.append(Fault(name, kind, case, f"status {status}: {case_bytes(name, seeds, case, seed)[0]}"))
        counts[kind] += 1
        at = case + 1


def _child(name, reader, seeds, cases, seed, shared, send) -> None:
    status, read, refused = 1, 0, 0
    try:
        _quiet()
        _return_freed_memory()
        used = _memory("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE, used + _ADDRESS_SPACE))
        base = "/dev/shm" if os.path.isdir("/dev/shm") else None
        folder = Path(tempfile.mkdtemp(dir=base))
        path = folder / reader.file
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _read_honest(reader, folder, seeds)
            for case in cases:
                shared[:] = _STATE.pack(case, time.monotonic(), time.process_time(), read, refused)
                what, data = case_bytes(name, seeds, case, seed)
                path.write_bytes(data)
                kind, detail = examine(name, reader, folder, len(data))
                read += kind == "ok"
                refused += kind == "refused"
                if kind not in ("ok", "refused"):
                    _send(send, f"{kind}\t{case}\t[{what}] {detail}")
                if case % 500 == 0:
                    gc.collect()
            shared[:] = _STATE.pack(cases[-1], time.monotonic(), time.process_time(), read, refused)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        status = 0
    except BaseException:
        _send(send, f"HARNESS\t0\t{traceback.format_exc(limit=3)!r}")
    finally:
        os._exit(status)


def _read_honest(reader: Reader, folder: Path, seeds: list[bytes]) -> None:
    """What is imported and compiled on first use is not the first case's memory."""
    reader.prepare()
    for data in seeds:
        (folder / reader.file).write_bytes(data)
        with contextlib.suppress(reader.errors):
            reader.read(folder)


def _quiet() -> None:
    """Libraries write about damage to standard error and to the log; the verdicts are what counts here."""
    import av.logging

    warnings.simplefilter("ignore")
    av.logging.set_level(av.logging.PANIC)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _return_freed_memory() -> None:
    """Malloc as it starts: a parent that trained on the CPU keeps freed memory, which hides what a case takes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-4, 65536)  # M_MMAP_MAX
        mallopt(-1, 128 << 10)  # M_TRIM_THRESHOLD


def _send(pipe: int, line: str) -> None:
    os.write(pipe, (line.replace("\n", " ") + "\n").encode("utf-8", "replace"))


def _watch(child: int, receive: int, shared: mmap.mmap) -> tuple[list[str], int | str]:
    """Lines of a child until it ends; one that makes no progress is ended."""
    os.set_blocking(receive, False)
    data, status = b"", None
    born = time.monotonic()
    while status is None:
        time.sleep(0.01)
        with contextlib.suppress(BlockingIOError):
            data += os.read(receive, 1 << 16)
        done, raw = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(raw)
        elif _overdue(child, *_STATE.unpack(shared)[1:3], born):
            os.kill(child, 9)
            os.waitpid(child, 0)
            status = "hung"
    with contextlib.suppress(BlockingIOError):
        while more := os.read(receive, 1 << 16):
            data += more
    os.close(receive)
    return data.decode("utf-8", "replace").splitlines(), status


def _overdue(child: int, last: float, used: float, born: float) -> bool:
    """Whether the case that began at ``last`` (0: none yet) takes too long.

    Args:
        child: the process.
        last, born: when the case and the process began, seconds of the monotonic clock.
        used: what the process had computed when the case began, seconds of a core.
    """
    now = time.monotonic()
    if not last:
        return now - born > _START
    if now - last <= HUNG:
        return False
    return now - last > HUNG * _WAITING or _computed(child) - used > HUNG


def _computed(process: int) -> float:
    """Seconds of a core that a process has used."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{process}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _memory(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) << 10
    return 0


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


class Progress:
    """What readers have been tried with, kept in a file if there is one.

    Args:
        path: of the JSON file; None keeps nothing.
        seed: of the cases; a file of another seed is refused.
    """

    def __init__(self, path: Path | None, seed: int):
        self._path, self._seed, self._readers = path, seed, {}
        if path is not None and path.exists():
            content = json.loads(path.read_text())
            if content["seed"] != seed:
                raise SystemExit(
                    f"{path} has the cases of seed {content['seed']}, not {seed}: choose another file."
                )
            self._readers = content["readers"]

    def of(self, name: str) -> tuple[int, Counter, list[Fault], float]:
        """Number of cases done, what became of them, the faults and the seconds of a core."""
        entry = self._readers.get(name, {"cases": 0, "counts": {}, "faults": [], "seconds": 0.0})
        return entry["cases"], Counter(entry["counts"]), [Fault(*f) for f in entry["faults"]], entry["seconds"]

    def set(self, name: str, cases: int, counts: Counter, faults: list[Fault], seconds: float) -> None:
        entry = {"cases": cases, "counts": counts, "faults": [astuple(f) for f in faults], "seconds": seconds}
        self._readers[name] = entry
        if self._path is not None:
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps({"seed": self._seed, "readers": self._readers}, indent=1))
            part.replace(self._path)


def try_reader(name: str, cases: int, seed: int, *, first: int, progress: Progress) -> tuple[Counter, list[Fault]]:
    """``run`` in batches, from where ``progress`` says that an earlier attempt has come."""
    done, counts, faults, seconds = progress.of(name)
    while done < cases:
        size, before = min(_BATCH, cases - done), _children_computed()
        more, found = run(name, size, seed, first=first + done)
        done, counts, faults = done + size, counts + more, faults + found
        seconds += _children_computed() - before
        progress.set(name, done, counts, faults, seconds)
    shown = ", ".join(f"{kind} {number}" for kind, number in sorted(counts.items()))
    print(f"{name}: {done} cases, {seconds:.0f} s of a core: {shown}", flush=True)
    return counts, faults


def _children_computed() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", nargs="+", default=["all"], choices=["all", *READERS])
    parser.add_argument("--cases", type=int, default=1000, help="files per reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to try one again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", type=Path, metavar="FILE", help="JSON file to continue from and to write")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the files of the faults there")
    args = parser.parse_args()
    names = list(READERS) if "all" in args.reader else args.reader
    progress, found = Progress(args.progress, args.seed), False
    for name in names:
        _, faults = try_reader(name, args.cases, args.seed, first=args.first, progress=progress)
        found |= bool(faults)
        kinds = Counter((fault.kind, fault.detail.partition("] ")[2][:60]) for fault in faults)
        for (kind, detail), number in kinds.most_common(_SHOWN):
            print(f"    {number} x {kind} {detail}", flush=True)
        for fault in faults[:_SHOWN]:
            print(f"    {fault.kind} case {fault.case}: {fault.detail}", flush=True)
            if args.keep is not None:
                data = case_bytes(name, READERS[name].seeds(), fault.case, args.seed)[1]
                path = args.keep / f"{name}_{fault.case}_{Path(READERS[name].file).name}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
