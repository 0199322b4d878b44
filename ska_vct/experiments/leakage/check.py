"""Checks the benchmark for shortcuts to the sounding object, with baselines that see some modalities only.

One of two objects sounds. A learner that sees single images, or only motion, or only audio, is trained on the
benchmark's training clips and must decide which one. The construction of a split bounds its accuracy; a learner
that does better has found a leak in the clips.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ska_vct.experiments.leakage.features import SIGHTS, Pairs, read_pairs
from ska_vct.experiments.leakage.models import (
    Interval,
    RandomConvolutions,
    RandomFeatures,
    fit_ridge,
    judge,
    learn_preference,
    prefer,
    share_right,
)
from ska_vct.experiments.leakage.pixel_baselines import score_pixel_baselines
from ska_vct.synth.benchmark import library_versions
from ska_vct.synth.composites.prepare import SOURCES
from ska_vct.synth.splits import SUBSET, TEST_SPLITS
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_write, write_json

# Highest accuracy that a modality allows, percent, by kind of scene. Below 100 it follows from the construction;
# 50 is chance.
CEILINGS = {
    "images": {"plain": 50, "twin": 50, "mover": 50, "camera": 50, "weak": 50},
    # The silent object stands still in all kinds but one.
    "flow": {"plain": 100, "twin": 100, "mover": 50, "camera": 100, "weak": 100},
    "audio": {"plain": 50, "twin": 50, "mover": 50, "camera": 50, "weak": 50},
    # Twins share a class, as do half of the movers' pairs; in all other pairs the class of the audio decides.
    "images and audio": {"plain": 100, "twin": 50, "mover": 75, "camera": 100, "weak": 100},
    "flow and audio": {"plain": 100, "twin": 100, "mover": 100, "camera": 100, "weak": 100},
}
# Of composites of photographs (docs/composites.md). Silent objects of plain clips come from a pool of their own,
# those of movers from the sounding ones' in half of the clips and are twins in the other half. Of camera's pairs a
# sixth are plain, the others twins and movers. Kinds that are not listed are not checked.
COMPOSITE_CEILINGS = {
    "images": {"plain": 100, "twin": 50, "mover": 50, "camera": 58},
    "flow": {"plain": 100, "twin": 100, "mover": 50, "camera": 79},
    "audio": {"plain": 50, "twin": 50, "mover": 50, "camera": 50},
    "images and audio": {"plain": 100, "twin": 50, "mover": 75, "camera": 69},
    "flow and audio": {"plain": 100, "twin": 100, "mover": 100, "camera": 100},
}
# Kinds missing from the training set use the learner of a kind that differs only in its motion.
_TRAINED_AS = {"camera": "plain", "weak": "plain"}
_FOLDS = 5
_FALSE_ALARM = 0.05
_MIN_PAIRS = 12

Scores = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One way to choose between two objects.

    Attributes:
        modality: key of ``CEILINGS``.
        run: (training pairs of the kind, all training pairs, test pairs, generator) -> scores (n,), above zero
            where the first object is chosen, zero where it cannot choose.
        learnt: it could have learnt the opposite rule as well, so accuracy below chance means nothing.
    """

    modality: str
    run: Callable[[Pairs, Pairs, Pairs, np.random.Generator], Scores]
    learnt: bool = True


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How often a baseline is right on the pairs of one kind.

    Attributes:
        split: of the benchmark; ``train (kind)`` for cross-validation within the training set.
        share: with its 95 % interval.
        ceiling: highest accuracy that the construction allows, percent.
        strict: interval at the confidence at which a whole table gives a false alarm in one of twenty runs.
    """

    split: str
    kind: str
    baseline: str
    modality: str
    share: Interval
    ceiling: float
    strict: Interval

    @property
    def leak(self) -> bool:
        """The strict interval excludes what is possible without a leak."""
        below = self.ceiling == 50 and self.strict.high < 50 and not BASELINES[self.baseline].learnt
        return self.ceiling < 100 and (self.strict.low > self.ceiling or below)


def _sight(name: str, sign: float) -> Callable:
    index = SIGHTS.index(name)

    def run(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
        values = test.sights[:, :, :, index].mean(axis=1)
        return sign * (values[:, 0] - values[:, 1])

    return run


def _images(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    features = RandomFeatures(near.sights, count=100, rng=rng)
    known, queried = features(near.sights), features(test.sights)
    return prefer(
        learn_preference(known[:, :, 0], known[:, :, 1], near.first_sounds), queried[:, :, 0], queried[:, :, 1]
    )


def _crops(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    features = RandomConvolutions(near.crops, count=24, rng=rng)
    known, queried = features(near.crops), features(test.crops)
    return prefer(
        learn_preference(known[:, :, 0], known[:, :, 1], near.first_sounds), queried[:, :, 0], queried[:, :, 1]
    )


def _energy(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    return test.speeds[:, 0].mean(axis=1) - test.speeds[:, 1].mean(axis=1)


def _motion(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    features = RandomFeatures(near.motions, count=100, rng=rng)
    known, queried = features(near.motions), features(test.motions)
    return prefer(learn_preference(known[:, 0], known[:, 1], near.first_sounds), queried[:, 0], queried[:, 1])


def _audio_and_side(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    """Audio identifies no object; it could only correlate with a side, so it predicts left or right."""
    features, index = RandomFeatures(near.sounds, count=50, rng=rng), SIGHTS.index("x")

    def sided(pairs: Pairs) -> np.ndarray:
        x = pairs.sights[:, :, :, index].mean(axis=1)
        heard = np.concatenate([np.ones((len(pairs), 1)), features(pairs.sounds)], axis=1)
        return heard * np.sign(x[:, 1] - x[:, 0])[:, None]

    known = sided(near)
    return prefer(
        learn_preference(known, np.zeros_like(known), near.first_sounds), sided(test), np.zeros(known.shape[1])
    )


def _products(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    """Correlations between appearance and audio: large with loud, high with bright, and so on."""
    scale, look = RandomFeatures(near.sounds, count=0, rng=rng), RandomFeatures(near.sights, count=0, rng=rng)
    axes = np.linalg.svd(scale(near.sounds), full_matrices=False)[2][:6].T

    def products(pairs: Pairs) -> np.ndarray:
        heard = scale(pairs.sounds) @ axes / np.sqrt(len(axes))
        heard = np.concatenate([np.ones((len(pairs), 1)), heard], axis=1)
        return np.einsum("na,ntkf->ntkaf", heard, look(pairs.sights)).reshape(*pairs.sights.shape[:3], -1)

    known, queried = products(near), products(test)
    return prefer(
        learn_preference(known[:, :, 0], known[:, :, 1], near.first_sounds), queried[:, :, 0], queried[:, :, 1]
    )


def _class_of_audio(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    """Classifies the audio, then chooses the object whose appearance matches that class better."""
    names = np.unique(train.classes)
    audio, crop = (
        RandomFeatures(train.sounds, count=200, rng=rng),
        RandomConvolutions(train.crops, count=48, rng=rng),
    )
    color = RandomFeatures(train.sights, count=50, rng=rng)

    def sights(pairs: Pairs) -> np.ndarray:
        rows = np.concatenate([crop(pairs.crops), color(pairs.sights)], axis=-1)
        rows = np.concatenate([rows, np.ones_like(rows[..., :1])], axis=-1)
        return rows.reshape(len(pairs), -1, rows.shape[-1])

    targets = np.tile((train.classes[:, None, :, None] == names).astype(float), (1, train.crops.shape[1], 1, 1))
    look = fit_ridge(sights(train), targets.reshape(len(train), -1, len(names)))
    heard_targets = (train.heard[:, None, None] == names).astype(float)
    ear = fit_ridge(audio(train.sounds)[:, None], heard_targets - 1 / len(names))
    heard = np.argmax(audio(test.sounds) @ ear, axis=1)
    alike = (sights(test) @ look).reshape(*test.crops.shape[:3], len(names)).mean(axis=1)
    alike = np.take_along_axis(alike, heard[:, None, None], axis=2)[:, :, 0]
    return alike[:, 0] - alike[:, 1]


def _in_step(near: Pairs, train: Pairs, test: Pairs, rng: np.random.Generator) -> Scores:
    """Correlation of an object's speed with the loudness; nothing is learnt."""
    heard = ~np.isnan(test.loudness).any(axis=0)
    loud, speed = test.loudness[:, None, heard], test.speeds[:, :, heard]
    loud, speed = (values - values.mean(axis=2, keepdims=True) for values in (loud, speed))
    # Half a pixel per second keeps still objects from correlating by accident.
    agreement = (loud * speed).mean(axis=2) / (speed.std(axis=2) + 0.5) / (loud.std(axis=2) + 1e-6)
    return agreement[:, 0] - agreement[:, 1]


