"""Kills trainings at random moments, resumes them until they finish, and compares them with an uninterrupted one.

    python tests/faults/kills.py --kills 100 --seed 0 --out OUT

Trainings are processes of their own on a small synthetic dataset. Each is killed (SIGKILL) some times: at any
moment, while it trains, writes a checkpoint, validates, or writes its log; every second time together with its
data loader's worker. Then it is resumed to the end. Everything must be equal bit by bit: the weights, the
optimiser, the random numbers, the best model with its score, the names of the checkpoints, and metrics.json except
for times. Prints one line per kill, and the figures; exits with 1 if anything differed. With --terminate, SIGTERM
replaces SIGKILL: a training may then end with its own exit status or, while it starts or ends, by the signal;
the checkpoint it then leaves counts among those that are kept, so their names may differ.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ska_vct.engine.resume.stopping import REQUEUE

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("any", "training", "writing", "validating", "reporting")
# Of metrics.json: they are measured, not computed.
TIMES = ("time", "data_time", "rank_data_time", "eta_seconds", "data_share")
OVERRIDES = {
    "INPUT.SIZE": (32, 32),
    "INPUT.EVAL_SIZE": (32, 32),
    "INPUT.FRAMES_PER_CLIP": 2,
    "INPUT.AUDIO.GAIN_DB": 6.0,
    "INPUT.AUDIO.NEGATIVES": 0.3,
    "MODEL.HIDDEN_DIM": 32,
    "MODEL.AUDIO.MLP_DIMS": [16, 16],
    "MODEL.AUDIO.CHANNELS": [4, 4, 8, 8, 8, 8],
    "MODEL.DECODER.NUM_QUERIES": 4,
    "MODEL.DECODER.NUM_LAYERS": 1,
    "MODEL.DECODER.FEEDFORWARD_DIM": 16,
    "MODEL.DECODER.NUM_HEADS": 2,
    "MODEL.PIXEL_DECODER.ENC_LAYERS": 1,
    "MODEL.PIXEL_DECODER.FEEDFORWARD_DIM": 16,
    "MODEL.PIXEL_DECODER.NUM_HEADS": 2,
    "MODEL.SWIN.EMBED_DIM": 16,
    "MODEL.SWIN.DEPTHS": [1, 1, 1, 1],
    "MODEL.SWIN.NUM_HEADS": [1, 1, 2, 2],
    "MODEL.SWIN.WINDOW_SIZE": 4,
    "MODEL.SWIN.DROP_PATH_RATE": 0.1,
    "MODEL.MPQG.PRE_DIM": 16,
    "MODEL.MPQG.MIXER_DIM": 16,
    "MODEL.BRM.DIM": 8,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 26,
    "SOLVER.WARMUP_ITERS": 5,
    "SOLVER.CHECKPOINT_PERIOD": 5,
    "TEST.EVAL_PERIOD": 7,
    "TEST.BATCH_SIZE": 1,
    "TEST.IMAGES": 0,
}


@dataclass
class Outcome:
    """What a series of kills has shown.

    Attributes:
        kills: how often a process was killed, by phase.
        differences: what was not as in the uninterrupted run; empty if all is well.
        runs: trainings that were killed and finished.
    """

    kills: Counter = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    runs: int = 0


def make_data(root: Path) -> None:
    """A synthetic release of a few small clips."""
    counts = ("--train", "7", "--val", "2", "--test", "1", "--size", "32", "--seed", "1", "--jobs", "1")
    words = ("datasets/make_synth.py", "--root", str(root), "--subset", "ms3", *counts)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)


def overrides(data: Path, out: Path, **changed: Any) -> list[str]:
    """The config of the trainings as words of a command line."""
    local = {"DATASETS.ROOT": data, "OUTPUT_DIR": out, "DATALOADER.NUM_WORKERS": 1, "MODEL.DEVICE": "cpu"}
    keys = OVERRIDES | local | changed
    return [str(word) for pair in keys.items() for word in pair]


class Forked:
    """A training in a process forked from one that has imported everything, so that it starts quickly."""

    context = multiprocessing.get_context("forkserver")

    def __init__(self, words: Sequence[str], *, resume: bool, log: Path):
        self.context.set_forkserver_preload(["ska_vct.engine.trainer"])
        self._process = self.context.Process(target=_train, args=(list(words), resume, str(log)))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode


class Program:
    """A training as people start it: ``tools/train_net.py``, in one process or in two on the CPU."""

    processes = 0

    def __init__(self, words: Sequence[str], *, resume: bool, log: Path):
        command = [sys.executable, "tools/train_net.py", "--config", "configs/synth/quickstart.yaml"]
        command += ["--num-gpus", str(self.processes), "--no-check", *(["--resume"] if resume else []), *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()


class TwoProcesses(Program):
    """The same in two processes, which are killed together."""

    processes = 2


def _train(words: list[str], resume: bool, log: str) -> None:
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    # Workers are started by forking, as in the program.
    multiprocessing.set_start_method("fork", force=True)
    import torch

    from ska_vct.engine.run import train_or_evaluate
    from ska_vct.utils.cli import one_sentence_errors

    torch.set_num_threads(1)
    with one_sentence_errors():
        train_or_evaluate("synth/quickstart", words, resume=resume, num_gpus=0, check=False)


def run_kills(
    out: Path,
    *,
    kills: int,
    seed: int,
    per_run: int = 4,
    start: Callable[..., Any] = Forked,
    say: Callable[[str], None] = print,
    workers: int = 1,
    number: signal.Signals = signal.SIGKILL,
) -> Outcome:
    """Kill trainings ``kills`` times in all, and compare each with one that nobody killed.

    Args:
        out: folder for data and runs; runs that differ are kept.
        kills: number of kills.
        seed: of the moments.
        per_run: kills before a training may finish.
        start: starts a training: ``Forked``, ``Program`` or ``TwoProcesses``.
        say: called with each line of progress.
        workers: of the data loader.
        number: the signal, SIGKILL or SIGTERM.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = out / "data"
    if not data.is_dir():
        make_data(data)
    changed = {"DATALOADER.NUM_WORKERS": workers}
    whole, draw, outcome = out / "whole", random.Random(seed), Outcome()
    shutil.rmtree(whole, ignore_errors=True)
    begin = time.monotonic()
    status = start(overrides(data, whole, **changed), resume=False, log=out / "whole.txt").wait()
    seconds = time.monotonic() - begin
    if status:
        raise RuntimeError(f"The uninterrupted training ended with status {status}: {out / 'whole.txt'}")
    say(f"uninterrupted: {seconds:.1f} s")
    while outcome.kills.total() < kills:
        folder, log = out / f"run{outcome.runs}", out / f"run{outcome.runs}.txt"
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink(missing_ok=True)
        words = overrides(data, folder, **changed)
        left = min(per_run, kills - outcome.kills.total())
        status = None
        while status is None:
            phase = draw.choice(PHASES) if left > 0 else ""
            process = start(words, resume=True, log=log)
            killed = bool(phase) and _kill(process, folder, phase, draw, seconds, number)
            status = None if killed else process.wait()
            left -= killed
            if killed:
                outcome.kills[phase] += 1
                say(f"kill {outcome.kills.total()}, {phase}: {_position(folder)}")
            elif status is not None and left > 0 and status == 0:
                # It finished before the moment came: the next run gets the kills that are left.
                left = 0
        problems = [f"status {status}"] if status else compare(whole, folder, names_too=number == signal.SIGKILL)
        outcome.differences += [f"{folder.name}: {problem}" for problem in problems]
        say(f"{folder.name}: {'; '.join(problems) if problems else 'equal'}")
        outcome.runs += 1
        if not problems:
            shutil.rmtree(folder)
    return outcome


