"""What the runs of an ablation have come to: tables, a figure and a summary.

Files, in the folder of the ablation:

====================  ========================================================================================
``table.md``          the tables one reads
``table_long.md``     every score of every row
``table.csv``         the same, one line per row and score, with each seed's value
``differences.csv``   the same for differences to the baseline, paired by seed
``figure.png``        M_J and right - wrong by row, seeds as dots
``summary.json``      what was run, with what, and every run's scores
====================  ========================================================================================

Scores are percent and have names such as ``plain/true/M_J``: split, what was heard, score.
"""

import csv
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ska_vct.evaluation.seeds import Spread, paired, spread
from ska_vct.utils.files import atomic_write, write_json
from ska_vct.visualization.row_plot import Panel, plot_rows

from .ablation_plan import Ablation
from .ablation_run import PLAN, SCORES, TRAINING, is_trained, read_json
from .job_queue import format_seconds

EXPORTED = ("table.md", "table.csv", "differences.csv", "figure.png", "summary.json")
_RIGHT = "/true/right_minus_wrong"
# Heading and score of the tables' columns; those that nothing was scored for are left out.
_TABLES = {
    "Plain clips, silent twins (same looks, standing still), silent movers (own rhythm)": (
        ("plain M_J", "plain/true/M_J"),
        ("plain M_F", "plain/true/M_F"),
        ("twin M_J", "silent-twin/true/M_J"),
        ("twin right", "silent-twin/true/right"),
        ("twin wrong", "silent-twin/true/wrong"),
        ("twin silent", "silent-twin/true/silent_still"),
        ("mover M_J", "silent-mover/true/M_J"),
        ("mover right", "silent-mover/true/right"),
        ("mover wrong", "silent-mover/true/wrong"),
        ("mover silent", "silent-mover/true/silent_moving"),
    ),
    "Other splits; FPR on plain clips with another sound": (
        ("camera M_J", "camera-motion/true/M_J"),
        ("weak motion M_J", "weak-motion/true/M_J"),
        ("off-screen FPR", "off-screen/true/FPR"),
        ("silence FPR", "plain/silence/FPR"),
        ("noise FPR", "plain/noise/FPR"),
        ("off-screen sound FPR", "plain/off_screen/FPR"),
    ),
}
_DIFFERENCES = (
    ("plain M_J", "plain/true/M_J"),
    ("twin M_J", "silent-twin/true/M_J"),
    ("twin right - wrong", "silent-twin" + _RIGHT),
    ("mover M_J", "silent-mover/true/M_J"),
    ("mover right - wrong", "silent-mover" + _RIGHT),
    ("off-screen FPR", "off-screen/true/FPR"),
)
_PANELS = (
    ("Silent twins", "right - wrong (%)", "silent-twin" + _RIGHT),
    ("Silent movers", "right - wrong (%)", "silent-mover" + _RIGHT),
    ("Plain clips", "M_J (%)", "plain/true/M_J"),
)
_WORDS = (
    "right: more than half of the sounding object and less than half of the silent ones is marked; wrong: the "
    "reverse; silent: silent objects that are marked; FPR: marked pixels where nothing sounds. All in percent."
)


@dataclass(kw_only=True)
class RowResults:
    """A row's finished runs.

    Attributes:
        name, label: of the row.
        scores: score -> seed -> value.
        training: seed -> ``training.json``.
        plans: seed -> ``run.json``.
        num_clips: split -> clips scored.
        convention: of M_J and M_F.
    """

    name: str
    label: str
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    training: dict[int, dict] = field(default_factory=dict)
    plans: dict[int, dict] = field(default_factory=dict)
    num_clips: dict[str, int] = field(default_factory=dict)
    convention: str = ""

    @property
    def seeds(self) -> list[int]:
        """Those with scores."""
        return sorted({seed for values in self.scores.values() for seed in values})


