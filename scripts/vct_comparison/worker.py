"""Runs one job in a separate process: build a program, measure one part, write the figures.

Run by ``scripts/compare_vct.py`` as ``python worker.py JOB.json RESULT.json``; the two sides share no process.
"""

import ctypes
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

if __package__ in (None, ""):
    # Otherwise the script's folder would shadow other modules of these names.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor, nn

from vct_comparison import inputs

# One call after the warm-up, or as many as fit into this time.
SECONDS = 3.0
MOST_CALLS = 100
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} lacks the field {field}")


class Memory:
    """Memory in use: of the process on the CPU, of its tensors on a GPU; None where it cannot be read."""

    def __init__(self, device: str):
        self.device = device

    def restart(self) -> int | None:
        """Return freed memory to the system, reset the peak, and return the memory in use."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        if not _CLEAR.exists():
            return None
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        _CLEAR.write_text("5")
        return _status_bytes("VmRSS")

    def peak(self) -> int | None:
        """Peak memory since ``restart``."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated()
        return _status_bytes("VmHWM") if _CLEAR.exists() else None


def measure(call: Callable[[], object], device: str) -> dict:
    """Warm up, then time.

    Returns:
        ``seconds`` (median of the wall time), ``cpu_seconds`` (mean of all threads' time, which other programs
        disturb less) and ``calls`` of the timed calls; ``before_bytes``, in use before the warm-up, and
        ``peak_bytes``, the most in use from then on.
    """
    memory = Memory(device)
    before = memory.restart()
    times: list[float] = []
    call()
    cpu = time.process_time()
    while not times or (sum(times) < SECONDS and len(times) < MOST_CALLS):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(times),
        "cpu_seconds": (time.process_time() - cpu) / len(times),
        "calls": len(times),
        "before_bytes": before,
        "peak_bytes": memory.peak(),
    }


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _autocast(job: dict):
    return torch.autocast(job["device"], dtype=torch.float16) if job["amp"] else nullcontext()


def _clips(job: dict) -> list[dict]:
    return inputs.make_clips(job["clips"], annotated=1 if job["subset"] == "s4" else inputs.FRAMES)


@torch.no_grad()
def prepare(side, job: dict) -> dict:
    """Write VCT's weights and semantic maps to files."""
    model, _ = side.model(job["subset"])
    torch.save(side.state(model), job["weights"])
    model.eval()  # VCT's returns None
    torch.save(side.maps(model, side.batch(_clips(job))), job["maps"])
    return {"fingerprint": fingerprint(model)}


def fingerprint(model: nn.Module) -> float:
    """A number that changes when any weight changes."""
    with torch.no_grad():
        return sum(float(p.double().abs().sum()) for p in model.parameters())


@torch.no_grad()
def check(side, job: dict) -> dict:
    """Differences of our semantic maps from VCT's."""
    model, _ = side.model(job["subset"])
    model.eval()
    theirs = torch.load(job["maps"], weights_only=True).float()
    ours = side.maps(model, side.batch(_clips(job))).float()
    difference = (ours - theirs).abs() / theirs.abs().max()
    return {"largest": float(difference.max()), "mean": float(difference.mean())}


@torch.no_grad()
def infer(side, job: dict) -> dict:
    """Time inference of all clips, and its backbones alone."""
    model, _ = side.model(job["subset"])
    model.eval()
    batch = side.batch(_clips(job))
    images = torch.cat([clip["images"] for clip in batch]).float().to(job["device"])
    images = (images - model.pixel_mean) / model.pixel_std
    with _autocast(job):
        result = {"whole": measure(lambda: side.maps(model, batch), job["device"])}
        result["backbones"] = measure(lambda: side.backbones(model, images), job["device"])
    return result | {"fingerprint": fingerprint(model)}


def train(side, job: dict) -> dict:
    """Time a training step, taken by each program's own trainer."""
    from detectron2.utils.events import EventStorage

    model, build_trainer = side.model(job["subset"], amp=job["amp"])
    result = {"fingerprint": fingerprint(model)}
    trainer = build_trainer([side.batch(_clips(job))] * (1 + MOST_CALLS))
    trainer.iter = 0
    torch.manual_seed(inputs.SEED)
    with EventStorage() as storage:
        result["step"] = measure(trainer.run_step, job["device"])
        losses = storage.history("total_loss").values()
    return result | {"first_loss": losses[0][0]}


def _forward_and_backward(call: Callable[[], Tensor], leaves: list[Tensor], device: str) -> dict:
    def both() -> None:
        call().sum().backward()
        for leaf in leaves:
            leaf.grad = None

    def forward() -> None:
        with torch.no_grad():
            call()

    return {"both": measure(both, device), "forward": measure(forward, device)}


def criterion(side, job: dict, *, makes_masks: bool = False) -> dict:
    """Time matching and losses of ten predictions with given masks."""
    total, leaves = side.criterion(job["clips"], makes_masks=makes_masks)
    torch.manual_seed(inputs.SEED)
    with torch.no_grad():
        values = [float(total()) for _ in range(5)]
    # Points are sampled at random, so only means can agree.
    return _forward_and_backward(total, leaves, job["device"]) | {"outputs": [statistics.mean(values)]}


def masks_criterion(side, job: dict) -> dict:
    """Time matching and losses of ten predictions, including masks computed from embeddings."""
    return criterion(side, job, makes_masks=True)


def fscore(side, job: dict) -> dict:
    """Time the F-score of one clip."""
    score = side.f_score()
    return {"score": measure(score, job["device"]), "outputs": [float(score())]}


def deform(side, job: dict) -> dict:
    """Time one deformable-attention layer."""
    attend, leaves = side.attention(job["clips"])
    with torch.no_grad():
        out = attend().double().flatten()
    outputs = [*out[:: max(1, len(out) // 100)].tolist(), float(out.abs().mean())]
    return _forward_and_backward(attend, leaves, job["device"]) | {"outputs": outputs}


def facts(side, job: dict) -> dict:
    """Facts that the figures depend on."""
    gpu = torch.cuda.get_device_name() if job["device"] == "cuda" else "none"
    return {
        "device": gpu if job["device"] == "cuda" else platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    } | side.facts()


TASKS = {
    task.__name__: task
    for task in (prepare, check, infer, train, criterion, masks_criterion, fscore, deform, facts)
}


def build_side(job: dict):
    common = {name: job[name] for name in ("device", "backbone", "pre_mask")}
    if job["side"] == "vct":
        from vct_comparison.published import Published

        return Published(clone=job["vct"], **common)
    sys.path.insert(1, str(Path(__file__).resolve().parents[2]))
    from vct_comparison.ours import Ours

    return Ours(full=job["side"] == "full", weights=job.get("weights"), overrides=job["overrides"], **common)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    result = TASKS[job["task"]](build_side(job), job)
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
