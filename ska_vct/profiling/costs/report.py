"""Tables of parameters, FLOPs and memory by part."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from tabulate import tabulate

from .trace import PART_NAMES, Trace, trace

MIB, GIB = 2**20, 2**30
_STATES = 2  # AdamW: two moments per trained parameter


def cost_report(cfg: CfgNode, frames: int) -> dict[str, Any]:
    """Parameters and FLOPs by part.

    Args:
        cfg: the config.
        frames: number of frames in the traced clip; 0 for the subset's.

    Returns:
        ``size``; ``frames``; ``parts``: by part ``parameters``, ``trained``, ``inference_flops`` (per frame),
        ``training_flops`` (forward pass and losses, per annotated frame); ``operations``: inference FLOPs per
        frame, by operation; ``uncounted``: operations without a rule; ``backbone_share`` of inference.
    """
    infer, train = (trace(cfg, frames=frames, train=mode) for mode in (False, True))
    parts = {
        part: {
            "parameters": infer.parameters.get(part, 0),
            "trained": infer.trained.get(part, 0),
            "inference_flops": infer.flops.get(part, 0) // infer.frames,
            "training_flops": train.flops.get(part, 0) // train.frames,
        }
        for part in PART_NAMES
    }
    return {
        "size": list(cfg.INPUT.SIZE),
        "frames": infer.frames,
        "parts": {part: row for part, row in parts.items() if any(row.values())},
        "operations": {name: flops // infer.frames for name, flops in infer.operations.items()},
        "uncounted": dict(infer.uncounted) | dict(train.uncounted),
        "backbone_share": infer.backbone_share,
    }


def cost_table(report: Mapping[str, Any]) -> str:
    """``cost_report`` as a Markdown table."""
    parts = dict(report["parts"])
    keys = ("parameters", "trained", "inference_flops", "training_flops")
    parts["**sum**"] = {key: sum(row[key] for row in report["parts"].values()) for key in keys}
    total = parts["**sum**"]["inference_flops"]
    rows = [
        {
            "": part,
            "parameters, M": f"{row['parameters'] / 1e6:.3f}",
            "trained": f"{row['trained'] / 1e6:.3f}",
            "GFLOPs per frame": f"{row['inference_flops'] / 1e9:.3f}",
            "share": f"{100 * row['inference_flops'] / total:.1f} %",
            "training, forward": f"{row['training_flops'] / 1e9:.3f}",
        }
        for part, row in parts.items()
    ]
    height, width = report["size"]
    lines = [
        tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True),
        f"{height} x {width} pixels; a multiply-add is two FLOPs. The backbone's share of inference is "
        f"{100 * report['backbone_share']:.1f} %.",
    ]
    if report["uncounted"]:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(report["uncounted"].items()))
        lines.append(f"Uncounted operations: {names}.")
    return "\n\n".join(lines)


def memory_report(variants: Mapping[str, CfgNode], *, batch: int, frames: int, fused: bool) -> dict[str, Any]:
    """Memory of a training step at the start of its backward pass, by part.

    Args:
        variants: configs by name of their table column.
        batch: number of clips.
        frames: frames per clip; 0 for the subset's. Only annotated ones are computed.
        fused: see :func:`trace`.

    Returns:
        for each variant ``frames`` (computed), ``parts``: bytes of ``parameters``, ``gradients``, ``optimizer``,
        ``buffers``, ``activations``, ``activations_amp`` (bfloat16 autocast with the CPU's rules); and their sums
        ``total``, ``total_amp``.
    """
    result = {}
    for name, cfg in variants.items():
        # Tracing needs no memory, so the batch has its true size.
        full, half = (
            trace(cfg, clips=batch, frames=frames, train=True, amp=amp, fused=fused) for amp in (False, True)
        )
        parts = {part: _held(full, half, part) for part in PART_NAMES}
        parts = {part: row for part, row in parts.items() if any(row.values())}
        fixed = sum(size for row in parts.values() for key, size in row.items() if not key.startswith("act"))
        result[name] = {
            "frames": full.frames,
            "parts": parts,
            "total": fixed + sum(row["activations"] for row in parts.values()),
            "total_amp": fixed + sum(row["activations_amp"] for row in parts.values()),
        }
    return result


def _held(full: Trace, half: Trace, part: str) -> dict[str, int]:
    trained = full.trained_bytes.get(part, 0)
    return {
        "parameters": full.parameter_bytes.get(part, 0),
        "gradients": trained,
        "optimizer": _STATES * trained,
        "buffers": full.buffer_bytes.get(part, 0),
        "activations": full.saved.get(part, 0),
        "activations_amp": half.saved.get(part, 0),
    }


def memory_tables(report: Mapping[str, Any]) -> str:
    """``memory_report`` as Markdown: one table per variant and, for several, a comparison of activations."""
    tables = []
    for name, variant in report.items():
        rows = [
            {"": part, **{key.replace("_amp", ", bf16"): mib(size) for key, size in row.items()}}
            for part, row in variant["parts"].items()
        ]
        sums = {
            key: sum(row[key] for row in variant["parts"].values())
            for key in next(iter(variant["parts"].values()))
        }
        rows.append({"": "**sum**", **{key.replace("_amp", ", bf16"): mib(size) for key, size in sums.items()}})
        tables.append(f"{name}, {variant['frames']} annotated frames, MiB:")
        tables.append(tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True))
        tables.append(f"Total {mib(variant['total'])} MiB, under bf16 autocast {mib(variant['total_amp'])} MiB.")
    if len(report) > 1:
        tables += ["Activations, MiB:", _compared(report)]
    tables.append(
        "Memory at the start of the backward pass, computed from shapes. Deformable attention (and, without "
        "--plain-attention, all attention) is assumed to store no weights. Intermediate gradients, workspaces, "
        "recomputed blocks and allocator overhead are not included. No GPU was measured."
    )
    return "\n\n".join(tables)


def batch_table(one: Mapping[str, Any], two: Mapping[str, Any], batches: Sequence[int]) -> str:
    """Memory by config and batch as a Markdown table of predictions, GiB.

    Every clip adds the same amount; what does not grow with the batch, such as parameters and their copies in
    bfloat16, is in both reports.

    Args:
        one, two: ``memory_report`` of batches of one and of two clips.
        batches: sizes to predict.
    """
    rows = []
    for name, first in one.items():
        cells = {}
        for batch in batches:
            totals = [first[key] + (batch - 1) * (two[name][key] - first[key]) for key in ("total", "total_amp")]
            cells[f"batch {batch}"] = " / ".join(f"{total / GIB:.1f}" for total in totals)
        rows.append({"": name, "annotated frames per clip": str(first["frames"]), **cells})
    note = (
        "GiB per GPU in fp32 / under bf16 autocast, predicted from shapes: what a training step of so many clips "
        "per GPU holds when its backward pass begins. Workspaces and the allocator's overhead come on top; no GPU "
        "was measured."
    )
    return f"{tabulate(rows, headers='keys', tablefmt='pipe', disable_numparse=True)}\n\n{note}"


def _compared(report: Mapping[str, Any]) -> str:
    parts = [part for part in PART_NAMES if any(part in variant["parts"] for variant in report.values())]
    rows: list[dict[str, str]] = [
        {
            "": part,
            **{
                name: mib(variant["parts"].get(part, {}).get("activations", 0)) for name, variant in report.items()
            },
        }
        for part in parts
    ]
    totals = {name: variant["total"] for name, variant in report.items()}
    first = next(iter(totals.values()))
    rows.append({"": "total", **{name: mib(size) for name, size in totals.items()}})
    rows.append({"": "total, ratio", **{name: f"{size / first:.2f}" for name, size in totals.items()}})
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)


def mib(size: float) -> str:
    """Bytes as MiB with one decimal."""
    return f"{size / MIB:.1f}"