def _kill(
    process: Any, folder: Path, phase: str, draw: random.Random, seconds: float, number: signal.Signals
) -> bool:
    """Wait for a moment of ``phase`` and kill; False if the training ends before."""
    sign = _SIGNS[phase]
    before = sign(folder)
    skip = draw.randrange(1, 4)
    delay = draw.uniform(0, {"any": seconds / 2, "training": seconds / 4, "validating": 0.2}.get(phase, 0.02))
    group = draw.random() < 0.5 or isinstance(process, TwoProcesses)
    if phase != "any":
        for _ in range(1 if phase == "training" else skip):
            while (now := sign(folder)) == before or not now:
                if process.poll() is not None:
                    return False
                time.sleep(0.005)
            before = now
    end = time.monotonic() + delay
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    try:
        if group:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return process.wait() in ((-number,) if number == signal.SIGKILL else (-number, REQUEUE))


def _parts(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(name for name in os.listdir(folder) if ".part" in name))
    except FileNotFoundError:
        return ()


def _log_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "metrics.json",) if path.is_file())


def _in_log(text: str) -> Callable[[Path], int]:
    seen: dict[Path, tuple[int, int]] = {}

    def count(folder: Path) -> int:
        path = folder / "log.txt"
        size = path.stat().st_size if path.is_file() else 0
        if size != seen.get(path, (0, 0))[0]:
            seen[path] = size, path.read_text(errors="replace").count(text)
        return seen.get(path, (0, 0))[1]

    return count