def collect(ablation: Ablation, out: str | os.PathLike) -> list[RowResults]:
    """All finished trainings below ``out``, in the rows' order, with the scores that are there.

    Raises:
        ValueError: a file is damaged.
    """
    results = []
    for row in ablation.rows:
        result = RowResults(name=row.name, label=row.label)
        for folder in sorted((Path(out) / row.name).glob("seed*")):
            seed = folder.name.removeprefix("seed")
            # Runs that were put aside have more behind their number.
            if not seed.isdigit() or not is_trained(folder):
                continue
            result.plans[int(seed)] = read_json(folder / PLAN)
            result.training[int(seed)] = read_json(folder / TRAINING)
            _add_scores(result, int(seed), read_json(folder / SCORES))
        results.append(result)
    return results


def write_tables(ablation: Ablation, out: str | os.PathLike) -> str:
    """Write the files that the module's head lists from what is in ``out``.

    Returns:
        the tables as text.
    """
    out, results = Path(out), collect(ablation, out)
    text = to_markdown(ablation, results)
    with atomic_write(out / "table.md", "w") as file:
        file.write(text)
    baseline = _baseline(ablation, results)
    with atomic_write(out / "table_long.md", "w") as file:
        file.write(_long_table(results))
    _write_csv(out / "table.csv", results, spread)
    _write_csv(
        out / "differences.csv",
        [row for row in results if row is not baseline],
        lambda values, name: paired(values, baseline.scores.get(name, {})),
        takes_name=True,
    )
    write_json(out / "summary.json", summarize(ablation, results))
    panels = [
        Panel(title=title, axis=axis, values=[list(row.scores.get(name, {}).values()) for row in results])
        for title, axis, name in _PANELS
        if any(name in row.scores for row in results)
    ]
    if panels:
        plot_rows([row.label for row in results], panels, out / "figure.png")
    return text


def export(out: str | os.PathLike, folder: str | os.PathLike) -> list[Path]:
    """Copy what is worth keeping with the code into ``folder``; the files' new paths."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = [Path(out) / name for name in EXPORTED if (Path(out) / name).is_file()]
    return [Path(shutil.copy2(path, folder)) for path in found]


def to_markdown(ablation: Ablation, results: Sequence[RowResults]) -> str:
    """The tables one reads, as a Markdown page."""
    scored = [row for row in results if row.scores]
    convention = ", ".join(sorted({row.convention for row in scored})) or "none yet"
    parts = [f"Mean ± standard deviation over n seeds. Scores in percent, convention `{convention}`.\n"]
    for title, columns in _TABLES.items():
        columns = [column for column in columns if any(column[1] in row.scores for row in results)]
        if not columns:
            continue
        table = [
            {"row": row.label, "n": len(row.seeds)}
            | {heading: format_spread(spread(row.scores.get(name, {}).values())) for heading, name in columns}
            for row in scored
        ]
        parts.append(_titled(f"{title}; convention `{convention}`", table))
    if scored:
        parts.append(f"{_WORDS}\n")
        clips = ", ".join(f"{name} {count}" for row in scored[:1] for name, count in row.num_clips.items())
        parts.append(f"Clips: {clips}.\n")
    parts += _difference_table(ablation, results, convention)
    parts.append(_titled("Cost of training", [_cost(row) for row in results]))
    parts.append("Time as it passed, validation included, with whatever else ran on the machine.\n")
    return "\n".join(parts)


def format_spread(value: Spread | None, *, signed: bool = False) -> str:
    """``82.4 ± 0.6``; signed with the t interval where there is one: ``+1.2 ± 0.3 [0.5, 1.9]``."""
    if value is None:
        return "-"
    text = f"{value.mean:+.1f}" if signed else f"{value.mean:.1f}"
    if value.sd is not None:
        text += f" ± {value.sd:.1f}"
    interval = value.interval() if signed else None
    return f"{text} [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else text


def summarize(ablation: Ablation, results: Sequence[RowResults]) -> dict[str, Any]:
    """Everything that is needed to say what was run, without the runs' folders."""
    plans = [plan["keys"] for row in results for plan in row.plans.values()]
    same = {key for key in (plans[0] if plans else {}) if all(plan.get(key) == plans[0][key] for plan in plans)}
    return {
        "benchmark": str(ablation.benchmark),
        "baseline": ablation.baseline,
        "common": {key: plans[0][key] for key in sorted(same) if key.startswith(("SOLVER.", "INPUT.", "MODEL.S"))},
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "convention": row.convention,
                "num_clips": row.num_clips,
                "runs": [_summarize_run(row, seed, same) for seed in sorted(row.training)],
            }
            for row in results
        ],
    }


