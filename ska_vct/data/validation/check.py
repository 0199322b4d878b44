"""Check a dataset before hours depend on it: whole releases for people, lists of records before training.

``check_release`` looks at everything a release holds, ``check_records`` at what a training will use, in seconds.
"""

import random
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tqdm import tqdm

from ska_vct.data.audio.files import choose_audio
from ska_vct.data.avsbench.folders import DatasetError, FolderIndex
from ska_vct.data.avsbench.locate import is_prepared
from ska_vct.data.avsbench.records import list_clips, make_reader, partly_prepared
from ska_vct.data.catalog import read_split
from ska_vct.data.facts import SPLITS, DatasetFacts, expand
from ska_vct.data.registry import ReadOptions, get_reader
from ska_vct.data.validation.clips import Needs, check_clip, has_flow
from ska_vct.data.validation.findings import ERROR, NOTE, WARNING, Finding, errors_of
from ska_vct.data.validation.release import check_class_list, check_entries, check_table
from ska_vct.utils.media.errors import AudioError
from ska_vct.utils.threads import in_threads

# What is checked of the largest releases when time is short is drawn with this seed.
_SEED = 0


@dataclass
class DatasetReport:
    """What a dataset on disk holds.

    Attributes:
        facts: of the dataset.
        base: its folder.
        states: split -> how its frames are stored: ``original``, ``rebuilt 384`` or ``rebuilt 224``, with clips.
        listed, usable: split -> clips in the table, and those without an error.
        findings: errors, warnings and notes.
        on_the_fly: what will be computed when a clip is loaded, one sentence each.
    """

    facts: DatasetFacts
    base: str
    states: dict[str, dict[str, int]] = field(default_factory=dict)
    listed: dict[str, int] = field(default_factory=dict)
    usable: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    on_the_fly: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return errors_of(self.findings)


def check_release(
    facts: DatasetFacts,
    base: str,
    options: ReadOptions,
    *,
    content: bool = True,
    jobs: int = 0,
    progress: bool = True,
    needs: Needs | None = None,
) -> DatasetReport:
    """Check one dataset on disk; nothing is written.

    Args:
        facts: of the dataset.
        base: its folder, of ``find_releases``.
        options: where flow, prepared files and pre-masks are looked for, as for training.
        content: decode every file instead of reading headers and ends.
        jobs: threads; 0 for one per core, at most 8.
        progress: show bars.
        needs: what will be used of a clip; by default audio of any kind, flow only where it exists.
    """
    needs = needs or Needs(read_flow=True)
    report = DatasetReport(facts, base)
    report.findings += check_class_list(facts, base)
    try:
        splits = _read_splits(report, options, progress)
    except DatasetError as error:
        report.findings.append(Finding(level=ERROR, kind="unusable table", text=str(error), path=base))
        return report
    audio, flows, sizes = Counter(), Counter(), Counter()
    for split, (records, found) in splits.items():
        task = partial(check_clip, needs=needs, content=content)
        title = f"Checking {facts.name} {split}"
        for findings in in_threads(task, records, jobs=jobs, title=title, progress=progress):
            found += findings
        broken = {finding.clip_id for finding in errors_of(found)}
        report.findings += found
        report.listed[split], report.usable[split] = len(records), len(records) - len(broken)
        report.states[split] = dict(Counter(map(_state, records)))
        for record in records:
            audio[_audio_source(record, needs)] += 1
            flows[has_flow(record["flow_path"])] += 1
            sizes[record["rebuilt"]] += 1
    report.findings += _split_sizes(report)
    report.on_the_fly = _on_the_fly(audio, flows, sizes, facts)
    return report


def _read_splits(
    report: DatasetReport, options: ReadOptions, progress: bool
) -> dict[str, tuple[list[dict], list[Finding]]]:
    """Records of each split, and what its listing found; findings of the table go to ``report``.

    Raises:
        DatasetError: nothing can be listed.
    """
    facts, base = report.facts, report.base
    if get_reader(facts.name) is not None:
        return {split: (read_split(facts, split, options), []) for split in SPLITS}
    table = list_clips(facts, base)
    report.findings += check_table(facts, table)
    index, splits = FolderIndex(), {}
    for split in SPLITS:
        reader = make_reader(facts, split, base, options, index=index)
        rows = tqdm(table.rows[split], desc=f"Listing {facts.name} {split}", delay=1, disable=not progress)
        records = [reader.record(row) for row in rows]
        found = [_missing(clip_id, path, what) for clip_id, path, what in reader.missing.files]
        for record in records:
            found += check_entries(record, reader)
        if note := partly_prepared(facts, split, records, options.root):
            found.append(Finding(level=WARNING, kind="partly prepared", text=note, path=base))
        splits[split] = records, found
    report.findings += _not_listed(facts, base, table.rows, index)
    return splits


