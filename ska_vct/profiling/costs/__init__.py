"""What the model costs by part, from shapes alone (``tools/analyze_model.py``)."""

import argparse
from typing import Any

from detectron2.config import CfgNode

from ska_vct.engine.setup import load_cfg
from ska_vct.utils.files import write_json

from ..timing import BenchmarkError
from ..timing.machine import machine_facts
from ..timing.subject import short_name
from .complexity import write_golden
from .fit import fit_report, fit_text, measure_peaks
from .report import cost_report, cost_table, memory_report, memory_tables
from .trace import Trace, trace

__all__ = ["Trace", "analyze", "cost_report", "fit_report", "measure_peaks", "memory_report", "trace"]


def analyze(args: argparse.Namespace) -> str:
    """What ``tools/analyze_model.py`` does.

    Args:
        args: ``config_file``, ``opts``, ``vary``, ``size``, ``frames``, ``json``; ``memory``, ``batch``,
            ``plain_attention``; ``fit_memory``, ``fit_frames``, ``held_out``, ``threads``; ``update_golden``.

    Returns:
        tables and what follows from them.

    Raises:
        ConfigError, BenchmarkError: the input is wrong.
    """
    if args.update_golden:
        return f"Wrote {write_golden()}."
    if not args.config_file:
        raise BenchmarkError("No config is named; add --config-file FILE.")
    variants = {name: (file, opts, load_sized(args, file, opts)) for name, file, opts in _variants(args)}
    if args.fit_memory:
        report, text = _fit(args, variants)
    elif args.memory:
        configs = {name: cfg for name, (_, _, cfg) in variants.items()}
        report = memory_report(configs, batch=args.batch, frames=args.frames, fused=not args.plain_attention)
        text = memory_tables(report)
    else:
        report = {name: cost_report(cfg, args.frames or 1) for name, (_, _, cfg) in variants.items()}
        text = "\n\n".join(f"{name}\n\n{cost_table(found)}" for name, found in report.items())
    if args.json:
        write_json(args.json, {"machine": machine_facts(), "results": report})
    return text


def load_sized(args: argparse.Namespace, file: str, opts: list[str]) -> CfgNode:
    """The config with ``--size``."""
    cfg = load_cfg(file, opts)
    if args.size:
        cfg.INPUT.SIZE = tuple(args.size)
    return cfg


def _variants(args: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
    key, *values = args.vary or ("",)
    if key and not values:
        raise BenchmarkError(f"--vary {key} names no value; write --vary KEY VALUE [VALUE ...].")
    result = []
    for file in args.config_file:
        for value in values or [None]:
            name = short_name(file) if value is None else f"{short_name(file)}, {key} {value}"
            result.append((name, file, [*args.opts, *([key, value] if value is not None else [])]))
    return result


def _fit(args: argparse.Namespace, variants: dict) -> tuple[dict[str, Any], str]:
    report, texts = {}, []
    for name, (file, opts, cfg) in variants.items():
        size = ["INPUT.SIZE", str(tuple(cfg.INPUT.SIZE))]
        counts = sorted({*args.fit_frames, *args.held_out})
        peaks = measure_peaks(file, [*opts, *size], counts, threads=args.threads)
        report[name] = fit_report(cfg, peaks, held_out=args.held_out, batch=args.batch, frames=args.frames)
        texts.append(f"{name}\n\n{fit_text(report[name])}")
    return report, "\n\n".join(texts)
