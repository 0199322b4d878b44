"""Results of an ablation: tables, a figure and a summary.

Files, in the folder of the ablation, named after its list:

========================  ====================================================================================
``LIST.md``               the main tables
``LIST_long.md``          every score of every row
``LIST.csv``              the same, one line per row and score, with each seed's value
``LIST_differences.csv``  the same for differences from the baseline, paired by seed
``LIST.png``              right - wrong and M_J by row, seeds as dots
``LIST_summary.json``     configs, machine and scores of every run
========================  ====================================================================================
"""

import csv
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ska_vct.evaluation.conventions import m_f_threshold
from ska_vct.experiments.statistics import Spread, spread
from ska_vct.utils.files import atomic_write, write_json
from ska_vct.visualization.row_plot import Panel, plot_rows

from ..job_queue import format_seconds
from ..robustness.names import DELAYS
from .bootstrap import ClipScore, interval
from .plan import Ablation
from .results import BY_SOUNDING, RowResults, collect, mixed_configs, summarize

_EXPORTED = (".md", ".csv", "_differences.csv", ".png", "_summary.json")
_RIGHT = "/true/right_minus_wrong"
# Heading and score of the tables' columns; columns without scores are left out.
_TABLES = {
    "Plain clips, silent twins (same appearance, still), silent movers (own rhythm)": (
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
    "Other splits, and FPR on plain clips with other audio": (
        ("camera M_J", "camera-motion/true/M_J"),
        ("weak motion M_J", "weak-motion/true/M_J"),
        ("off-screen FPR", "off-screen/true/FPR"),
        ("silence FPR", "plain/silence/FPR"),
        ("noise FPR", "plain/noise/FPR"),
        ("other clip's audio FPR", "plain/off_screen/FPR"),
    ),
}
_SOUNDING = tuple(
    (f"{heading}, {number}", f"{split}/true/{score}")
    for heading, split in (("plain", "plain"), ("camera", "camera-motion"), ("weak motion", "weak-motion"))
    for number, score in BY_SOUNDING.items()
)
_FOLLOWING = (
    ("twin map first", "silent-twin/true/map_first"),
    ("twin right, map first", "silent-twin/true/right_given_map_first"),
    ("mover map first", "silent-mover/true/map_first"),
    ("mover right, map first", "silent-mover/true/right_given_map_first"),
)
_BY_SECOND = (
    ("right - wrong", "right_minus_wrong"),
    ("map first", "map_first"),
    ("right, map first", "right_given_map_first"),
)
# Heading -> score with its counts per clip, for intervals over clips.
_INTERVALS = {
    "plain M_J": ClipScore("plain", "true", "M_J"),
    "twin right - wrong": ClipScore("silent-twin", "true", "right_frames", "wrong_frames", "silent_frames"),
    "mover right - wrong": ClipScore("silent-mover", "true", "right_frames", "wrong_frames", "silent_frames"),
    "twin silent": ClipScore("silent-twin", "true", "silent_still_segmented", "", "silent_still_pixels"),
    "mover silent": ClipScore("silent-mover", "true", "silent_moving_segmented", "", "silent_moving_pixels"),
    "camera M_J": ClipScore("camera-motion", "true", "M_J"),
    "weak motion M_J": ClipScore("weak-motion", "true", "M_J"),
    "off-screen FPR": ClipScore("off-screen", "true", "FPR"),
    "silence FPR": ClipScore("plain", "silence", "FPR"),
    "noise FPR": ClipScore("plain", "noise", "FPR"),
    "other clip's audio FPR": ClipScore("plain", "off_screen", "FPR"),
    "mover right, map first": ClipScore("silent-mover", "true", "right_map_first_frames", "", "map_first_frames"),
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
    ("Silent twins", "right - wrong (% of frames)", "silent-twin" + _RIGHT),
    ("Silent movers", "right - wrong (% of frames)", "silent-mover" + _RIGHT),
    ("Plain clips", "M_J (%)", "plain/true/M_J"),
)
_WORDS = (
    "right: frames in which more than half of what sounds and less than half of what is silent is segmented; "
    "wrong: the reverse. silent: segmented share of the pixels of silent twins, or movers. FPR: segmented share "
    "of all pixels."
)


def write_tables(ablation: Ablation, out: str | os.PathLike) -> str:
    """Write the files listed in the module docstring from the runs in ``out``.

    Returns:
        the tables as text.

    Raises:
        ValueError: a file of a run is damaged.
    """
    out, name, results = Path(out), ablation.name, collect(ablation, out)
    text = to_markdown(ablation, results)
    with atomic_write(out / f"{name}.md", "w") as file:
        file.write(text)
    with atomic_write(out / f"{name}_long.md", "w") as file:
        file.write(_long_table(results))
    baseline = _baseline(ablation, results)
    _write_csv(out / f"{name}.csv", results)
    _write_csv(out / f"{name}_differences.csv", [row.minus(baseline) for row in results if row is not baseline])
    write_json(out / f"{name}_summary.json", summarize(ablation, results))
    scored = [row for row in results if row.scores]
    panels = [
        Panel(title=title, axis=axis, values=[row.values(score) for row in scored])
        for title, axis, score in _PANELS
        if any(score in row.scores for row in scored)
    ]
    if panels:
        plot_rows([row.label for row in scored], panels, out / f"{name}.png")
    return text


def export(ablation: Ablation, out: str | os.PathLike, folder: str | os.PathLike) -> list[Path]:
    """Copy the tables, figure and summary into ``folder``; returns the new paths."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = [Path(out) / f"{ablation.name}{ending}" for ending in _EXPORTED]
    return [Path(shutil.copy2(path, folder)) for path in files if path.is_file()]


def to_markdown(ablation: Ablation, results: Sequence[RowResults]) -> str:
    """The main tables as a Markdown page."""
    scored = [row for row in results if row.scores]
    convention = _convention(results)
    parts = ["Mean ± standard deviation over n seeds. Scores in percent, for the weights of the last iteration.\n"]
    parts += [f"**{sentence}**\n" for sentence in mixed_configs(results)]
    for title, columns in _TABLES.items():
        parts += _score_table(scored, f"{title}; percent, convention `{convention}`", columns)
    parts += _interval_table(scored)
    parts += _sounding_table(scored)
    parts += _following_table(scored)
    parts += _second_table(scored)
    parts += _delay_table(scored)
    if scored:
        counts = scored[0].num_clips
        clips = ", ".join(f"{split} {counts[split]}" for split in ablation.splits if split in counts)
        parts.append(f"{_WORDS} {_threshold_words(results)} Clips: {clips}.\n")
    parts += _difference_table(ablation, results)
    parts += _validation_table(results)
    parts.append(_titled("Cost of training", [_cost(row) for row in results]))
    parts.append("Wall time, including start-up and validation, on a machine with other load.\n")
    return "\n".join(parts)


def _interval_table(scored: Sequence[RowResults]) -> list[str]:
    table = []
    for row in scored:
        cells = {heading: interval(list(row.clips.values()), score) for heading, score in _INTERVALS.items()}
        if any(cells.values()):
            shown = {
                heading: f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else "-" for heading, ends in cells.items()
            }
            table.append({"row": row.label, "n": len(row.clips)} | shown)
    if not table:
        return []
    words = "95 % bootstrap intervals of the mean over seeds; training seeds and test clips are both drawn again."
    return [_titled("Intervals over seeds and clips, percent", table), f"{words}\n"]


def _sounding_table(scored: Sequence[RowResults]) -> list[str]:
    title = "M_J of clips with one and with several sounding objects, percent"
    return _score_table(scored, title, _SOUNDING)


def _following_table(scored: Sequence[RowResults]) -> list[str]:
    words = (
        "map first: frames in which the motion map is higher on the sounding than on the silent object; right, "
        "map first: how often those frames are right."
    )
    table = _score_table(scored, "Does the mask follow the map? Percent of frames", _FOLLOWING)
    return [*table, f"{words}\n"] if table else []


def _score_table(scored: Sequence[RowResults], title: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Means and deviations of the rows that have any of the scores; scores that no row has are left out."""
    columns = [column for column in columns if any(column[1] in row.scores for row in scored)]
    table = [
        {"row": row.label, "n": max(len(row.scores.get(score, ())) for _, score in columns)}
        | {heading: format_spread(spread(row.values(score))) for heading, score in columns}
        for row in scored
        if any(score in row.scores for _, score in columns)
    ]
    return [_titled(title, table)] if table else []


def _second_table(scored: Sequence[RowResults]) -> list[str]:
    prefix = "silent-mover/true/by_frame/"
    seconds = sorted(
        {name.split("/")[3] for row in scored for name in row.scores if name.startswith(prefix)}, key=int
    )
    table = []
    for row in scored:
        for heading, score in _BY_SECOND:
            cells = {f"second {k}": spread(row.values(f"{prefix}{k}/{score}")) for k in seconds}
            if any(cells.values()):
                shown = {name: format_spread(value) for name, value in cells.items()}
                table.append({"row": row.label, "score": heading} | shown)
    return [_titled("Silent movers by second of the clip, percent of frames", table)] if table else []


def _delay_table(scored: Sequence[RowResults]) -> list[str]:
    """How the match suffers when the audio is late."""
    table = []
    delays = {"true": 0.0, **dict(sorted(DELAYS.items(), key=lambda item: item[1]))}
    for row in scored:
        cells = {
            f"{delay} s": spread(row.values(f"silent-mover/{name}/right_minus_wrong"))
            for name, delay in delays.items()
        }
        if sum(value is not None for value in cells.values()) > 1:
            table.append({"row": row.label} | {name: format_spread(value) for name, value in cells.items()})
    if not table:
        return []
    return [_titled("Silent movers, right - wrong, with audio that is late (percent of frames)", table)]


def _validation_table(results: Sequence[RowResults]) -> list[str]:
    curves = {row.label: [record.get("validation") or {} for record in row.training.values()] for row in results}
    steps = sorted({int(step) for curve in curves.values() for record in curve for step in record})
    table = []
    for label, records in curves.items():
        values = {f"{step}": spread(r[str(step)] for r in records if str(step) in r) for step in steps}
        if any(values.values()):
            table.append({"row": label} | {step: format_spread(value) for step, value in values.items()})
    return [_titled("M_J (`combo`) on validation clips by iteration, percent", table)] if table else []


def format_spread(value: Spread | None, *, signed: bool = False) -> str:
    """``82.4 ± 0.6``; signed with the t interval where there is one: ``+1.2 ± 0.3 [+0.5, +1.9]``."""
    if value is None:
        return "-"

    def number(x: float) -> str:
        # + 0.0 removes the minus sign of a rounded zero
        return f"{round(x, 1) + 0.0:{'+' if signed else ''}.1f}"

    text = number(value.mean)
    if value.sd is not None:
        text += f" ± {value.sd:.1f}"
    interval = value.interval() if signed else None
    return f"{text} [{', '.join(map(number, interval))}]" if interval else text


def _baseline(ablation: Ablation, results: Sequence[RowResults]) -> RowResults:
    return next(row for row in results if row.name == ablation.baseline)


def _convention(results: Sequence[RowResults]) -> str:
    return ", ".join(sorted({row.convention for row in results if row.scores}))


def _threshold_words(results: Sequence[RowResults]) -> str:
    """The threshold at which M_F is computed."""
    names = sorted({row.convention for row in results if row.scores})
    return "M_F's threshold: " + "; ".join(f"{m_f_threshold(name)} (`{name}`)" for name in names) + "."


def _difference_table(ablation: Ablation, results: Sequence[RowResults]) -> list[str]:
    baseline = _baseline(ablation, results)
    differences = [row.minus(baseline) for row in results if row is not baseline]
    table = [
        {"row": row.label, "n": len(row.seeds)}
        | {heading: format_spread(spread(row.values(score)), signed=True) for heading, score in _DIFFERENCES}
        for row in differences
        if row.seeds
    ]
    if not table:
        return []
    title = f"Difference to '{baseline.label}', paired by seed; convention `{_convention(results)}`"
    title += ", percentage points"
    return [_titled(title, table), "In brackets: 95 % t interval of the mean, with three seeds or more.\n"]


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
    scored = [row for row in results if row.scores]
    names = list(dict.fromkeys(name for row in scored for name in row.scores))
    table = [
        {"score": name} | {row.name: format_spread(spread(row.values(name))) for row in scored} for name in names
    ]
    title = f"Every score in percent; M_J, M_F, G_mIoU and drop in convention `{_convention(results)}`"
    return _titled(title, table)


def _write_csv(path: Path, results: Sequence[RowResults]) -> None:
    seeds = sorted({seed for row in results for seed in row.seeds})
    with atomic_write(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "score", "convention", "n", "mean", "sd", *(f"seed{seed}" for seed in seeds)])
        for row in results:
            for name, values in row.scores.items():
                value = spread(values.values())
                if value is not None:
                    sd = "" if value.sd is None else f"{value.sd:.4f}"
                    each = (f"{values[seed]:.4f}" if seed in values else "" for seed in seeds)
                    writer.writerow([row.name, name, row.convention, value.n, f"{value.mean:.4f}", sd, *each])
