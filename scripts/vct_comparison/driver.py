"""Runs the measurements, each in a separate process, and keeps their results in a JSON file."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_write, write_json

from .published import MARKS
from .report import GIB, SIDES, WITH_MODEL, key_of, markdown

_WORKER = Path(__file__).with_name("worker.py")
_ROOT = _WORKER.parents[2]
_SUBSETS = {"infer": "ms3", "train_ms3": "ms3", "train_s4": "s4"}
# Largest relative difference between both programs' outputs for equal weights and inputs. Attention masks and
# pixel grouping are thresholds, so rounding flips single cells; the criterion samples its points at random.
TOLERANCE = {"maps": 1e-3, "deform": 1e-4, "fscore": 1e-5, "criterion": 0.02, "masks_criterion": 0.02}
# Upper bound of the memory of VCT's Swin-B with one clip on the CPU, model included, with and without the pre-mask
# encoder; protects the machine from running out of memory.
_NEEDS_GIB = {"infer": (6, 4), "train": (21, 14)}


class ComparisonError(InputError):
    """The comparison is not possible; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The conditions that all figures of one JSON file share."""

    device: str
    threads: int
    clips: int
    backbone: str
    amp: bool
    overrides: list[str]
    vct_commit: str
    our_commit: str


def check_clone(folder: str | os.PathLike) -> Path:
    """Absolute path of the clone.

    Raises:
        ComparisonError: the folder does not exist, or is not a clone of VCT_AVS.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise ComparisonError(
            f"--vct: there is no folder '{folder}'; clone https://github.com/spyflying/VCT_AVS and name it."
        )
    missing = [mark for mark in MARKS if not (path / mark).is_file()]
    if missing:
        raise ComparisonError(f"--vct: '{folder}' is not a clone of VCT_AVS: {missing[0]} is missing.")
    return path


