"""Reads the finished runs of an ablation from their folders."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ska_vct.experiments.statistics import paired_differences
from ska_vct.structures.clip import TRUE_CONDITION
from ska_vct.synth.truth import read_clip_roles

from .bootstrap import read_clips
from .plan import Ablation, changed_keys
from .run import PLAN, TRAINING, is_trained, read_json, read_scores

# The run's own robustness.json holds the other conventions; notes are for human readers.
_LEFT_OUT = ("notes", "conventions", "silent_frames")
_BY_SECOND = "/by_frame/"
# How many of a clip's objects sound -> score, for splits that have clips of both kinds.
BY_SOUNDING = {"one": "M_J_one_sounding", "several": "M_J_several_sounding"}


@dataclass(kw_only=True)
class RowResults:
    """A row's finished runs.

    Attributes:
        name, label: of the row.
        scores: name, e.g. ``plain/true/M_J`` (split, condition, score) -> seed -> value, mostly percent.
        training: seed -> ``training.json``.
        plans: seed -> ``run.json``.
        clips: seed -> rows of the run's ``per_clip.csv`` by split and condition.
        num_clips: split -> number of clips scored.
        convention: of M_J and M_F; empty without scores.
    """

    name: str
    label: str
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    training: dict[int, dict] = field(default_factory=dict)
    plans: dict[int, dict] = field(default_factory=dict)
    clips: dict[int, dict[tuple[str, str], list[dict[str, str]]]] = field(default_factory=dict)
    num_clips: dict[str, int] = field(default_factory=dict)
    convention: str = ""

    @property
    def seeds(self) -> list[int]:
        """Seeds that have scores."""
        return sorted({seed for values in self.scores.values() for seed in values})

    def values(self, score: str) -> list[float]:
        """Values of all seeds."""
        return list(self.scores.get(score, {}).values())

    def minus(self, baseline: "RowResults") -> "RowResults":
        """Differences to ``baseline``, for the seeds that both have."""
        scores = {
            name: paired_differences(values, baseline.scores.get(name, {})) for name, values in self.scores.items()
        }
        return replace(self, scores=scores)


def collect(ablation: Ablation, out: str | os.PathLike) -> list[RowResults]:
    """All finished training runs below ``out``, in the order of the rows, with the scores found.

    Raises:
        ValueError: a file is damaged.
    """
    results = []
    for row in ablation.rows:
        result = RowResults(name=row.name, label=row.label)
        found = {path.name.removeprefix("seed"): path for path in (Path(out) / row.name).glob("seed*")}
        # Folders of runs that were moved aside have a suffix after the seed.
        for seed, folder in sorted((int(seed), path) for seed, path in found.items() if seed.isdigit()):
            plan = read_json(folder / PLAN)
            if plan is None or not is_trained(folder):
                continue
            result.plans[seed] = plan
            result.training[seed] = read_json(folder / TRAINING)
            scores = read_scores(folder, plan)
            _add_scores(result, seed, scores)
            if scores is not None:
                result.clips[seed] = read_clips(folder / "per_clip.csv")
                _add_by_sounding(result, seed, ablation.benchmark, plan["keys"]["DATASETS.SUBSET"])
        results.append(result)
    return results


def mixed_configs(results: Sequence[RowResults]) -> list[str]:
    """A sentence for each row whose seeds were trained with different configs."""
    sentences = []
    for row in results:
        plans = list(row.plans.values())
        keys = {key for plan in plans[1:] for key in changed_keys(plans[0]["keys"], plan["keys"])}
        if keys:
            sentences.append(
                f"The seeds of row '{row.label}' differ in more than the seed: {', '.join(sorted(keys))}."
            )
    return sentences


def summarize(ablation: Ablation, results: Sequence[RowResults]) -> dict[str, Any]:
    """A summary that describes all runs without their folders."""
    plans = [plan["keys"] for row in results for plan in row.plans.values()]
    changed = [{key: new for key, (_, new) in changed_keys({}, keys).items()} for keys in plans]
    common = {key: value for key, value in changed[0].items() if _all_have(changed, key, value)} if changed else {}
    return {
        "benchmark": str(ablation.benchmark),
        "baseline": ablation.baseline,
        "common_keys": common,
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "convention": row.convention,
                "num_clips": row.num_clips,
                "runs": [_summarize_run(row, seed, common) for seed in sorted(row.training)],
            }
            for row in results
        ],
    }


def _all_have(dicts: Sequence[Mapping], key: str, value: Any) -> bool:
    return all(key in other and other[key] == value for other in dicts)


def _summarize_run(row: RowResults, seed: int, common: Mapping[str, Any]) -> dict[str, Any]:
    plan, training = row.plans[seed], row.training[seed]
    keys = {key: new for key, (_, new) in changed_keys({}, plan["keys"]).items() if key not in common}
    return {
        "seed": seed,
        "config": plan["config"],
        "keys": keys,
        **{key: training[key] for key in ("iterations", "losses", "parameters", "sessions")},
        "seconds": round(training["seconds"], 1),
        "validation": {done: round(value, 3) for done, value in training.get("validation", {}).items()},
        "scores": {name: round(values[seed], 3) for name, values in row.scores.items() if seed in values},
    }


def _add_scores(result: RowResults, seed: int, report: Mapping[str, Any] | None) -> None:
    if report is None:
        return
    result.convention = report["convention"]
    for split, entry in report["splits"].items():
        result.num_clips[split] = entry["num_clips"]
        rest = {key: value for key, value in entry.items() if key not in ("num_clips", "conditions")}
        for name, value in _leaves({**entry["conditions"], **rest}, split):
            # By second for the clips' own audio only, or the tables would consist of little else.
            if _BY_SECOND not in name or f"/{TRUE_CONDITION}/" in name:
                result.scores.setdefault(name, {})[seed] = value


def _add_by_sounding(result: RowResults, seed: int, benchmark: Path, subset: str) -> None:
    """M_J apart for clips with one and with several sounding objects, for a run scored on ``benchmark``."""
    # In the other conventions M_J is no mean over clips.
    if result.convention != "combo":
        return
    for (split, condition), rows in result.clips[seed].items():
        roles = read_clip_roles(benchmark / split, subset) if condition == TRUE_CONDITION else {}
        if not roles:
            continue
        values: dict[str, list[float]] = {}
        for row in rows:
            if number := roles[row["clip_id"]].count("sounding"):
                values.setdefault("one" if number == 1 else "several", []).append(float(row["M_J"]))
        if len(values) == len(BY_SOUNDING):
            for name, score in BY_SOUNDING.items():
                result.scores.setdefault(f"{split}/{condition}/{score}", {})[seed] = mean(values[name])


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, float]]:
    for key, value in tree.items():
        if key in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}/{key}")
        # null: nothing to measure
        elif isinstance(value, int | float):
            yield f"{prefix}/{key}", float(value)