BASELINES: dict[str, Baseline] = {
    "the larger object": Baseline(modality="images", run=_sight("area", 1.0), learnt=False),
    "the more central object": Baseline(
        modality="images", run=_sight("distance from the centre", -1.0), learnt=False
    ),
    "the object in front": Baseline(modality="images", run=_sight("order", 1.0), learnt=False),
    "25 measures of an image": Baseline(modality="images", run=_images),
    "crops of the image": Baseline(modality="images", run=_crops),
    "the object that moves more": Baseline(modality="flow", run=_energy, learnt=False),
    "statistics of the flow": Baseline(modality="flow", run=_motion),
    "statistics of the audio": Baseline(modality="audio", run=_audio_and_side),
    "measures x audio": Baseline(modality="images and audio", run=_products),
    "class of audio and appearance": Baseline(modality="images and audio", run=_class_of_audio),
    "motion in step with the audio": Baseline(modality="flow and audio", run=_in_step, learnt=False),
}


def check_leaks(
    train: Pairs,
    tests: Mapping[str, Pairs | None],
    *,
    seed: int = 0,
    ceilings: Mapping[str, Mapping[str, float]] = CEILINGS,
) -> list[Finding]:
    """Run all baselines on all splits, and by cross-validation on the training set's own kinds.

    Args:
        train: pairs of the training split.
        tests: split -> its pairs; None for one without, which is left out.
        seed: of the random features.
        ceilings: modality -> kind -> highest accuracy that the construction allows, percent.

    Raises:
        ValueError: the training set has too few pairs of a required kind.
    """
    train = train.select(np.isin(train.kinds, list(ceilings["images"])))
    answers: list[tuple[str, str, str, np.ndarray]] = []
    for split, pairs in tests.items():
        for kind in [] if pairs is None else np.unique(pairs.kinds):
            part = pairs.select(pairs.kinds == kind)
            results = _answer(train, part, str(kind), seed)
            answers += [(split, str(kind), name, result) for name, result in results.items()]
    for kind in np.unique(train.kinds):
        answers += [
            (f"train ({kind})", str(kind), *item) for item in _cross_validate(train, str(kind), seed).items()
        ]
    limited = sum(ceilings[BASELINES[name].modality][kind] < 100 for _, kind, name, _ in answers)
    confidence = 1 - _FALSE_ALARM / max(limited, 1)
    return [
        Finding(
            split=split,
            kind=kind,
            baseline=name,
            modality=BASELINES[name].modality,
            share=share_right(result),
            ceiling=ceilings[BASELINES[name].modality][kind],
            strict=share_right(result, confidence),
        )
        for split, kind, name, result in answers
    ]