_SIGNS: dict[str, Callable[[Path], Any]] = {
    "any": lambda folder: 0,
    "training": _in_log("Starting training from iteration"),
    "writing": _parts,
    "validating": _in_log("Start inference on"),
    "reporting": _log_size,
}


def _position(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.pth")) if folder.is_dir() else []
    return ", ".join([*names, *_parts(folder)]) or "nothing written"


def compare(whole: Path, other: Path, *, names_too: bool = True) -> list[str]:
    """What is not equal in two finished trainings; without ``names_too`` they may hold different checkpoints."""
    import torch

    problems = []
    names = [sorted(path.name for path in folder.iterdir() if path.suffix == ".pth") for folder in (whole, other)]
    if names_too and names[0] != names[1]:
        problems.append(f"checkpoints {names[1]}, not {names[0]}")
    if _parts(other):
        problems.append(f"left {_parts(other)}")
    for name in sorted(set(names[0]) & set(names[1])):
        one, two = (torch.load(folder / name, weights_only=True) for folder in (whole, other))
        for content in (one, two):
            # Drawn, not computed.
            content["trainer"]["run"].pop("id")
        problems += [f"{name}: {where}" for where in unequal(one, two)[:5]]
    lines = [_metrics(folder) for folder in (whole, other)]
    if lines[0] != lines[1]:
        problems.append(f"metrics.json: {lines[1]}, not {lines[0]}"[:600])
    tags = [(folder / "last_checkpoint").read_text() for folder in (whole, other)]
    if tags[0] != tags[1]:
        problems.append(f"last_checkpoint: {tags[1]}, not {tags[0]}")
    configs = [_config(folder) for folder in (whole, other)]
    if configs[0] != configs[1]:
        problems.append("config.yaml differs")
    return problems


def _config(folder: Path) -> list[str]:
    # The head has the command, which is another when a run is resumed.
    lines = (folder / "config.yaml").read_text().replace(str(folder), "").splitlines()
    return [line for line in lines if not line.startswith("#") or line.startswith("# Resumed: ")]


def _metrics(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def unequal(one: Any, two: Any, where: str = "") -> list[str]:
    """Where two nested structures of tensors and plain data differ in a bit."""
    import torch

    if isinstance(one, dict) and isinstance(two, dict):
        keys = [f"{where}: keys {sorted(map(str, one.keys() ^ two.keys()))}"] if one.keys() != two.keys() else []
        return keys + [p for key in one.keys() & two.keys() for p in unequal(one[key], two[key], f"{where}/{key}")]
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [p for index, (a, b) in pairs for p in unequal(a, b, f"{where}/{index}")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        same = one.dtype == two.dtype and one.shape == two.shape and one.numpy().tobytes() == two.numpy().tobytes()
        return [] if same else [f"{where}: tensors differ"]
    if isinstance(one, torch.Tensor) or isinstance(two, torch.Tensor):
        return [f"{where}: {type(two).__name__}, not {type(one).__name__}"]
    return [] if one == two or (one != one and two != two) else [f"{where}: {two!r}, not {one!r}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for data and runs")
    parser.add_argument("--per-run", type=int, default=4, metavar="N", help="kills of one training (default: 4)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="of the data loader (default: 1)")
    parser.add_argument("--program", action="store_true", help="start tools/train_net.py instead of forking")
    parser.add_argument("--two", action="store_true", help="the same in two processes on the CPU")
    parser.add_argument("--terminate", action="store_true", help="SIGTERM instead of SIGKILL")
    args = parser.parse_args()
    outcome = run_kills(
        args.out.resolve(),
        kills=args.kills,
        seed=args.seed,
        per_run=args.per_run,
        start=TwoProcesses if args.two else Program if args.program else Forked,
        say=lambda line: print(line, flush=True),
        workers=args.workers,
        number=signal.SIGTERM if args.terminate else signal.SIGKILL,
    )
    phases = ", ".join(f"{phase} {outcome.kills[phase]}" for phase in PHASES)
    print(
        f"{outcome.kills.total()} kills ({phases}) in {outcome.runs} runs, {len(outcome.differences)} differences"
    )
    print(*outcome.differences, sep="\n")
    sys.exit(bool(outcome.differences))


if __name__ == "__main__":
    main()
