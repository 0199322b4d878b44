"""Results of a map-only study: ``table.md`` to read, ``table.json`` with the values of every run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ska_vct.experiments.statistics import paired_differences, spread
from ska_vct.utils.files import atomic_write, write_json

from ..ablation.plan import Ablation
from ..ablation.report import format_spread
from ..ablation.run import read_json

RESULT = "study.json"
_SCORES = ("first", "sounding", "silent", "background")
_WORDS = (
    "first: share of the frames with both in which the map's mean on sounding objects exceeds that on every "
    "silent object. sounding, silent, background: mean of the map there. All in percent."
)


def write_study_tables(study: Ablation, out: str | os.PathLike) -> str:
    """Write ``table.md`` and ``table.json`` from the runs in ``out``.

    Returns:
        the tables as text.

    Raises:
        ValueError: a run's file is damaged.
    """
    out = Path(out)
    results = {row.name: _read_row(out / row.name) for row in study.rows}
    labels = {row.name: row.label for row in study.rows}
    text = _to_markdown(study, results, labels)
    with atomic_write(out / "table.md", "w") as file:
        file.write(text)
    rows = [
        {
            "name": name,
            "label": labels[name],
            "runs": [{key: run[key] for key in run if key != "keys"} for run in runs.values()],
            "spread": {
                split: {score: _as_json(spread(_values(runs, split, score).values())) for score in _SCORES}
                for split in study.splits
            },
        }
        for name, runs in results.items()
    ]
    write_json(out / "table.json", {"baseline": study.baseline, "rows": rows})
    return text


def _read_row(folder: Path) -> dict[int, Mapping[str, Any]]:
    """Seed -> result of a run."""
    found = [read_json(path) for path in folder.glob(f"seed*/{RESULT}")]
    return {run["seed"]: run for run in sorted(found, key=lambda run: run["seed"])}


def _values(runs: Mapping[int, Mapping], split: str, score: str) -> dict[int, float]:
    values = {seed: run["splits"].get(split, {}).get(score) for seed, run in runs.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _to_markdown(study: Ablation, results: Mapping[str, Mapping], labels: Mapping[str, str]) -> str:
    done = {name: runs for name, runs in results.items() if runs}
    firsts, baseline = [], results[study.baseline]
    for name, runs in done.items():
        line = {"variant": labels[name], "n": len(runs), "parameters": next(iter(runs.values()))["parameters"]}
        for split in study.splits:
            values = _values(runs, split, "first")
            line[split] = format_spread(spread(values.values()))
            if name != study.baseline:
                difference = spread(paired_differences(values, _values(baseline, split, "first")).values())
                line[f"{split}, difference"] = format_spread(difference, signed=True)
        firsts.append(line)
    parts = ["Mean ± standard deviation over n seeds; the map alone was trained, without images.\n"]
    parts.append(_titled(f"First, in %; differences to '{labels[study.baseline]}', paired by seed", firsts))
    for split in study.splits:
        table = [
            {"variant": labels[name]}
            | {score: format_spread(spread(_values(runs, split, score).values())) for score in _SCORES[1:]}
            for name, runs in done.items()
        ]
        counts = [
            run["splits"][split] for runs in done.values() for run in runs.values() if split in run["splits"]
        ]
        frames = f", {counts[0]['frames']} frames, {counts[0]['contested']} with both" if counts else ""
        parts.append(_titled(f"The map on {split}{frames}", table))
    return "\n".join([*parts, f"{_WORDS} In brackets: 95 % t interval of the mean, with three seeds or more.\n"])


def _titled(title: str, table: list[dict]) -> str:
    return f"## {title}\n\n{tabulate(table, headers='keys', tablefmt='pipe', disable_numparse=True)}\n"


def _as_json(value) -> dict | None:
    return None if value is None else {"n": value.n, "mean": value.mean, "sd": value.sd}