def _answer(train: Pairs, test: Pairs, kind: str, seed: int) -> dict[str, np.ndarray]:
    own = kind if (train.kinds == kind).any() else _TRAINED_AS.get(kind, kind)
    near = train.select(train.kinds == own)
    if len(near) < _MIN_PAIRS:
        raise InputError(
            f"The training clips hold {len(near)} pairs of kind '{own}'; at least "
            f"{_MIN_PAIRS} are needed to learn from. Name the benchmark's own training split."
        )
    return {
        name: judge(baseline.run(near, train, test, np.random.default_rng(seed)), test.first_sounds)
        for name, baseline in BASELINES.items()
    }


def _cross_validate(train: Pairs, kind: str, seed: int) -> dict[str, np.ndarray]:
    """Cross-validated answers on all training pairs of a kind."""
    own, folds = np.flatnonzero(train.kinds == kind), {}
    for fold in range(_FOLDS):
        held_out = own[fold::_FOLDS]
        rest = train.select(np.setdiff1d(np.arange(len(train)), held_out))
        for name, result in _answer(rest, train.select(held_out), kind, seed).items():
            folds.setdefault(name, []).append(result)
    return {name: np.concatenate(parts) for name, parts in folds.items()}


def run_leak_check(
    root: str | os.PathLike, out: str | os.PathLike, *, seed: int = 0, progress: bool = True
) -> dict:
    """Check the benchmark or the composites below ``root`` and write ``leaks.md`` and ``leaks.json`` to ``out``.

    Returns:
        dict with ``findings`` and ``pixels``, as written to the JSON file, and ``leaks``, those findings that are
        leaks.

    Raises:
        SynthError, DatasetError, TruthError: a split is missing or incomplete.
    """
    root = Path(root)
    train = read_pairs(root / "train", SUBSET, "train", progress=progress)
    if train is None:
        raise InputError(f"The clips of {root / 'train'} hold no pair of a sounding and a silent object.")
    composed = (root / SOURCES).is_dir()
    splits = [name for name in TEST_SPLITS if not composed or (root / name).is_dir()]
    tests = {name: read_pairs(root / name, SUBSET, "test", progress=progress) for name in splits}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        findings = check_leaks(train, tests, seed=seed, ceilings=COMPOSITE_CEILINGS if composed else CEILINGS)
    pixels = score_pixel_baselines(root, splits, progress=progress)
    data = {
        "versions": library_versions(),
        "seed": seed,
        "findings": [_plain(item) for item in findings],
        "pixels": pixels,
    }
    data["leaks"] = [_plain(item) for item in findings if item.leak]
    write_json(Path(out) / "leaks.json", data)
    with atomic_write(Path(out) / "leaks.md", "w") as file:
        file.write(to_markdown(findings, pixels))
    return data


