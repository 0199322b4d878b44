"""Formats the report of a checked dataset for a terminal."""

from itertools import islice

from tabulate import tabulate

from ska_vct.data.facts import SPLITS
from ska_vct.data.validation.check import DatasetReport
from ska_vct.data.validation.findings import count_kinds


def describe(report: DatasetReport, *, show: int = 10) -> str:
    """What was found, as text for a terminal.

    Args:
        report: of ``check_release``.
        show: findings named per kind; what is left out is counted.
    """
    facts = report.facts
    lines = ["", f"{facts.title}: {report.base}"]
    if report.listed:
        rows = [
            {
                "split": split,
                "published": facts.split_sizes.get(split, "-"),
                "listed": report.listed[split],
                "usable": report.usable[split],
                "frames": ", ".join(f"{state} ({count})" for state, count in sorted(report.states[split].items())),
            }
            for split in SPLITS
        ]
        lines.append(tabulate(rows, headers="keys", tablefmt="simple"))
    for level, kind, number, clips in count_kinds(report.findings):
        lines.append(f"{level}: {kind}: {number}" + (f" in {clips} clips" if clips else ""))
        same = (f for f in report.findings if (f.level, f.kind) == (level, kind))
        lines += [f"    {finding.text}" for finding in islice(same, show)]
        if number > show:
            lines.append(f"    ... and {number - show} more (--fix-list or --show names them)")
    lines += [f"on the fly: {line}" for line in report.on_the_fly]
    if not report.errors:
        lines.append("All clips are usable.")
    return "\n".join(lines)