@dataclass(frozen=True)
class Coverage:
    """How much ``check_records`` has seen: clips in all, with headers, with contents read; seconds it took."""

    clips: int
    headers: int
    contents: int
    seconds: float

    def __str__(self) -> str:
        parts = f"headers of {self.headers} and contents of {self.contents} of {self.clips} clips"
        return f"{parts} in {self.seconds:.1f} s"


def check_records(
    records: Sequence[dict], needs: Needs, *, seconds: float, jobs: int = 0, progress: bool = True
) -> tuple[list[Finding], Coverage]:
    """Check the clips that a training will use, first all headers, then contents while time is left.

    Args:
        records: of ``load_records``.
        needs: what will be used of them.
        seconds: for the contents, which are read in a seeded random order; headers may take three times as long.

    Returns:
        findings, and what has been looked at.
    """
    start = time.monotonic()
    order = random.Random(_SEED).sample(range(len(records)), len(records))
    findings: list[Finding] = []
    seen = []
    for content, deadline, title in ((False, 3 * seconds, "headers"), (True, seconds, "contents")):
        # The second look says what the first one said, of the same files.
        known = {(finding.kind, finding.path, finding.clip_id) for finding in findings}

        def look(index: int, content: bool = content, end: float = start + deadline) -> list[Finding] | None:
            late = time.monotonic() > end
            return None if late else check_clip(records[index], needs, content=content)

        done = [
            found
            for found in in_threads(look, order, jobs=jobs, title=f"Checking {title}", progress=progress)
            if found is not None
        ]
        seen.append(len(done))
        fresh = [finding for found in done for finding in found]
        findings += [f for f in fresh if (f.kind, f.path, f.clip_id) not in known]
    return findings, Coverage(len(records), *seen, time.monotonic() - start)


def _missing(clip_id: str, path: str, what: str) -> Finding:
    advice = "run datasets/prepare.py again" if is_prepared(path) else "unpack it again"
    text = f"Clip '{clip_id}' lacks its {what} {path}; {advice}, or leave the clip out."
    return Finding(level=ERROR, kind=f"missing {what}", text=text, path=path, clip_id=clip_id)


def _state(record: dict) -> str:
    return record["image_state"] if any(record["image_paths"]) else "no frames"


def _audio_source(record: dict, needs: Needs) -> str:
    try:
        return choose_audio(record, needs.audio_source)[0]
    except AudioError:
        return "none"


def _not_listed(facts: DatasetFacts, base: str, rows: dict[str, list[dict]], index: FolderIndex) -> list[Finding]:
    """Folders of clips that the table does not list."""
    known: dict[str, set[str]] = {}
    above, name, _ = facts.original.frames.partition("{name}")
    for split in SPLITS if name and facts.table else ():
        for row in rows[split]:
            folder = index.folder(base, expand(above.rstrip("/"), row))
            known.setdefault(folder, set()).add(unicodedata.normalize("NFC", row["name"]))
    findings = []
    for folder, names in known.items():
        for entry in sorted(index.names(folder)):
            if unicodedata.normalize("NFC", entry) not in names:
                text = f"{folder}/{entry} belongs to no clip of the table; it is ignored."
                findings.append(Finding(level=NOTE, kind="not in the table", text=text, path=f"{folder}/{entry}"))
    return findings


def _split_sizes(report: DatasetReport) -> list[Finding]:
    facts, findings = report.facts, []
    for split, published in facts.split_sizes.items():
        listed, usable = report.listed[split], report.usable[split]
        if listed != published or usable < listed:
            usable_too = f", {usable} of them usable" if usable < listed else ""
            text = (
                f"{facts.title}, split {split}: {listed} clips{usable_too}, {published} were published; scores do "
                "not compare with published ones."
            )
            findings.append(Finding(level=WARNING, kind="split of another size", text=text, path=report.base))
    return findings


def _on_the_fly(audio: Counter, flows: Counter, rebuilt: Counter, facts: DatasetFacts) -> list[str]:
    lines = []
    for source, cost in (("wav", "prepare.py --what log-mel saves that"), ("video", "decoded each time")):
        if audio[source]:
            lines.append(f"log-mel from the {source} of {audio[source]} clips ({cost})")
    if rebuilt[False] and len(facts.image_sets) > 1:
        lines.append(
            f"frames of {rebuilt[False]} clips resized from their released size (prepare.py --what frames)"
        )
    if flows[False]:
        lines.append(
            f"no flow for {flows[False]} of {flows[False] + flows[True]} clips: compute it, or set "
            "INPUT.FLOW.MISSING to zero"
        )
    return lines
