"""Clips under modified conditions: which fields change, and which clip is the donor."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ska_vct.config import get_cfg
from ska_vct.data.audio.files import samples_to_log_mel
from ska_vct.data.audio.log_mel import LOG_OFFSET
from ska_vct.data.avsbench.subsets import AVSS_CLASSES, S4_CATEGORIES
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.experiments.robustness.class_groups import CLASS_GROUPS, groups_of
from ska_vct.experiments.robustness.conditions import ConditionMapper, silence, white_noise
from ska_vct.experiments.robustness.donors import any_donors, off_screen_donors
from ska_vct.experiments.robustness.names import CONDITIONS, DELAYS
from ska_vct.structures.clip import SILENT_MOVING, SILENT_STILL, SOUNDING, ClipError
from ska_vct.synth import SynthSettings, generate
from ska_vct.synth.truth import read_objects, truth_path
from ska_vct.utils.media.audio import read_wav

SMALL = {"train": 0, "val": 0, "size": 48, "series": 5, "flow_size": 12}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("synth")
    scenes = {"twin": 1.0, "mover": 1.0, "plain": 1.0}
    generate(root, SynthSettings(subset="ms3", test=8, scenes=scenes, rest=1.0, **SMALL), jobs=1, progress=False)
    generate(root, SynthSettings(subset="avss", test=6, **SMALL), jobs=1, progress=False)
    return root


def build(release: Path, subset: str = "ms3", **options) -> ConditionMapper:
    cfg = get_cfg()
    cfg.INPUT.SIZE, cfg.INPUT.EVAL_SIZE = (48, 48), (61, 61)
    options = {"conditions": list(CONDITIONS), "root": release} | options
    records = load_records(subset, "test", release)
    return ConditionMapper(mapper=ClipMapper(cfg, is_train=False), records=records, **options)


def clips_of(mapper: ConditionMapper, index: int = 0) -> dict[str, dict]:
    return {clip["condition"]: clip for clip in mapper(mapper.records[index])}


def test_a_condition_changes_only_its_own_fields(release):
    clips = clips_of(build(release))
    true = clips["true"]
    audio = ("log_mel", "audio_second")
    changed = {name: audio for name in ("silence", "noise", "off_screen", *DELAYS)}
    changed |= {"still": ("flow",), "other_flow": ("flow",), "true": ()}
    assert set(clips) == set(changed)
    for name, fields in changed.items():
        for key, value in true.items():
            if key not in ("condition", *fields):
                assert clips[name][key] is value, (name, key)
        for field in fields:
            assert clips[name][field].shape == true[field].shape
            assert clips[name][field].dtype == true[field].dtype
            assert not torch.equal(clips[name][field], true[field])


def test_silence_and_noise_go_through_the_audio_front_end():
    # ln(0 + 0.01) everywhere, for clips of 5 and of 10 seconds
    for seconds in (5, 10):
        for part, hops in zip(silence(seconds), (96, 100), strict=True):
            np.testing.assert_allclose(part, np.log(LOG_OFFSET), rtol=1e-6)
            assert part.shape == (seconds, 1, hops, 64)
    noise = white_noise(np.random.default_rng(0), 5, 0.1).log_mel
    assert noise.shape == (5, 1, 96, 64) and noise.dtype == np.float32
    # The front end's magnitude is linear: twice the amplitude is twice the magnitude before the logarithm.
    louder = white_noise(np.random.default_rng(0), 5, 0.2).log_mel
    np.testing.assert_allclose(np.exp(louder) - 0.01, 2 * (np.exp(noise) - 0.01), rtol=1e-3, atol=1e-4)
    # White: the spectrum is flat, so a band's mean grows only with its width, hence with its frequency.
    bands = noise.mean(axis=(0, 1, 2))
    assert np.corrcoef(bands, np.arange(64))[0, 1] > 0.95


def test_noise_depends_on_the_clip_and_the_seed(release):
    first, again, other = (
        clips_of(build(release, conditions=["noise"], seed=seed))["noise"] for seed in (0, 0, 1)
    )
    assert torch.equal(first["log_mel"], again["log_mel"])
    assert not torch.equal(first["log_mel"], other["log_mel"])
    mapper = build(release, conditions=["noise"])
    assert not torch.equal(clips_of(mapper, 1)["noise"]["log_mel"], first["log_mel"])


@pytest.mark.parametrize(
    ("name", "samples_late"), [("delayed", 8000), ("delayed_0.1", 1600), ("delayed_1.0", 16000)]
)
def test_delayed_audio_is_the_clips_own_rolled(release, name, samples_late):
    mapper = build(release, conditions=[name])
    samples, rate = read_wav(mapper.records[0]["wav_path"])
    assert rate == 16000
    late = np.concatenate([samples[-samples_late:, 0], samples[:-samples_late, 0]])
    want = samples_to_log_mel(late, rate)
    np.testing.assert_array_equal(clips_of(mapper)[name]["log_mel"].numpy(), want)


def test_a_clip_without_a_waveform_cannot_be_delayed(release):
    mapper = build(release, conditions=["delayed"])
    record = mapper.records[0] | {"wav_path": None, "video_path": None}
    record["log_mel_paths"] = {"pickle": None, "npy": str(release / "some.npy")}
    np.save(release / "some.npy", np.zeros((5, 1, 96, 64), np.float32))
    with pytest.raises(ClipError, match=f"{record['clip_id']}.*cannot be delayed"):
        mapper(record)


def test_borrowed_audio_and_flow_equal_the_donors(release):
    mapper = build(release)
    record = mapper.records[2]
    clips = clips_of(mapper, 2)
    own = {other["clip_id"]: clips_of(mapper, i)["true"] for i, other in enumerate(mapper.records)}
    audio = mapper.audio_donors[record["clip_id"]].record["clip_id"]
    flow = mapper.flow_donors[record["clip_id"]].record["clip_id"]
    assert record["clip_id"] not in (audio, flow)
    assert torch.equal(clips["off_screen"]["log_mel"], own[audio]["log_mel"])
    assert torch.equal(clips["other_flow"]["flow"], own[flow]["flow"])
    assert not clips["still"]["flow"].any()


def test_off_screen_audio_is_of_no_group_in_view(release):
    mapper = build(release, conditions=["off_screen"])
    truths = {record["clip_id"]: read_objects(release, record) for record in mapper.records}
    for clip_id, donor in mapper.audio_donors.items():
        mine = {group for name in truths[clip_id].classes for group in groups_of([name])}
        lent = truths[donor.record["clip_id"]]
        heard = {name for name, role in zip(lent.classes, lent.roles, strict=True) if role == "sounding"}
        if donor.is_other_group:
            assert not mine & groups_of(heard)
    known = sum(donor.is_other_group for donor in mapper.audio_donors.values())
    assert known > 0 and mapper.notes()[0].startswith(f"off_screen: {known} of 8 clips")


def record(clip_id: str, *classes: str, frames: int = 5) -> dict:
    return {"clip_id": clip_id, "subset": "avss", "sem_classes": classes, "image_paths": ["x"] * frames}


def test_donors_by_hand(tmp_path):
    records = [record("a", "dog"), record("b", "violin"), record("c", "dog", "violin"), record("d", "car")]
    donors = off_screen_donors(records, tmp_path, seed=0)
    assert donors["a"].record["clip_id"] in "bd" and donors["a"].is_other_group
    # c has animal and music, so only d is of another group.
    assert donors["c"].record["clip_id"] == "d"
    assert donors["d"].record["clip_id"] in "abc"
    # No clip is of another group: any other clip is the donor.
    donors = off_screen_donors(records[:2] + records[2:3], tmp_path, seed=0)
    assert not donors["c"].is_other_group and donors["c"].record["clip_id"] in "ab"
    # An unknown class, or no class (MS3): any other clip is the donor.
    donors = off_screen_donors([record("a", "theremin"), record("b"), record("c", "dog")], tmp_path, seed=0)
    assert not any(donor.is_other_group for donor in donors.values())


def test_donors_are_as_long_as_the_clip_and_reproducible(tmp_path):
    records = [record(f"long{i}", "dog", frames=10) for i in range(3)]
    records += [record(f"short{i}", "violin") for i in range(5)] + [record("last", "car", frames=10)]
    donors = off_screen_donors(records, tmp_path, seed=0)
    assert {donors[f"long{i}"].record["clip_id"] for i in range(3)} == {"last"}
    again = any_donors(records, seed=0, purpose="other_flow")
    assert {name: again[name].record["clip_id"] for name in again} == {
        name: donor.record["clip_id"] for name, donor in any_donors(records, seed=0, purpose="other_flow").items()
    }
    for name, donor in again.items():
        assert donor.record["clip_id"] != name
        assert len(donor.record["image_paths"]) == 10 or name.startswith("short")
    with pytest.raises(ClipError, match="No other clip can provide audio or flow for 'long0'"):
        any_donors(records[:1], seed=0, purpose="other_flow")


def test_every_class_has_one_group():
    names = [name for members in CLASS_GROUPS.values() for name in members]
    assert sorted(names) == sorted({*AVSS_CLASSES[1:], *S4_CATEGORIES})
    # "helicopter" is in both lists.
    assert len(names) == len(set(names)) == 70 + 23 - 1
    assert groups_of(["dog", "violin"]) == {"animal", "music"}
    assert groups_of([]) is None and groups_of(["dog", "theremin"]) is None


@pytest.mark.parametrize("subset", ["ms3", "avss"])
def test_sounding_objects_are_the_foreground_of_the_masks(release, subset):
    mapper = build(release, subset, conditions=["true"])
    seen = set()
    for index, entry in enumerate(mapper.records):
        clip = clips_of(mapper, index)["true"]
        groups = clip["object_groups"]
        assert groups.shape == clip["masks"].shape and groups.dtype == torch.uint8
        assert torch.equal(groups == SOUNDING, clip["masks"] > 0)
        truth = read_objects(release, entry)
        with np.load(truth_path(release, subset, "test", entry["name"])) as arrays:
            speed = arrays["speed"]
        for k in range(len(truth.roles)):
            # The object's own pixels, resized by hand: the source of each of the 61 pixel centers among 48.
            rows = ((2 * np.arange(61) + 1) * 48) // (2 * 61)
            here = truth.masks[:, k][:, rows[:, None], rows]
            for frame in range(len(here)):
                moves = speed[frame, :, k].any()
                want = SOUNDING if truth.sounding[frame, k] else SILENT_MOVING if moves else SILENT_STILL
                found = set(groups[frame].numpy()[here[frame]].tolist())
                assert found <= {want}
                seen |= found
    assert seen == ({SOUNDING, SILENT_STILL, SILENT_MOVING} if subset == "ms3" else {SOUNDING, SILENT_STILL})


def test_clips_with_unknown_objects_have_no_object_groups(release, tmp_path):
    for root in (None, tmp_path):
        assert "object_groups" not in clips_of(build(release, root=root, conditions=["true"]))["true"]


def test_errors_list_the_choices(release):
    with pytest.raises(ValueError, match="Conditions are true, silence.*got echo"):
        build(release, conditions=["true", "echo"])
    with pytest.raises(ValueError, match="got none"):
        build(release, conditions=[])
    with pytest.raises(ValueError, match="named twice"):
        build(release, conditions=["true", "true"])
    with pytest.raises(ValueError, match="is_train=False"):
        ConditionMapper(mapper=ClipMapper(get_cfg(), is_train=True), records=[], conditions=["true"])


def test_a_clip_with_off_screen_audio_is_not_its_own_donor(tmp_path):
    """A dog is in view and a violin is heard: only the clip's own audio would be of another group."""
    table = tmp_path / "synth_truth" / "avss_clips.csv"
    table.parent.mkdir()
    table.write_text("clip_id,classes,sounds\na,dog,violin\nb,dog,dog\n")
    donors = off_screen_donors([record("a", "violin"), record("b", "dog")], tmp_path, seed=0)
    assert donors["a"].record["clip_id"] == "b" and not donors["a"].is_other_group
    assert donors["b"].record["clip_id"] == "a" and donors["b"].is_other_group