def _plain(item: Finding) -> dict:
    return {
        "split": item.split, "kind": item.kind, "baseline": item.baseline, "modality": item.modality,
        "pairs": item.share.number, "percent": item.share.percent, "interval": [item.share.low, item.share.high],
        "strict_interval": [item.strict.low, item.strict.high], "ceiling": item.ceiling, "leak": item.leak,
    }  # fmt: skip


def to_markdown(findings: list[Finding], pixels: dict[str, dict[str, dict[str, float]]]) -> str:
    """Both tables: a column per split, a row per baseline."""
    splits = list(dict.fromkeys(item.split for item in findings))
    cells = {(item.baseline, item.split): item for item in findings}
    rows = []
    for name, baseline in BASELINES.items():
        row = [name, baseline.modality]
        for split in splits:
            item = cells[name, split]
            limit = "" if item.ceiling == 100 else f" / {item.ceiling:.0f}"
            mark = " **LEAK**" if item.leak else ""
            row.append(f"{item.share.percent:.0f} ({item.share.low:.0f}-{item.share.high:.0f}){limit}{mark}")
        rows.append(row)
    heads = [f"{split}, {cells[next(iter(BASELINES)), split].share.number}" for split in splits]
    text = tabulate(rows, ["baseline", "modality", *heads], tablefmt="pipe", disable_numparse=True)
    names = list(next(iter(pixels.values())))
    pixel_rows = [
        [name, *(f"{scores[name]['M_J']:.1f} / {scores[name]['M_F']:.1f}" for scores in pixels.values())]
        for name in names
    ]
    pixel_text = tabulate(pixel_rows, ["prediction", *pixels], tablefmt="pipe", disable_numparse=True)
    heading = "M_J / M_F in percent, convention `combo`; M_F at a single threshold, as the predictions are masks:"
    return f"{text}\n\n{heading}\n\n{pixel_text}\n"
