"""Parity of initial values: the distribution of every kind of parameter over some seeds."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ska_vct.engine.trainer import Trainer

from .golden import Golden, Row, compare
from .published import SUBSET_NAMES, Names, joined, parameters_of, published_cfg

_SEEDS = (11, 12)
# Differences in standard errors; some thousand comparisons of equal distributions stay below. Extremes
# of few seeds are not normally distributed.
_LIMITS = {"mean": 7.0, "std": 7.0, "min": 12.0, "max": 12.0, "excess_kurtosis": 7.0}
# Fewer elements say little of the kurtosis, and of anything but the mean.
_ENOUGH, _FEW = 200, 8
# Published training loads VGGish and never trains it, so its initial values do not matter there.
_LEFT_OUT = "audio_backbone."
_STATISTICS = tuple(_LIMITS)


@dataclass
class _Kind:
    """Statistics of parameters that should be drawn alike, theirs and ours, one row per parameter and seed."""

    name: str
    elements: int
    theirs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ours: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def difference(self, statistic: str) -> float:
        """Between the means of a statistic, in standard errors; NaN where it says nothing."""
        theirs, ours = self.theirs[statistic], self.ours[statistic]
        std, kurtosis = np.mean(self.theirs["std"]), np.mean(self.theirs["excess_kurtosis"])
        n = self.elements
        if std == 0 or (n < _FEW and statistic != "mean"):
            return math.nan
        if statistic == "mean":
            error = std / math.sqrt(n)
        elif statistic == "std":
            error = std * math.sqrt((max(kurtosis, -1.2) + 2) / n) / 2
        elif statistic == "excess_kurtosis":
            error = math.sqrt(24 / n) if n >= _ENOUGH else math.nan
        elif kurtosis < -0.6:  # uniform: the extreme of n is within a share 1/n of the bound
            error = 2 * math.sqrt(3) * std / n
        else:
            error = std / math.sqrt(2 * math.log(max(n, 8)))
        return abs(np.mean(ours) - np.mean(theirs)) / (error * math.sqrt(1 / len(ours) + 1 / len(theirs)))


def recipe_init(golden: Golden) -> Iterable[Row]:
    """Per subset: constants, moments and extremes by kind, what varies with the seed, what starts equal."""
    subsets = [subset for subset in SUBSET_NAMES if f"{subset}/names" in golden]
    for subset in subsets:
        yield from _subset(golden, subset)


def _subset(golden: Golden, subset: str) -> Iterable[Row]:
    published = json.loads(golden.text(f"{subset}/names"))
    shapes = dict(zip(published, json.loads(golden.text(f"{subset}/shapes")), strict=True))
    theirs = {
        key: golden[f"{subset}/{key}"].numpy()
        for key in (*_STATISTICS, "constant", "constant_value", "varies_with_seed")
    }
    names = Names.of(shapes)
    cfg = published_cfg(subset, json.loads(golden.text(f"{subset}/cfg")))
    draws = [_draw(cfg, seed, names) for seed in _SEEDS]
    wrong_shapes = [
        name for name, values in draws[0].items() if values.numel() != torch.Size(shapes[name]).numel()
    ]
    yield compare(f"{subset}/parameters of other sizes", len(wrong_shapes), torch.tensor(0))
    places = [i for i, name in enumerate(published) if name in draws[0] and not name.startswith(_LEFT_OUT)]
    constants = [i for i in places if theirs["constant"][i]]
    ours = torch.tensor(
        [
            [max((d[published[i]] - theirs["constant_value"][i]).abs().max().item() for d in draws)]
            for i in constants
        ]
    )
    yield compare(f"{subset}/{len(constants)} constants", ours, torch.zeros_like(ours))
    varies = [any(not torch.equal(draws[0][published[i]], d[published[i]]) for d in draws[1:]) for i in places]
    wanted = torch.from_numpy(theirs["varies_with_seed"])[places]
    yield compare(f"{subset}/whether {len(places)} vary with the seed", torch.tensor(varies), wanted)
    fixed = [i for i in places if not theirs["constant"][i] and not theirs["varies_with_seed"][i]]
    moments = [
        (theirs[key][i][0], _statistics(draws[0][published[i]].double().flatten())[key])
        for i in fixed
        for key in _STATISTICS
    ]
    wanted, found = torch.tensor(moments, dtype=torch.float64).reshape(-1, 2).T
    yield compare(f"{subset}/moments of {len(fixed)} that never vary", found, wanted, limit=1e-5)
    kinds = _kinds(published, shapes, places, theirs, draws)
    for statistic in _STATISTICS:
        scores = {kind.name: kind.difference(statistic) for kind in kinds}
        scores = {name: score for name, score in scores.items() if not math.isnan(score)}
        worst = max(scores, key=scores.get)
        label = f"{subset}/{statistic} of {len(scores)} kinds, standard errors: {_short(worst)}"
        yield Row(label, scores[worst], scores[worst], _LIMITS[statistic])
    groups = json.loads(golden.text(f"{subset}/bitwise_equal"))
    broken = sum(
        not torch.equal(draw[name], draw[group[0]]) for draw in draws for group in groups for name in group
    )
    yield compare(f"{subset}/{len(groups)} groups that start equal", broken, torch.tensor(0))


def _draw(cfg, seed: int, names: Names) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    parameters = parameters_of(Trainer.build_model(cfg))
    return {name: joined([parameters[n].detach() for n in ours]) for name, ours in names.ours.items()}


def _kinds(
    published: list[str], shapes: Mapping, places: list[int], theirs: Mapping, draws: list[Mapping]
) -> list[_Kind]:
    kinds: dict[tuple, _Kind] = {}
    for i in places:
        if theirs["constant"][i] or not theirs["varies_with_seed"][i]:
            continue
        name, elements = published[i], torch.Size(shapes[published[i]]).numel()
        key = (re.sub(r"\d+", "#", name), *shapes[name])
        kind = kinds.setdefault(key, _Kind(name, elements))
        for statistic in _STATISTICS:
            kind.theirs[statistic] += theirs[statistic][i].tolist()
        for draw in draws:
            for statistic, value in _statistics(draw[name].double().flatten()).items():
                kind.ours[statistic].append(value)
    return list(kinds.values())


def _statistics(values: torch.Tensor) -> dict[str, float]:
    mean = values.mean()
    centred = values - mean
    variance = (centred**2).mean()
    kurtosis = (centred**4).mean() / variance**2 - 3 if variance else torch.tensor(math.nan)
    found = (mean, variance.sqrt(), values.min(), values.max(), kurtosis)
    return {name: float(value) for name, value in zip(_STATISTICS, found, strict=True)}


def _short(name: str) -> str:
    return name.removeprefix("sem_seg_head.").removeprefix("predictor.")[-44:]
