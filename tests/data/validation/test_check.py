"""Miniature releases in both wild states, damaged in every way we know of: named, counted, refused or handled."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from ska_vct.config import get_cfg
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.locate import find_release, find_releases
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.facts import SPLITS
from ska_vct.data.registry import ReadOptions, get_facts
from ska_vct.data.validation.check import DatasetReport, check_records, check_release
from ska_vct.data.validation.clips import Needs
from ska_vct.data.validation.findings import ERROR, NOTE, WARNING, write_fix_list
from ska_vct.data.validation.report import describe
from ska_vct.structures.clip import ClipError
from tests.data.miniature import (
    DASHED,
    make_original,
    make_rebuilt,
    name_of,
    rows_of,
    table_of,
    with_dash,
    write_rows,
)

STATES = {"original": make_original, "rebuilt": make_rebuilt}
# What every miniature has: fewer clips than were published.
# and in the rebuilt state frames of 48 px.
USUAL = {(WARNING, "split of another size"), (WARNING, "frames smaller than meant")}


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory) -> Callable[[str, str], Path]:
    """A function that gives the pristine release of a subset in a state."""
    made: dict[tuple[str, str], Path] = {}

    def give(subset: str, state: str) -> Path:
        if (subset, state) not in made:
            made[subset, state] = STATES[state](tmp_path_factory.mktemp(f"{subset}_{state}"), subset)
        return made[subset, state]

    return give


@pytest.fixture
def fresh(miniatures, tmp_path) -> Callable[[str, str], Path]:
    """A function that gives a copy to damage."""

    def give(subset: str, state: str = "original") -> Path:
        return Path(shutil.copytree(miniatures(subset, state), tmp_path / subset))

    return give


def check(root: Path, subset: str, **options) -> DatasetReport:
    facts, read = get_facts(subset), ReadOptions(root=str(root), pre_masks=options.pop("pre_masks", False))
    return check_release(facts, find_release(facts, root), read, progress=False, **options)


def load_all(root: Path, subset: str) -> int:
    """What training and testing do with every clip, without a model; the number of clips."""
    cfg = get_cfg()
    cfg.INPUT.SIZE = (32, 32)
    cfg.INPUT.FLOW.MISSING = "zero"
    count = 0
    for split in SPLITS:
        mapper = ClipMapper(cfg, is_train=split == "train")
        for record in load_records(subset, split, root):
            mapper(record)
            count += 1
    return count


def kinds(report: DatasetReport) -> set[tuple[str, str]]:
    return {(finding.level, finding.kind) for finding in report.findings} - USUAL


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_whole_releases_pass_and_load(miniatures, subset, state):
    root = miniatures(subset, state)
    report = check(root, subset, pre_masks=state == "rebuilt")
    assert kinds(report) == set()
    assert report.listed == report.usable == {"train": 2, "val": 1, "test": 2}
    # VCT's script rebuilds AVSS's val and test only.
    frames_state = "original" if state == "original" or (subset, state) == ("avss", "rebuilt") else "rebuilt 384"
    assert report.states["train"] == {frames_state: 2}
    assert report.states["test"] == {"original" if state == "original" else "rebuilt 384": 2}
    assert load_all(root, subset) == 5
    text = describe(report)
    assert "All clips are usable." in text and find_release(get_facts(subset), root) in text
    assert ("log-mel from the wav of 5 clips" in text) == (state == "original")


# --- damages: (subset, state), what is done, and what it is called; the number is of files that are named ---


def frames(root: Path, subset: str) -> list[Path]:
    """Pictures of a test clip that the readers use in either state, in order."""
    clip = load_records(subset, "test", root)[0]
    return [Path(path) for path in clip["image_paths"]]


def masks(root: Path, subset: str) -> list[Path]:
    return [Path(path) for path in load_records(subset, "test", root)[0]["mask_paths"]]


def audio(root: Path, subset: str, kind: str) -> Path:
    clip = load_records(subset, "test", root)[0]
    return Path(clip["wav_path"] if kind == "wav" else clip["log_mel_paths"][kind])


def cut(path: Path, keep: float | int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])


def cut_frame(root, subset):
    cut(frames(root, subset)[1], 0.6)


def cut_mask_at_its_very_end(root, subset):
    cut(masks(root, subset)[2], -13)


def damage_frame_inside(root, subset):
    path = frames(root, subset)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def empty_frame(root, subset):
    frames(root, subset)[3].write_bytes(b"")


def text_for_a_mask(root, subset):
    masks(root, subset)[0].write_text("version https://git-lfs.github.com/spec/v1\n")


def empty_pickle(root, subset):
    audio(root, subset, "pickle").write_bytes(b"")


class Malicious:
    def __reduce__(self):
        return os.system, ("touch ran_the_pickle",)


def pickle_with_code(root, subset):
    audio(root, subset, "pickle").write_bytes(pickle.dumps(Malicious()))


def pickle_of_another_shape(root, subset):
    audio(root, subset, "pickle").write_bytes(pickle.dumps(torch.zeros(5, 96, 64)))


def zero_length_wav(root, subset):
    audio(root, subset, "wav").write_bytes(b"")


def wav_without_samples(root, subset):
    audio(root, subset, "wav").write_bytes(audio(root, subset, "wav").read_bytes()[:44])


def no_audio_at_all(root, subset):
    clip = load_records(subset, "test", root)[0]
    for path in (clip["wav_path"], clip["video_path"], *clip["log_mel_paths"].values()):
        if path:
            Path(path).unlink()


def mask_of_other_proportions(root, subset):
    Image.new("L", (40, 20)).save(masks(root, subset)[1])


def mask_of_foreign_values(root, subset):
    Image.fromarray(np.full((32, 32), 200, np.uint8)).save(masks(root, subset)[1])


def colour_mask(root, subset):
    Image.new("RGB", (32, 32), (200, 0, 9)).save(masks(root, subset)[1])


def frames_of_two_sizes(root, subset):
    Image.new("RGB", (40, 40)).save(frames(root, subset)[4])


def no_frames_but_masks(root, subset):
    for path in frames(root, subset):
        path.unlink()


def one_mask_missing(root, subset):
    masks(root, subset)[4].unlink()


def broken_pre_mask(root, subset):
    record = load_records(subset, "test", root, pre_masks=True)[0]
    cut(Path(record["pre_mask_paths"][0]), 0.5)


def table_with_a_wrong_split(root, subset):
    rows = rows_of(root, subset)
    rows[1]["split"] = "tset"
    write_rows(root, subset, rows)


def table_without_a_column(root, subset):
    rows = [{"name": row.get("name", row.get("uid"))} for row in rows_of(root, subset)]
    write_rows(root, subset, rows)


def table_missing(root, subset):
    table_of(root, subset).unlink()


def other_class_list(root, subset):
    (root / "AVSBench_semantic/label2idx.json").write_text('{"background": 0, "accordion": 2}')


def cut_wav(root, subset):
    path = audio(root, subset, "wav")
    path.write_bytes(path.read_bytes()[: 44 + 2 * 16000 * 2])


DAMAGES = [
    ("ms3", "original", cut_wav, "unreadable audio", 1),
    ("ms3", "original", cut_frame, "unreadable frame", 1),
    ("avss", "original", cut_frame, "unreadable frame", 1),
    ("s4", "rebuilt", cut_frame, "unreadable frame", 1),
    ("ms3", "original", cut_mask_at_its_very_end, "unreadable mask", 1),
    ("avss", "rebuilt", cut_mask_at_its_very_end, "unreadable mask", 1),
    ("s4", "original", damage_frame_inside, "unreadable frame", 1),
    ("s4", "original", empty_frame, "unreadable frame", 1),
    ("ms3", "rebuilt", text_for_a_mask, "unreadable mask", 1),
    ("s4", "rebuilt", empty_pickle, "unreadable audio", 1),
    ("avss", "rebuilt", empty_pickle, "unreadable audio", 1),
    ("ms3", "rebuilt", pickle_with_code, "unreadable audio", 1),
    ("ms3", "rebuilt", pickle_of_another_shape, "unreadable audio", 1),
    ("ms3", "original", zero_length_wav, "unreadable audio", 1),
    ("avss", "original", wav_without_samples, "unreadable audio", 1),
    ("s4", "original", no_audio_at_all, "missing audio", 1),
    ("avss", "rebuilt", no_audio_at_all, "missing audio", 1),
    ("ms3", "original", mask_of_other_proportions, "mask of other proportions", 1),
    ("s4", "original", mask_of_foreign_values, "unreadable mask", 1),
    ("avss", "original", mask_of_foreign_values, "unreadable mask", 1),
    ("ms3", "original", colour_mask, "unreadable mask", 1),
    ("s4", "original", frames_of_two_sizes, "frames of different sizes", 1),
    ("ms3", "original", no_frames_but_masks, "mask without its frame", 5),
    ("s4", "original", one_mask_missing, "missing mask", 1),
    ("ms3", "rebuilt", broken_pre_mask, "unreadable pre-mask", 1),
    ("s4", "original", table_with_a_wrong_split, "unusable table", 1),
    ("avss", "original", table_without_a_column, "unusable table", 1),
    ("ms3", "original", table_missing, "unusable table", 1),
    ("avss", "original", other_class_list, "other class list", 1),
]


@pytest.mark.parametrize(
    ("subset", "state", "damage", "kind", "number"),
    DAMAGES,
    ids=[f"{subset}-{state}-{damage.__name__}" for subset, state, damage, _, _ in DAMAGES],
)
def test_damage_is_named_counted_and_refused(fresh, tmp_path, monkeypatch, subset, state, damage, kind, number):
    monkeypatch.chdir(tmp_path)
    root = fresh(subset, state)
    damage(root, subset)
    segments = damage is broken_pre_mask
    report = check(root, subset, pre_masks=segments)
    found = [finding for finding in report.findings if (finding.level, finding.kind) == (ERROR, kind)]
    assert len(found) == number
    for finding in found:
        assert finding.path and finding.path in finding.text and "\n" not in finding.text
        assert finding.text.endswith(".")
    assert f"error: {kind}: {number}" in describe(report)
    assert not (tmp_path / "ran_the_pickle").exists()
    # Neither does a clip of another name suffer.
    assert len({finding.clip_id for finding in report.errors}) == 1
    if kind == "other class list":
        return
    # The run is refused with a sentence: while listing, or by the check before training.
    try:
        records = [record for split in SPLITS for record in load_records(subset, split, root, pre_masks=segments)]
    except DatasetError as error:
        assert "\n" not in str(error)
        return
    errors, coverage = check_records(records, Needs(), seconds=60, progress=False)
    assert kind in {finding.kind for finding in errors if finding.level == ERROR}
    assert coverage.contents == coverage.clips == 5
    # And rightly so: training would have stopped at this clip.
    if not segments:
        with pytest.raises(ClipError):
            load_all(root, subset)


def test_the_fix_list_lets_the_rest_be_used(fresh, tmp_path, caplog):
    root = fresh("ms3")
    cut_frame(root, "ms3")
    table_of(root, "ms3").open("a").write("lost,train\n")
    report = check(root, "ms3")
    assert report.usable == {"train": 2, "val": 1, "test": 1} and report.listed["train"] == 3
    path = tmp_path / "fix.csv"
    assert write_fix_list(path, report.findings) == len(report.errors) + 3  # three splits are small
    text = path.read_text()
    assert text.splitlines()[0] == "clip,level,kind,path,text" and str(frames_of(report)[0]) in text
    records = {split: load_records("ms3", split, root, leave_out=path) for split in SPLITS}
    assert {split: len(found) for split, found in records.items()} == report.usable
    assert "split test: 1 of 2 clips are excluded" in caplog.text
    everything = tmp_path / "all.csv"
    everything.write_text("clip\n" + "\n".join(record["clip_id"] for record in records["val"]) + "\n")
    with pytest.raises(DatasetError, match="excludes all 1 clips"):
        load_records("ms3", "val", root, leave_out=everything)
    with pytest.raises(DatasetError, match="which is not a file"):
        load_records("ms3", "val", root, leave_out=tmp_path / "none.csv")


def frames_of(report: DatasetReport) -> list[str]:
    return [finding.path for finding in report.errors if finding.kind == "unreadable frame"]


# --- oddities: handled as documented, and named all the same ---


def mask_of_another_size(root, subset):
    path = masks(root, subset)[1]
    Image.open(path).resize((64, 64), Image.Resampling.NEAREST).save(path)


def stray_files(root, subset):
    folder = frames(root, subset)[0].parent
    for name in (".DS_Store", "._1.png", "PaxHeader", "Thumbs.db"):
        (folder / name).write_bytes(b"")


def byte_order_mark(root, subset):
    path = table_of(root, subset)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def other_column_order(root, subset):
    rows = rows_of(root, subset)
    write_rows(root, subset, rows, list(rows[0])[::-1])


def listed_twice(root, subset):
    rows = rows_of(root, subset)
    write_rows(root, subset, [*rows, rows[0]])


def clip_beyond_the_table(root, subset):
    shutil.copytree(frames(root, subset)[0].parent, frames(root, subset)[0].parent.with_name("unknown"))


def short_audio(root, subset):
    path = audio(root, subset, "wav")
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, samples[: 2 * rate], rate, subtype="PCM_16")


def dashed_name(root, subset):
    with_dash(root)


ODDITIES = [
    ("ms3", mask_of_another_size, {(NOTE, "mask of another size")}, 1),
    ("avss", mask_of_another_size, {(NOTE, "mask of another size")}, 1),
    ("s4", stray_files, {(NOTE, "stray file")}, 4),
    ("ms3", byte_order_mark, {(NOTE, "byte order mark")}, 1),
    ("s4", other_column_order, {(NOTE, "columns in another order")}, 1),
    ("avss", other_column_order, set(), 0),
    ("ms3", listed_twice, {(WARNING, "listed twice")}, 1),
    ("avss", listed_twice, {(WARNING, "listed twice")}, 1),
    ("ms3", clip_beyond_the_table, {(NOTE, "not in the table")}, 1),
    ("ms3", short_audio, {(NOTE, "audio shorter than its clip")}, 1),
    ("ms3", dashed_name, set(), 0),
]


@pytest.mark.parametrize(
    ("subset", "change", "expected", "number"),
    ODDITIES,
    ids=[f"{subset}-{change.__name__}" for subset, change, _, _ in ODDITIES],
)
def test_oddities_are_named_and_handled(fresh, subset, change, expected, number):
    root = fresh(subset)
    change(root, subset)
    report = check(root, subset)
    assert kinds(report) == expected
    assert sum((finding.level, finding.kind) in expected for finding in report.findings) == number
    assert report.usable == {"train": 2, "val": 1, "test": 2}
    assert load_all(root, subset) == 5


def test_names_with_leading_dashes_reach_the_clip(fresh):
    root = fresh("ms3", "rebuilt")
    with_dash(root)
    record = load_records("ms3", "test", root, pre_masks=True)[0]
    assert record["clip_id"] == f"test/{DASHED}"
    assert all(DASHED in path for path in (*record["image_paths"], *record["pre_mask_paths"]))


def test_the_same_clip_in_two_splits_is_said(fresh, caplog):
    root = fresh("ms3")
    rows = rows_of(root, "ms3")
    twin = next(row for row in rows if row["split"] == "train") | {"split": "test"}
    write_rows(root, "ms3", [*rows, twin])
    report = check(root, "ms3")
    assert (WARNING, "in several splits") in kinds(report)
    assert any(name_of(twin) in finding.text and "train and test" in finding.text for finding in report.findings)


# --- where releases lie ---


def test_releases_are_found_at_any_depth_and_through_links(miniatures, tmp_path):
    deep = tmp_path / "disk/downloads/2024/my data"
    shutil.copytree(miniatures("ms3", "original") / "AVSBench_object/Multi-sources", deep / "MS3")
    shutil.copytree(miniatures("avss", "original") / "AVSBench_semantic", tmp_path / "disk/sem/AVSBench_semantic")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/circle").symlink_to(tmp_path)
    for root in (tmp_path / "disk", tmp_path / "root"):
        found = find_releases(root)
        assert [len(found[name]) for name in ("s4", "ms3", "avss")] == [0, 1, 1]
        assert len(load_records("ms3", "test", root)) == 2 and len(load_records("avss", "test", root)) == 2
    # VCT's users point to the release itself, with a slash behind it.
    assert len(load_records("ms3", "test", f"{deep}/MS3/")) == 2
    shutil.copytree(deep / "MS3", deep / "again")
    with pytest.raises(DatasetError, match="contains 2 releases of .*MS3.*again.; set DATASETS.ROOT to one"):
        load_records("ms3", "test", tmp_path / "disk")


def test_a_synthetic_release_never_stands_in_for_a_real_one(miniatures, tmp_path):
    shutil.copytree(miniatures("ms3", "original"), tmp_path / "synth")
    (tmp_path / "synth/synth_truth").mkdir()
    assert find_releases(tmp_path)["ms3"] == [] and len(find_releases(tmp_path / "synth")["ms3"]) == 1
    with pytest.raises(DatasetError, match="there is no other release"):
        load_records("ms3", "test", tmp_path)


def test_partial_downloads_are_recognised(miniatures, tmp_path):
    """Only AVSS's v2 and its table; S4's frames without its table."""
    source = miniatures("avss", "original") / "AVSBench_semantic"
    (tmp_path / "x/v2").mkdir(parents=True)
    shutil.copy(source / "metadata.csv", tmp_path / "x")
    (tmp_path / "y/s4_data/visual_frames").mkdir(parents=True)
    found = find_releases(tmp_path)
    assert found["avss"] == [str(tmp_path / "x")] and found["s4"] == [str(tmp_path / "y")]
    report = check(tmp_path, "avss")
    assert report.usable == {"train": 0, "val": 0, "test": 0}
    assert {kind for _, kind in kinds(report)} == {"missing frame", "missing mask", "missing audio"}
    assert kinds(check(tmp_path, "s4")) == {(ERROR, "unusable table")}


def test_224_px_frames_serve_where_the_large_ones_are_gone(fresh):
    root = fresh("avss", "rebuilt")
    for name in ("frames", "labels_semantic", "processed_frames_384", "processed_labels_semantic_384"):
        for path in (root / "AVSBench_semantic").glob(f"v*/*/{name}"):
            shutil.rmtree(path)
    report = check(root, "avss")
    assert kinds(report) == set() and report.states["train"] == {"rebuilt 224": 2}
    assert load_all(root, "avss") == 5


# --- before training ---


def test_what_is_checked_in_little_time_is_said(miniatures):
    records = load_records("ms3", "test", miniatures("ms3", "original"))
    findings, coverage = check_records(records * 20, Needs(), seconds=0.0, progress=False)
    assert coverage.headers < 40 and coverage.contents < 40 and coverage.clips == 40
    findings, coverage = check_records(records, Needs(flow=True), seconds=30, progress=False)
    assert findings == [] and str(coverage).startswith("headers of 2 and contents of 2 of 2 clips in ")


def test_missing_flow_is_an_error_only_where_it_is_needed(fresh):
    root = fresh("ms3")
    shutil.rmtree(root / "flow")
    records = load_records("ms3", "test", root)
    assert check_records(records, Needs(), seconds=30, progress=False)[0] == []
    found, _ = check_records(records, Needs(flow=True), seconds=30, progress=False)
    assert {finding.kind for finding in found} == {"missing flow"} and len(found) == 2


def test_headers_alone_find_what_was_cut_off(fresh):
    root = fresh("s4")
    cut_frame(root, "s4")
    zero_length_wav(root, "s4")
    cut_mask_at_its_very_end(root, "s4")
    report = check(root, "s4", content=False)
    assert {kind for _, kind in kinds(report)} == {"unreadable frame", "unreadable audio", "unreadable mask"}
