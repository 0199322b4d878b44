"""The benchmark's splits: fixed for everybody, ordinary releases, and verified by what they hold."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ska_vct.data.catalog import load_records
from ska_vct.synth import SynthError, benchmark, generate
from ska_vct.synth.benchmark import compare, find_version, make_benchmark, verify_benchmark
from ska_vct.synth.digest import DIGESTS, digest_split, read_clip_table
from ska_vct.synth.kinds import SCENE_KINDS
from ska_vct.synth.plan import plan_clip
from ska_vct.synth.splits import BENCHMARK_VERSION, BENCHMARKS, TEST_SPLITS

BENCHMARK = BENCHMARKS[BENCHMARK_VERSION]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """The first two clips of the silent twins, at the benchmark's own settings."""
    root = tmp_path_factory.mktemp("benchmark") / "silent-twin"
    generate(root, replace(BENCHMARK["silent-twin"], test=2).settings, jobs=1, progress=False)
    return root


@pytest.fixture
def tiny(monkeypatch, release):
    """A benchmark of one split, whose published contents are those of ``release``."""
    published = {"test": digest_split(release, "ms3", "test", progress=False)}
    split = replace(BENCHMARK["silent-twin"], test=2, published=published)
    monkeypatch.setattr(benchmark, "BENCHMARKS", {BENCHMARK_VERSION: {"silent-twin": split}})
    return published["test"]


@pytest.mark.parametrize(("version", "first_seed"), [(1, 201), (2, 301)])
def test_the_splits_are_the_agreed_ones(version, first_seed):
    splits = BENCHMARKS[version]
    facts = {name: (split.seed, split.test, split.scenes) for name, split in splits.items()}
    kinds = ("plain", "twin", "mover", "camera", "weak", "offscreen")
    tests = ("plain", "silent-twin", "silent-mover", "camera-motion", "weak-motion", "off-screen")
    assert facts["train"] == (100, 0, {"plain": 0.5, "twin": 0.25, "mover": 0.25})
    assert TEST_SPLITS == tests and set(kinds) == set(SCENE_KINDS)
    for number, (name, kind) in enumerate(zip(tests, kinds, strict=True), first_seed):
        assert facts[name] == (number, 150, {kind: 1.0})
    train = splits["train"].settings
    assert (train.subset, train.size, train.train, train.val) == ("ms3", 96, 1200, 90)


def test_every_split_has_published_contents_of_its_own():
    splits = {(version, name): split for version in BENCHMARKS for name, split in BENCHMARKS[version].items()}
    contents = [part for split in splits.values() for part in split.published.values()]
    for name, split in splits.items():
        counts = {part: value["clips"] for part, value in split.published.items()}
        assert counts == {part: count for part, count in split.settings.counts.items() if count}, name
    for digest in DIGESTS:
        different = {part[digest] for part in contents if part["mask_pixels"] or digest != "masks"}
        # Versions share train and val; off-screen clips have no mask.
        assert len(different) == 2 + 2 * (5 if digest == "masks" else 6)


@pytest.mark.parametrize(
    ("version", "scenes", "sound", "mask_pixels", "picture_mean"),
    [
        (1, "3819708c845dd897", "d8575cea1e11e823", 6095, 102.142),
        (2, "e33af6ee2b3436ce", "8b083b7000932f51", 6761, 116.077),
    ],
)
def test_the_generator_still_makes_the_published_clips(
    release, tmp_path, version, scenes, sound, mask_pixels, picture_mean
):
    """Pins what every digest of the whole split depends on: numbers drawn, sound, images."""
    if version != BENCHMARK_VERSION:
        release = tmp_path
        generate(release, replace(BENCHMARKS[version]["silent-twin"], test=2).settings, jobs=1, progress=False)
    found = digest_split(release, "ms3", "test", progress=False)
    assert found["scenes"] == scenes and found["sound"] == sound
    # OpenCV's versions differ in single pixels of an outline: of 2 clips with 5 masks, 1 % at most.
    assert abs(found["mask_pixels"] - mask_pixels) <= 0.01 * mask_pixels
    assert abs(found["picture_mean"] - picture_mean) < 0.05


def test_versions_are_told_apart_by_their_settings(release, tmp_path):
    assert find_version(release, "silent-twin") is None  # two clips are no split of the benchmark
    assert find_version(tmp_path, "plain") is None
    splits = {version: replace(BENCHMARKS[version]["silent-twin"], test=2) for version in (1, 2)}
    for version, split in splits.items():
        folder = tmp_path / f"version {version}"
        generate(folder, split.settings, jobs=1, progress=False)
        whole = json.dumps({"complete": True, "settings": BENCHMARKS[version]["silent-twin"].settings.to_json()})
        (folder / "synth_truth" / "ms3_settings.json").write_text(whole)
        assert find_version(folder, "silent-twin") == version


