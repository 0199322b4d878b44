"""Findings of a dataset check: one per file or clip, counted by kind, and written as a list for repairs."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ska_vct.data.avsbench.leave_out import CLIP_COLUMN
from ska_vct.utils.files import atomic_write

# error: the clip cannot be used; warning: it can, but scores may not be what they seem; note: harmless.
ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
NO_FLOW = "flow taken as zero"
# What is the matter where every clip has a finding of a kind.
_WHOLE = {
    NO_FLOW: "No clip has flow, so the motion map is zero everywhere and SKA learns nothing; compute the flow."
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or unusual.

    Attributes:
        level: ``error``, ``warning`` or ``note``.
        kind: what findings are counted by, e.g. ``missing frame``.
        text: one sentence: what, where, what to do.
        path: the file or folder; empty for none.
        clip_id: the clip; empty if it concerns none.
    """

    level: str
    kind: str
    text: str
    path: str = ""
    clip_id: str = ""


def count_kinds(findings: Iterable[Finding]) -> list[tuple[str, str, int, int]]:
    """(level, kind, findings, clips concerned), errors first, then the most frequent first."""
    findings = list(findings)
    counts = Counter((finding.level, finding.kind) for finding in findings)
    clips = Counter({(f.level, f.kind, f.clip_id) for f in findings if f.clip_id})
    concerned = Counter((level, kind) for level, kind, _ in clips)
    ranked = sorted(counts.items(), key=lambda item: (LEVELS.index(item[0][0]), -item[1], item[0][1]))
    return [(level, kind, number, concerned[level, kind]) for (level, kind), number in ranked]


def summaries(findings: Iterable[Finding], num_clips: int) -> list[tuple[str, str, str]]:
    """(level, kind, heading) by kind, ordered as ``count_kinds``: what was found how often, of how many clips."""
    headings = []
    for level, kind, number, clips in count_kinds(findings):
        of = f" in {clips} of {num_clips} clips" if clips else ""
        whole = f" ({_WHOLE[kind]})" if kind in _WHOLE and clips == num_clips else ""
        headings.append((level, kind, f"{level}: {kind}: {number}{of}{whole}"))
    return headings


def errors_of(findings: Iterable[Finding]) -> list[Finding]:
    """Those that make a clip unusable."""
    return [finding for finding in findings if finding.level == ERROR]


def write_fix_list(path: str | os.PathLike, findings: Sequence[Finding]) -> int:
    """Write errors and warnings as csv: clip (of errors; for ``DATASETS.LEAVE_OUT``), level, kind, path, text.

    Returns:
        the number of lines.
    """
    rows = [finding for finding in findings if finding.level != NOTE]
    with atomic_write(path, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([CLIP_COLUMN, "level", "kind", "path", "text"])
        for row in rows:
            # A clip with a warning is usable; only unusable ones are to be left out.
            clip = row.clip_id if row.level == ERROR else ""
            table.writerow([clip, row.level, row.kind, row.path, row.text])
    return len(rows)
