"""Parameters, FLOPs and memory of the model by part, computed from shapes (``tools/analyze_model.py``)."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.utils import comm

from ska_vct.engine.setup import load_cfg
from ska_vct.utils.files import write_json

from ..timing import BenchmarkError
from ..timing.machine import machine_facts
from ..timing.subject import short_name
from .complexity import write_golden
from .fit import fit_report, fit_text, held_bytes, measure_peaks
from .report import batch_table, cost_report, cost_table, memory_report, memory_tables
from .trace import Trace, trace

__all__ = [
    "Trace",
    "analyze",
    "cost_report",
    "fit_report",
    "measure_peaks",
    "memory_report",
    "step_bytes",
    "trace",
    "write_golden",
]


def analyze(
    config_files: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    vary: tuple[str, Sequence[str]] | None = None,
    size: tuple[int, int] | None = None,
    frames: int = 0,
    memory: bool = False,
    batch: int | Sequence[int] = 8,
    fused: bool = True,
    fit_memory: bool = False,
    fit_frames: Sequence[int] = (1, 2, 3),
    held_out: Sequence[int] = (5,),
    threads: int = 0,
    json: str = "",
) -> str:
    """Report parameters and FLOPs of models by part, or the memory of their training steps.

    Args:
        config_files: one or more configs.
        overrides: KEY, VALUE, ... applied to each of them.
        vary: a key and its values; every config is analyzed with each value.
        size: (H, W), replaces ``INPUT.SIZE``.
        frames: number of frames per clip; 0 for 1 or, for memory, the subset's.
        memory: report the memory of a training step of ``batch`` clips instead of FLOPs; with ``fused`` attention
            kernels, else with the attention that PyTorch selects on a CPU. Several batches give a table of totals.
        fit_memory: measure training steps of ``fit_frames`` and ``held_out`` frames with ``threads`` threads (0:
            the default), fit a line and extrapolate to ``batch`` clips.
        json: output file for the figures; empty for none.

    Returns:
        the tables and conclusions as text.

    Raises:
        ConfigError, BenchmarkError: the input is invalid.
    """
    if not config_files:
        raise BenchmarkError("No config was given; add --config-file FILE.")
    variants = {}
    for name, file, changes in _variants(config_files, overrides, vary):
        cfg = load_cfg(file, changes)
        if size:
            cfg.INPUT.SIZE = tuple(size)
        variants[name] = (file, changes, cfg)
    if fit_memory:
        report, texts = {}, []
        for name, (file, changes, cfg) in variants.items():
            counts = sorted({*fit_frames, *held_out})
            peaks = measure_peaks(
                file, [*changes, "INPUT.SIZE", str(tuple(cfg.INPUT.SIZE))], counts, threads=threads
            )
            report[name] = fit_report(cfg, peaks, held_out=held_out, batch=_one(batch), frames=frames)
            texts.append(f"{name}\n\n{fit_text(report[name])}")
        text = "\n\n".join(texts)
    elif memory:
        configs = {name: cfg for name, (_, _, cfg) in variants.items()}
        if isinstance(batch, int) or len(batch) == 1:
            report = memory_report(configs, batch=_one(batch), frames=frames, fused=fused)
            text = memory_tables(report)
        else:
            report, more = (memory_report(configs, batch=k, frames=frames, fused=fused) for k in (1, 2))
            text = batch_table(report, more, batch)
    else:
        report = {name: cost_report(cfg, frames or 1) for name, (_, _, cfg) in variants.items()}
        text = "\n\n".join(f"{name}\n\n{cost_table(found)}" for name, found in report.items())
    if json:
        write_json(json, {"machine": machine_facts(), "results": report})
    return text


def step_bytes(cfg: CfgNode) -> float:
    """Memory of a training step in each process, bytes, from shapes alone; workspaces come on top.

    Args:
        cfg: the config of the run.
    """
    found = trace(
        cfg,
        clips=max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()),
        frames=cfg.INPUT.FRAMES_PER_CLIP,
        train=True,
        amp=cfg.SOLVER.AMP.ENABLED,
        fused=cfg.MODEL.DEVICE != "cpu",
    )
    return held_bytes(found)


def _one(batch: int | Sequence[int]) -> int:
    if isinstance(batch, int):
        return batch
    if len(batch) != 1:
        raise BenchmarkError("Several sizes of the batch are for --memory; give --batch one number.")
    return batch[0]


def _variants(
    config_files: Sequence[str], overrides: Sequence[str], vary: tuple[str, Sequence[str]] | None
) -> list[tuple[str, str, list[str]]]:
    key, values = vary or ("", ())
    if key and not values:
        raise BenchmarkError(f"--vary {key} has no values; write --vary KEY VALUE [VALUE ...].")
    result = []
    for file in config_files:
        for value in values or [None]:
            name = short_name(file) if value is None else f"{short_name(file)}, {key} {value}"
            result.append((name, file, [*overrides, *([key, value] if value is not None else [])]))
    return result