def test_a_folder_of_another_version_is_not_overwritten(tmp_path):
    folder = tmp_path / "silent-twin" / "synth_truth"
    folder.mkdir(parents=True)
    settings = BENCHMARKS[1]["silent-twin"].settings.to_json()
    (folder / "ms3_settings.json").write_text(json.dumps({"complete": True, "settings": settings}))
    with pytest.raises(SynthError, match="holds version 1 of the benchmark, not version 2; choose another --root"):
        make_benchmark(tmp_path, ["silent-twin"], progress=False)
    with pytest.raises(SynthError, match="has no version 9; it has 1, 2"):
        make_benchmark(tmp_path, version=9)


def test_test_splits_alone_hold_the_clips_of_whole_releases(release):
    """How many clips other splits have changes nothing, so folders made with some verify as well."""
    whole = replace(BENCHMARK["silent-twin"], train=1, val=1, test=150).settings
    rows = read_clip_table(release, "ms3", "test")
    assert rows == [plan_clip(whole, "test", index).row() for index in range(2)]


def test_a_split_is_a_release_that_our_readers_read(release):
    records = load_records("ms3", "test", release)
    assert len(records) == 2 and all(Path(record["flow_path"]).is_file() for record in records)


def test_made_twice_it_is_the_published_one(tiny, tmp_path):
    assert make_benchmark(tmp_path, jobs=1, progress=False) == {"silent-twin": []}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "benchmark.json"}
    assert make_benchmark(tmp_path, ["silent-twin"], jobs=1, progress=False) == {"silent-twin": []}
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "benchmark.json"}
    # The folder itself gets the new manifest.
    assert {path for path in times if times[path] != after[path]} <= {tmp_path}
    noted = json.loads((tmp_path / "benchmark.json").read_text())["silent-twin"]
    assert noted["is_published"] and noted["contents"]["test"] == tiny and noted["settings"]["seed"] == 302
    assert noted["version"] == 2 and set(noted["versions"]) == {"generator", "numpy", "opencv"}


def test_a_manifest_keeps_what_is_noted_of_other_splits(tiny, release):
    (release.parent / "benchmark.json").write_text('{"plain": {"is_published": true}}')
    verify_benchmark(release.parent, progress=False)
    assert set(json.loads((release.parent / "benchmark.json").read_text())) == {"plain", "silent-twin"}


def test_other_pixels_other_sound_and_other_clips_are_told_apart(tiny, tmp_path):
    make_benchmark(tmp_path, jobs=1, progress=False)
    record = load_records("ms3", "test", tmp_path / "silent-twin")[1]
    mask = np.array(Image.open(record["mask_paths"][3]))
    mask[0, 0] = 255
    Image.fromarray(mask).save(record["mask_paths"][3])
    (difference, pixels) = verify_benchmark(tmp_path, progress=False)["silent-twin"]
    assert difference.startswith("test: masks differ")
    assert pixels == f"test: {tiny['mask_pixels'] + 1} mask pixels are set instead of {tiny['mask_pixels']}"

    sound = bytearray(Path(record["wav_path"]).read_bytes())
    sound[-1] ^= 1
    Path(record["wav_path"]).write_bytes(sound)
    lines = verify_benchmark(tmp_path, progress=False)["silent-twin"]
    assert any("sound differ" in line for line in lines) and len(lines) == 3
    assert json.loads((tmp_path / "benchmark.json").read_text())["silent-twin"]["is_published"] is False


def test_pictures_may_differ_by_rounding_but_not_by_more(tiny):
    assert compare({**tiny, "picture_mean": tiny["picture_mean"] + 0.01}, tiny) == []
    assert "mean of the images" in compare({**tiny, "picture_mean": tiny["picture_mean"] + 1}, tiny)[0]


def test_missing_splits_and_unknown_names_are_one_sentence(tmp_path):
    with pytest.raises(SynthError, match="has no split 'twin'"):
        make_benchmark(tmp_path, ["twin"])
    with pytest.raises(SynthError, match="make the clips first"):
        verify_benchmark(tmp_path, ["plain"])


# ------------------------------------------------------------------------------------------------ command line


@pytest.fixture(scope="module")
def make_synth():
    spec = importlib.util.spec_from_file_location("make_synth", ROOT / "datasets" / "make_synth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_command_line(make_synth, tiny, release, capsys):
    command = ["--benchmark", "--root", str(release.parent), "--only", "silent-twin"]
    assert make_synth.main([*command, "--jobs", "1"]) == 0
    assert "silent-twin: the published split" in capsys.readouterr().out
    tiny["sound"] = "0" * 16
    assert make_synth.main([*command, "--verify"]) == 1
    text = capsys.readouterr()
    assert "sound differ" in text.out and "docs/benchmark.md" in text.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "--seed", "0"], "remove --seed"),
        (["--benchmark", "--subset", "ms3", "--flow-size", "24"], "remove --flow-size, --subset"),
        (["--subset", "ms3", "--test", "1", "--verify"], "--verify needs --benchmark"),
        (["--subset", "ms3", "--test", "1", "--version", "1"], "--version needs --benchmark"),
        (["--test", "1"], "--subset or --benchmark is required"),
        (["--benchmark", "--only", "twin"], "silent-twin"),
    ],
)
def test_options_that_exclude_each_other(make_synth, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        make_synth.main(["--root", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