def _summarize_run(row: RowResults, seed: int, same: set[str]) -> dict[str, Any]:
    plan, training = row.plans[seed], row.training[seed]
    return {
        "seed": seed,
        "config": plan["config"],
        "keys": {key: value for key, value in plan["keys"].items() if key not in same},
        **{key: training[key] for key in ("iterations", "losses", "parameters", "sessions")},
        "seconds": round(training["seconds"], 1),
        "scores": {name: round(values[seed], 3) for name, values in row.scores.items() if seed in values},
    }


def _add_scores(result: RowResults, seed: int, report: Mapping[str, Any] | None) -> None:
    if report is None:
        return
    result.convention = report.get("convention", "combo")
    for split, entry in report["splits"].items():
        result.num_clips[split] = entry["num_clips"]
        rest = {key: value for key, value in entry.items() if key not in ("num_clips", "conditions")}
        for name, value in _leaves({**entry["conditions"], **rest}, split):
            result.scores.setdefault(name, {})[seed] = value


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}/{key}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{key}", float(value)


def _baseline(ablation: Ablation, results: Sequence[RowResults]) -> RowResults:
    return next(row for row in results if row.name == ablation.baseline)


def _difference_table(ablation: Ablation, results: Sequence[RowResults], convention: str) -> list[str]:
    baseline = _baseline(ablation, results)
    table = []
    for row in results:
        common = set(row.seeds) & set(baseline.seeds)
        if row is baseline or not common:
            continue
        line = {"row": row.label, "n": len(common)}
        for heading, name in _DIFFERENCES:
            difference = paired(row.scores.get(name, {}), baseline.scores.get(name, {}))
            line[heading] = format_spread(difference, signed=True)
        table.append(line)
    if not table:
        return []
    title = f"Difference to '{baseline.label}', paired by seed; convention `{convention}`"
    return [_titled(title, table), "In brackets: 95 % t interval of the mean, from three seeds on.\n"]


def _cost(row: RowResults) -> dict[str, Any]:
    def mean(key: str) -> float:
        return spread(record[key] for record in row.training.values()).mean

    if not row.training:
        return {"row": row.label, "trained": 0}
    return {
        "row": row.label,
        "trained": len(row.training),
        "parameters (M)": f"{mean('parameters') / 1e6:.3f}",
        "iterations": f"{mean('iterations'):.0f}",
        "training time": format_seconds(mean("seconds")),
    }


def _titled(title: str, table: Sequence[Mapping]) -> str:
    return f"## {title}\n\n{tabulate(table, headers='keys', tablefmt='pipe', disable_numparse=True)}\n"


def _long_table(results: Sequence[RowResults]) -> str:
    names = list(dict.fromkeys(name for row in results for name in row.scores))
    table = [
        {"score": name}
        | {row.name: format_spread(spread(row.scores.get(name, {}).values())) for row in results if row.scores}
        for name in names
    ]
    convention = ", ".join(sorted({row.convention for row in results if row.scores}))
    return _titled(f"Every score, percent; M_J and M_F without more in convention `{convention}`", table)


def _write_csv(path: Path, results: Sequence[RowResults], reduce, *, takes_name: bool = False) -> None:
    seeds = sorted({seed for row in results for seed in row.seeds})
    with atomic_write(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "score", "convention", "n", "mean", "sd", *(f"seed{seed}" for seed in seeds)])
        for row in results:
            for name, values in row.scores.items():
                value = reduce(values, name) if takes_name else reduce(values.values())
                if value is not None:
                    sd = "" if value.sd is None else f"{value.sd:.4f}"
                    each = (f"{values[seed]:.4f}" if seed in values else "" for seed in seeds)
                    writer.writerow([row.name, name, row.convention, value.n, f"{value.mean:.4f}", sd, *each])
