"""The leak check finds planted leaks and none in clean clips, and each baseline reads only its own modalities."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from ska_vct.experiments.leakage import check as leak_check
from ska_vct.experiments.leakage import pixel_baselines
from ska_vct.experiments.leakage.check import BASELINES, CEILINGS, check_leaks, run_leak_check, to_markdown
from ska_vct.experiments.leakage.features import SIGHTS, Pairs, read_pairs
from ska_vct.experiments.leakage.models import fit_ridge, judge, learn_preference, prefer, share_right
from ska_vct.synth import SynthSettings, generate, plan

SMALL = {"size": 48, "flow_size": 12, "series": 5, "val": 0, "second_object": 1.0, "both_sound": 0.0}
TWINS = 22


def make(root: Path, **counts) -> None:
    generate(root, SynthSettings(subset="ms3", **{**SMALL, **counts}), jobs=1, progress=False)


def make_benchmark(root: Path) -> None:
    """A training set and a test split of twins alone."""
    make(root / "train", train=TWINS, test=0, scenes={"twin": 1.0}, seed=1)
    make(root / "silent-twin", train=0, test=TWINS, scenes={"twin": 1.0}, seed=2)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clean")
    make_benchmark(root)
    return root


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """The same clips, but the larger of the two objects is always the sounding one."""
    root = tmp_path_factory.mktemp("planted")
    draw_scene = plan.draw_scene

    def draw_larger(*args, **options):
        scene = draw_scene(*args, **options)
        areas = sorted(item.area for item in scene.objects)
        grown = [replace(item, area=areas[item.role == "sounding"]) for item in scene.objects]
        return replace(scene, objects=tuple(grown))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "draw_scene", draw_larger)
        make_benchmark(root)
    return root


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Pairs:
    """Six pairs of three kinds."""
    root = tmp_path_factory.mktemp("mixed")
    make(root, train=0, test=6, scenes={"plain": 1.0, "twin": 1.0, "mover": 1.0}, rest=0.0, size=96)
    return read_pairs(root, "ms3", "test", progress=False)


@pytest.fixture
def two_splits(monkeypatch):
    for module in (leak_check, pixel_baselines):
        monkeypatch.setattr(module, "TEST_SPLITS", ("silent-twin",))


# ------------------------------------------------------------------------------------------------- end to end


def test_no_leak_is_found_in_clean_clips(clean, tmp_path, two_splits):
    found = run_leak_check(clean, tmp_path, progress=False)
    assert found["leaks"] == []
    shares = {(item["split"], item["baseline"]): item["percent"] for item in found["findings"]}
    assert len(shares) == 2 * len(BASELINES)
    # Baselines with access to motion solve the split, as intended.
    assert shares["silent-twin", "the object that moves more"] == 100
    assert shares["silent-twin", "motion in step with the audio"] == 100
    assert json.loads((tmp_path / "leaks.json").read_text())["findings"] == found["findings"]
    text = (tmp_path / "leaks.md").read_text()
    assert "LEAK" not in text and all(name in text for name in BASELINES) and "usual location" in text


def test_a_planted_size_cue_is_found(planted):
    train = read_pairs(planted / "train", "ms3", "train", progress=False)
    findings = check_leaks(
        train, {"silent-twin": read_pairs(planted / "silent-twin", "ms3", "test", progress=False)}
    )
    leaks = {(item.split, item.baseline) for item in findings if item.leak}
    assert ("silent-twin", "the larger object") in leaks
    # A learner also finds it, without a hint.
    assert ("silent-twin", "25 measures of an image") in leaks
    assert all(BASELINES[name].modality.startswith("images") for _, name in leaks)
    assert "**LEAK**" in to_markdown(findings, {"silent-twin": {"nothing": {"M_J": 0.0, "M_F": 0.0}}})


def test_fixed_predictions(clean):
    scores = pixel_baselines._score(clean / "silent-twin", np.ones((48, 48), bool), progress=False)
    # A twin stands still, so the moving object is the ground truth.
    assert scores["all that moves"]["M_J"] == pytest.approx(100, abs=1e-4)
    # One of two objects is correct; the other has up to 3.5 times its area.
    assert 20 < scores["all objects"]["M_J"] < 75
    # An empty prediction is correct only in frames where nothing sounds.
    pairs = read_pairs(clean / "silent-twin", "ms3", "test", progress=False)
    assert len(pairs) == TWINS and scores["nothing"]["M_J"] < 40


# --------------------------------------------------------------------------------------------------- features


def test_features_of_two_objects(mixed):
    assert sorted(mixed.kinds) == ["mover", "mover", "mover", "plain", "twin", "twin"]
    first = SIGHTS.index("order")
    assert (mixed.sights[:, :, 0, first] == 0).all() and (mixed.sights[:, :, 1, first] == 1).all()
    sounding = np.where(mixed.first_sounds, 0, 1)
    rows = np.arange(len(mixed))
    own, other = mixed.speeds[rows, sounding].mean(axis=1), mixed.speeds[rows, 1 - sounding].mean(axis=1)
    still = mixed.kinds != "mover"
    assert (own[still] > 5 * other[still]).all() and (other[~still] > 1).all()
    assert (mixed.classes[rows, sounding] == mixed.heard).all()
    # Areas are shares of the image, as large as the scenes draw them.
    areas = mixed.sights[..., SIGHTS.index("area")]
    assert 0.03 < areas.min() and areas.max() < 0.16
    assert (
        not np.isnan(mixed.sights).any() and not np.isnan(mixed.motions).any() and not np.isnan(mixed.sounds).any()
    )


def test_motion_in_step_needs_motion_and_audio_of_one_clip(mixed):
    scores = BASELINES["motion in step with the audio"].run(mixed, mixed, mixed, np.random.default_rng(0))
    assert (judge(scores, mixed.first_sounds) == 1).all()


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_baseline_reads_only_its_own_modalities(mixed, name):
    """Swapping the other modalities between clips must not change the answers."""
    rolled = mixed.select(np.roll(np.arange(len(mixed)), 1))
    # The audio baseline predicts a side of the image, so it also reads locations.
    fields = {
        "images": ("motions", "speeds", "sounds", "loudness"),
        "flow": ("sights", "crops", "sounds", "loudness"),
        "audio": ("crops", "motions", "speeds"),
        "images and audio": ("motions", "speeds"),
        "flow and audio": ("sights", "crops"),
    }[BASELINES[name].modality]
    other = replace(mixed, **{field: getattr(rolled, field) for field in fields})
    before, after = (BASELINES[name].run(mixed, mixed, test, np.random.default_rng(1)) for test in (mixed, other))
    np.testing.assert_array_equal(before, after)
    assert before.shape == (len(mixed),)


@pytest.mark.parametrize("name", [name for name, baseline in BASELINES.items() if baseline.learnt])
def test_the_order_of_objects_does_not_matter(mixed, name):
    """Exchanged objects give the opposite answer, although drawing order is one of the features."""
    swap = {name: getattr(mixed, name)[:, ::-1] for name in ("classes", "motions", "speeds")}
    swap |= {name: getattr(mixed, name)[:, :, ::-1] for name in ("sights", "crops")}
    swapped = replace(mixed, **swap, first_sounds=~mixed.first_sounds)
    straight = BASELINES[name].run(mixed, mixed, mixed, np.random.default_rng(1))
    turned = BASELINES[name].run(mixed, mixed, swapped, np.random.default_rng(1))
    # Sums of a few hundred float64 terms in a different order.
    np.testing.assert_allclose(straight, -turned, atol=1e-8 * max(1, np.abs(straight).max()))


def test_every_modality_has_a_ceiling_for_every_kind():
    assert {baseline.modality for baseline in BASELINES.values()} == set(CEILINGS)
    kinds = {"plain", "twin", "mover", "camera", "weak"}
    assert all(set(ceiling) == kinds for ceiling in CEILINGS.values())


def test_too_few_pairs_raise_one_sentence(mixed):
    with pytest.raises(ValueError, match="3 pairs of kind 'mover'"):
        check_leaks(mixed, {"silent-mover": mixed.select(mixed.kinds == "mover")})


# -------------------------------------------------------------------------------------------------- learners


@pytest.mark.parametrize(("right", "number"), [(0, 10), (3, 10), (75, 150), (150, 150)])
def test_interval_is_the_exact_binomial_one(right, number):
    """At either end of the interval, the tail probability of the observed count is 2.5 %."""
    interval = share_right(np.repeat([1.0, 0.0], [right, number - right]))
    assert interval.percent == pytest.approx(100 * right / number)
    if right < number:
        assert binom.cdf(right, number, interval.high / 100) == pytest.approx(0.025, abs=1e-9)
    if right > 0:
        assert binom.sf(right - 1, number, interval.low / 100) == pytest.approx(0.025, abs=1e-9)


def test_ridge_equals_least_squares_without_noise():
    rng = np.random.default_rng(0)
    inputs, weights = rng.standard_normal((40, 3, 4)), rng.standard_normal((4, 2))
    # The smallest ridge, 1e-3 of the mean square, shrinks by about as much.
    np.testing.assert_allclose(fit_ridge(inputs, inputs @ weights), weights, rtol=3e-3, atol=3e-3)


def test_preference_generalises_to_held_out_pairs():
    rng = np.random.default_rng(0)
    values, truth = rng.standard_normal((300, 2, 5)), np.array([1.0, -2.0, 0, 0, 0])
    sounds = (values[:, 0] - values[:, 1]) @ truth > 0
    weights = learn_preference(values[:200, 0], values[:200, 1], sounds[:200])
    answers = judge(prefer(weights, values[200:, 0], values[200:, 1]), sounds[200:])
    # Signs fitted by least squares on 200 pairs in 5 dimensions: the direction is off by about 0.2 radians.
    assert answers.mean() > 0.85
    assert judge(np.zeros(2), np.array([True, False])).tolist() == [0.5, 0.5]
