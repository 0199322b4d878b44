"""Formats the report of a checked dataset for a terminal."""

from tabulate import tabulate

from ska_vct.data.facts import SPLITS
from ska_vct.data.validation.check import DatasetReport
from ska_vct.data.validation.findings import summaries


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
    for level, kind, heading in summaries(report.findings, sum(report.listed.values())):
        lines.append(heading)
        same = [finding.text for finding in report.findings if (finding.level, finding.kind) == (level, kind)]
        # What is said of the whole release is the same for every clip.
        texts = list(dict.fromkeys(same))
        lines += [f"    {text}" for text in texts[:show]]
        if len(texts) > show:
            lines.append(f"    ... and {len(texts) - show} more (--fix-list or --show names them)")
    lines += [f"on the fly: {line}" for line in report.on_the_fly]
    if not report.errors:
        lines.append("All clips are usable.")
    return "\n".join(lines)
