"""One run of an ablation as its own process: train, then score the last weights.

``python -m ska_vct.experiments.ablation.run FOLDER`` does what ``FOLDER/run.json`` says, continues where it was
interrupted, and writes ``train/`` (what training writes), ``training.json`` and ``robustness.json`` there.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ska_vct.engine.run import train_or_evaluate
from ska_vct.engine.setup import setup_cfg
from ska_vct.engine.trainer import METRIC
from ska_vct.engine.weights import build_trained_model
from ska_vct.utils.cli import one_sentence_errors
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import write_json

from ..job_queue import interrupt_on_termination
from ..robustness.run import evaluate_robustness

PLAN, TRAINING, SCORES = "run.json", "training.json", "robustness.json"
_SCORED = "scored.json"  # settings robustness.json was made with
_LIBRARIES = ("torch", "torchvision", "detectron2", "timm", "numpy", "opencv-python-headless")


def read_json(path: Path) -> dict[str, Any] | None:
    """Contents of a file of a run; None if it does not exist.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputError(f"{path} is damaged; remove its folder to repeat this run.") from None


def is_trained(folder: Path) -> bool:
    """Whether the training in ``folder`` is complete."""
    record = read_json(folder / TRAINING)
    return bool(record and record["finished"]) and final_weights(folder).is_file()


def final_weights(folder: Path) -> Path:
    """The weights to score: the last ones, so that no score selects among checkpoints."""
    return folder / "train" / "model_final.pth"


def read_scores(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """``robustness.json`` of the run in ``folder``; None unless it was made with the settings of ``plan``."""
    return read_json(folder / SCORES) if read_json(folder / _SCORED) == plan.get("scoring") else None


def is_done(folder: Path) -> bool:
    """Whether the run in ``folder`` is trained and scored as its ``run.json`` requires."""
    plan = read_json(folder / PLAN)
    return plan is not None and is_trained(folder) and read_scores(folder, plan) is not None


def train(folder: Path, plan: Mapping[str, Any]) -> None:
    """Train, or continue training, as ``plan`` says; record time, code and losses in ``training.json``."""
    record = read_json(folder / TRAINING) or {"seconds": 0.0, "sessions": [], "finished": False}
    # Interrupted sessions may have run other code.
    record["sessions"].append(_session())
    write_json(folder / TRAINING, record)
    earlier, start = record["seconds"], time.monotonic()
    try:
        model = train_or_evaluate(plan["config"], _overrides(folder, plan), resume=True, num_gpus=_num_gpus())
        losses = _final_losses(folder / "train" / "metrics.json")
        parameters = sum(parameter.numel() for parameter in model.parameters())
        record |= {"finished": True, "parameters": parameters, **losses}
        record["validation"] = _validation(folder / "train" / "metrics.json")
    finally:
        record["seconds"] = earlier + time.monotonic() - start
        write_json(folder / TRAINING, record)


def score(folder: Path, plan: Mapping[str, Any]) -> None:
    """Score the last weights with the settings of ``plan``; writes ``robustness.json``."""
    # Motion maps are returned, to be compared with the masks.
    extra = ("MODEL.WEIGHTS", str(final_weights(folder)), "TEST.RETURN_EXTRAS", "True")
    overrides = [*_overrides(folder, plan), *extra]
    cfg = setup_cfg(plan["config"], overrides, num_gpus=_num_gpus(), eval_only=True)
    wanted = plan["scoring"]
    evaluate_robustness(
        cfg,
        build_trained_model(cfg),
        wanted["splits"],
        negatives_on=wanted["negatives_on"],
        delays_on=wanted["delays_on"],
        out=folder,
    )
    write_json(folder / _SCORED, wanted)


def _overrides(folder: Path, plan: Mapping[str, Any]) -> list[str]:
    own = ("SEED", plan["seed"], "OUTPUT_DIR", folder / "train", "DATASETS.ROOT", plan["train_root"])
    return [*plan["overrides"], *map(str, own)]


def _num_gpus() -> int:
    return min(1, torch.cuda.device_count())


def _session() -> dict[str, Any]:
    return {
        "code": _git_commit(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of this code, with ``-dirty`` if files were modified; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _final_losses(path: Path) -> dict[str, Any]:
    """Iterations, and losses of the final decoder layer, from the last line of ``metrics.json`` that has them."""
    for line in reversed(path.read_text(encoding="utf-8").splitlines()):
        values = json.loads(line)
        if "total_loss" in values:
            losses = {key: value for key, value in values.items() if "loss" in key and not key[-1].isdigit()}
            return {"iterations": values["iteration"] + 1, "losses": losses}
    return {"iterations": None, "losses": {}}


def _validation(path: Path) -> dict[str, float]:
    """Iterations done -> M_J (mIoU) on the validation clips in percent, of every evaluation during training."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {str(values["iteration"] + 1): values[METRIC] for values in lines if METRIC in values}


def main(folder: Path) -> None:
    """Run the unfinished part of the run in ``folder``."""
    plan = read_json(folder / PLAN)
    if plan is None:
        raise InputError(f"There is no {PLAN} in '{folder}'; tools/run_ablation.py writes it.")
    if not is_trained(folder):
        train(folder, plan)
    if read_scores(folder, plan) is None:
        score(folder, plan)


if __name__ == "__main__":
    interrupt_on_termination()
    with one_sentence_errors():
        main(Path(sys.argv[1]))
