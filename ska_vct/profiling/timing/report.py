"""Benchmark results as a table and as JSON."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from .turns import Measurement
from .work import TOTAL


def table(measurements: Sequence[Measurement]) -> str:
    """One row per case, with speed and memory relative to the first row."""
    first = measurements[0]
    rows = []
    for found in measurements:
        low, high = found.quartiles()
        row: dict[str, Any] = {
            "": found.case.name,
            "median": seconds(found.median()),
            "quartiles": f"{seconds(low)} - {seconds(high)}",
        }
        for part in found.seconds:
            if part != TOTAL and len(found.seconds) > 2 - (TOTAL in found.seconds):
                row[part] = seconds(found.median(part))
        if found.clips:
            row["clips/s"] = f"{found.clips_per_second:.3g}"
        if found.frames:
            row["frames/s"] = f"{found.frames_per_second:.3g}"
        if found.peak_bytes is not None:
            row["peak MiB"] = f"{found.peak_bytes / 2**20:.0f}"
        if len(measurements) > 1:
            row |= ratios(found, first)
        rows.append(row)
    columns = {key: None for row in rows for key in row}
    rows = [{key: row.get(key, "") for key in columns} for row in rows]
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)


def ratios(found: Measurement, first: Measurement) -> dict[str, str]:
    """Speed (higher is better) and memory relative to the first row, speed per clip or frame if counted."""
    unit = "clips" if found.clips and first.clips else "frames" if found.frames and first.frames else None
    amounts = (getattr(found, unit), getattr(first, unit)) if unit else (1, 1)
    faster = (first.median() / amounts[1]) / (found.median() / amounts[0])
    result = {"speed ratio": f"{faster:.2f}"}
    if found.peak_bytes and first.peak_bytes:
        result["memory ratio"] = f"{found.peak_bytes / first.peak_bytes:.2f}"
    return result


def seconds(value: float) -> str:
    """Format seconds with three digits and a unit."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def as_dict(subject: str, measurements: Sequence[Measurement], lines: Sequence[str], **facts: Any) -> dict:
    """Contents of the ``--json`` file."""
    return {
        "subject": subject,
        **facts,
        "results": [found.as_dict() | {"ratios": ratios(found, measurements[0])} for found in measurements],
        "conclusions": list(lines),
    }