def commit_of(folder: Path) -> str:
    """Commit of a checkout, with ``+`` if files are modified; ``unknown`` without git."""
    git = ["git", "-C", str(folder)]
    try:
        inside = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True)
        if inside.returncode or Path(inside.stdout.strip()) != folder.resolve():
            return "unknown"
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def available_bytes() -> int | None:
    """Memory available to new processes without swapping; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


class Comparison:
    """Runs the measurements that a JSON file lacks, and writes the file after each one."""

    def __init__(self, *, vct: Path, settings: Settings, path: Path, sides: Iterable[str] = SIDES):
        """
        Args:
            vct: clone of VCT_AVS.
            settings: of this call.
            path: the JSON file.
            sides: vct, ours (as VCT) and full (with all modules).

        Raises:
            ComparisonError: the file is no result of this script, or of other settings.
        """
        self.vct = vct
        self.settings = settings
        self.path = path
        self.sides = tuple(sides)
        self.data = {"settings": asdict(settings), "machine": {}, "agreement": {}, "runs": {}}

    def load(self, *, forget: Iterable[str] = ()) -> None:
        """Read the existing results.

        Args:
            forget: parts to be measured again.
        """
        if not self.path.exists():
            return
        try:
            data = json.loads(self.path.read_text())
            before, _, _, _ = (data[name] for name in self.data)
        except (json.JSONDecodeError, KeyError, TypeError):
            raise ComparisonError(
                f"--json: '{self.path}' does not hold a comparison; name another file."
            ) from None
        for key in [key for key in data["runs"] if key.split("/")[0] in set(forget)]:
            del data["runs"][key]
        now = asdict(self.settings)
        differ = [name for name in now if before.get(name) != now[name]]
        if differ and any(data["runs"].values()):
            what = ", ".join(f"{name} was {before.get(name)} and is {now[name]}" for name in differ)
            raise ComparisonError(
                f"--json: '{self.path}' was measured under other conditions ({what}); name another "
                "file, or repeat all parts with --redo."
            )
        if not differ:
            self.data = data

    def run(self, parts: Iterable[str], *, pre_masks: Iterable[bool], rounds: int) -> None:
        """Run the missing measurements.

        Args:
            parts: of ``report.PARTS``.
            pre_masks: with the pre-mask encoder, without, or both.
            rounds: processes per side and part.

        Raises:
            ComparisonError: the sides disagree, or a process fails.
        """
        parts, pre_masks = list(parts), list(pre_masks)
        with tempfile.TemporaryDirectory(dir=_made(self.path.parent)) as folder:
            self.folder = Path(folder)
            if not self.data["machine"]:
                self.data["machine"] = (
                    _cpu()
                    | self._job("facts", side="vct")
                    | {
                        "VCT_AVS": self.settings.vct_commit,
                        "SKA-VCT": self.settings.our_commit,
                    }
                )
            for part in parts:
                if part not in WITH_MODEL:
                    self._measure([part], rounds, pre_mask=False)
            for subset in dict.fromkeys(_SUBSETS[part] for part in parts if part in WITH_MODEL):
                for pre_mask in pre_masks:
                    mine = [part for part in parts if _SUBSETS.get(part) == subset]
                    self._with_model(subset, mine, rounds, pre_mask=pre_mask)

    def _missing(self, part: str, rounds: int, pre_mask: bool) -> bool:
        runs = self.data["runs"].get(key_of(part, pre_mask), {})
        return any(len(runs.get(side, ())) < rounds for side in self._sides_of(part))

    def _sides_of(self, part: str) -> tuple[str, ...]:
        return tuple(side for side in self.sides if part in WITH_MODEL or side != "full")

    def _with_model(self, subset: str, parts: list[str], rounds: int, *, pre_mask: bool) -> None:
        wanted = [part for part in parts if self._missing(part, rounds, pre_mask) and self._fits(part, pre_mask)]
        if not wanted:
            return
        files = {"weights": str(self.folder / "vct.pth"), "maps": str(self.folder / "maps.pth")}
        common = {"subset": subset, "pre_mask": pre_mask, **files}
        name = f"semantic maps, {subset}, pre-mask encoder {'on' if pre_mask else 'off'}"
        fingerprint = self._job("prepare", side="vct", **common)["fingerprint"]
        found = self._job("check", side="ours", **common)
        self._agree(name, found, TOLERANCE["maps"])
        self._measure(wanted, rounds, fingerprint=fingerprint, **common)

    def _measure(self, parts: list[str], rounds: int, *, fingerprint: float | None = None, **job) -> None:
        for part in parts:
            runs = self.data["runs"].setdefault(key_of(part, job["pre_mask"]), {})
            for index in range(rounds):
                for side in self._sides_of(part):
                    done = runs.setdefault(side, [])
                    if len(done) > index:
                        continue
                    task = "train" if part.startswith("train") else part
                    result = self._job(task, side=side, **job)
                    if side == "vct" and result.get("fingerprint") != fingerprint:
                        raise ComparisonError("VCT's random weights differ between two processes of one seed.")
                    self._compare_outputs(part, side, result)
                    done.append(result)
                    self._save()

    def _compare_outputs(self, part: str, side: str, result: dict) -> None:
        """Parts without a model return a summary of their outputs."""
        outputs = result.pop("outputs", None)
        if outputs is None:
            return
        known = self.data.setdefault("outputs", {})
        if side == "vct":
            known[part] = outputs
        elif part in known:
            scale = max(abs(value) for value in known[part])
            largest = max(abs(a - b) for a, b in zip(outputs, known[part], strict=True)) / scale
            self._agree(part, {"largest": largest}, TOLERANCE[part])

    def _agree(self, name: str, found: dict, tolerance: float) -> None:
        print(f"    {name}: largest difference {found['largest']:.1e} of the largest value", flush=True)
        if not found["largest"] <= tolerance:
            raise ComparisonError(
                f"{name}: ours differs from VCT by {found['largest']:.1e} of the largest value, more than "
                f"{tolerance:g}; programs that disagree are not timed."
            )
        self.data["agreement"][name] = found
        self._save()

    def _fits(self, part: str, pre_mask: bool) -> bool:
        """Whether there is enough memory; prints a message if not."""
        available = available_bytes()
        if self.settings.device != "cpu" or self.settings.backbone != "swin_b" or available is None:
            return True
        needs = _NEEDS_GIB["infer" if part == "infer" else "train"][0 if pre_mask else 1] * self.settings.clips
        if needs * GIB > available:
            print(
                f"{key_of(part, pre_mask)}: skipped: VCT needs up to {needs} GiB and {available / GIB:.1f} "
                "GiB are available; run again when more is free.",
                flush=True,
            )
        return needs * GIB <= available

    def _job(self, task: str, *, side: str, pre_mask: bool = False, **more) -> dict:
        """Run one job in a separate process and return its result."""
        if commit_of(_ROOT) != self.settings.our_commit:
            raise ComparisonError(
                f"The checkout was at {self.settings.our_commit} when the comparison began and no longer is; "
                "measure in a checkout that nobody edits."
            )
        job = {
            "task": task, "side": side, "vct": str(self.vct), "pre_mask": pre_mask, "subset": "ms3",
            **asdict(self.settings), **more,
        }  # fmt: skip
        what = f"{side}: {task}" + (f", {job['subset']}, pre-mask {'on' if pre_mask else 'off'}" if more else "")
        print(what, flush=True)
        given, found, log = (self.folder / name for name in ("job.json", "result.json", "log.txt"))
        given.write_text(json.dumps(job))
        found.unlink(missing_ok=True)
        threads = str(self.settings.threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "PYTHONWARNINGS": "ignore",
        }
        with log.open("w") as output:
            command = [sys.executable, str(_WORKER), str(given), str(found)]
            status = subprocess.run(
                command, cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
            ).returncode
        if status or not found.exists():
            raise ComparisonError(_why(what, status, log.read_text(errors="replace")))
        result = json.loads(found.read_text())
        for name in ("whole", "step", "both", "score"):
            if name in result:
                peak = result[name]["peak_bytes"]
                print(
                    f"    {result[name]['seconds']:.3g} s" + (f", peak {peak / GIB:.2f} GiB" if peak else ""),
                    flush=True,
                )
        return result

    def _save(self) -> None:
        write_json(self.path, self.data)

    def write_markdown(self, path: Path) -> str:
        """Write the tables and return them."""
        text = markdown(self.data)
        with atomic_write(path, "w") as file:
            file.write(text)
        return text


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cpu() -> dict[str, str]:
    """Processor and memory of the machine, on Linux."""
    result = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
        result = {"processor": name, "cores": str(os.cpu_count())} if name else {}
        total = next(
            line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
        )
        result["memory"] = f"{int(total.split()[1]) / 2**20:.0f} GiB"
    except (OSError, StopIteration):
        pass
    return result


def _why(what: str, status: int, log: str) -> str:
    """The error message for a failed process."""
    if status in (-9, 137):
        return (
            f"{what}: the process was killed, most likely because it ran out of memory; free some and run again."
        )
    lines = [line for line in log.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit status {status}"
    if last.startswith("ModuleNotFoundError"):
        return (
            f"{what}: {last.split(': ', 1)[1]}; VCT needs it. To leave your environment unchanged, install it "
            "with 'pip install --no-deps --target DIR NAME' and put DIR into PYTHONPATH."
        )
    return f"{what}: {last}\n" + "\n".join(f"    {line}" for line in lines[-15:])
