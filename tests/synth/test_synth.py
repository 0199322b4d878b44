"""Synthetic clips: layouts, physics, and that nothing but physics tells what sounds from what does not."""

import csv
import hashlib
import importlib.util
import json
import wave
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from ska_vct.data.avsbench.subsets import AVSS_CLASSES, S4_CATEGORIES
from ska_vct.data.catalog import load_records
from ska_vct.data.flow.methods.base import dis_flow
from ska_vct.data.flow.store import read_flow
from ska_vct.synth import SCENE_KINDS, SynthError, SynthSettings, generate
from ska_vct.synth.classes import CLASSES, HELDOUT_VARIANTS, SEEN_VARIANTS
from ska_vct.synth.envelopes import CONTROL_RATE, EVENTS, draw_envelope
from ska_vct.synth.looks import draw_look, draw_sprite
from ska_vct.synth.plan import plan_clip
from ska_vct.synth.render import Renderer, draw_soundtrack

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"size": 48, "series": 5, "flow_size": 12}


def settings(subset: str, **changed) -> SynthSettings:
    return SynthSettings(**{"subset": subset, "train": 1, "val": 1, "test": 1, **SMALL, **changed})


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scenes_of(kind: str, count: int, **changed) -> list:
    wanted = settings("ms3", train=count, scenes={kind: 1.0}, size=96, **changed)
    return [plan_clip(wanted, "train", index).scene for index in range(count)]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """All three subsets below one root."""
    root = tmp_path_factory.mktemp("synth")
    for subset in ("s4", "ms3"):
        generate(root, settings(subset), jobs=1, progress=False)
    wanted = settings("avss", train=3, aspect=1.5, audio_rate=44100, channels=2, fps=12)
    generate(root, wanted, jobs=1, progress=False)
    return root


# -------------------------------------------------------------------------------------------- reproducibility


def test_same_seed_same_bytes_whatever_the_jobs(tmp_path):
    wanted = settings("ms3", train=3, scenes={"plain": 1, "twin": 1, "camera": 1}, size=96)
    for jobs in (1, 2):
        assert generate(tmp_path / str(jobs), wanted, jobs=jobs, progress=False)
    one, two = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert one == two
    assert any(name.endswith(".mp4") for name in one)


def test_another_seed_gives_other_clips():
    plans = [plan_clip(settings("ms3", seed=seed), "test", 0) for seed in (0, 1)]
    assert plans[0].scene.background_seed != plans[1].scene.background_seed
    frames = [Renderer(plan.scene, fps=4, flicker=0.0).frames() for plan in plans]
    assert (frames[0] != frames[1]).any()


def test_a_clip_does_not_depend_on_how_many_there_are():
    few, many = settings("ms3", train=2), settings("ms3", train=200, val=7)
    assert plan_clip(few, "train", 1).row() == plan_clip(many, "train", 1).row()
    assert plan_clip(few, "train", 1).scene.sound_seed == plan_clip(many, "train", 1).scene.sound_seed


def test_scenes_keep_their_shares():
    wanted = settings("ms3", train=200, scenes={"plain": 0.5, "twin": 0.25, "mover": 0.25})
    kinds = [plan_clip(wanted, "train", index).scene.kind for index in range(200)]
    counts = {kind: kinds.count(kind) for kind in ("plain", "twin", "mover")}
    assert abs(counts["plain"] - 100) <= 2 and abs(counts["twin"] - 50) <= 2 and abs(counts["mover"] - 50) <= 2


# --------------------------------------------------------------------------------------------------- layouts


def read_table(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_s4_layout(release):
    base = release / "AVSBench_object" / "Single-source"
    rows = read_table(base / "s4_meta_data.csv")
    assert list(rows[0]) == ["name", "start", "category", "split"]
    assert [row["split"] for row in rows] == ["train", "val", "test"]
    for row in rows:
        name, category, split = row["name"], row["category"], row["split"]
        assert category in S4_CATEGORIES
        data, folder = base / "s4_data", f"{split}/{category}"
        frames = sorted(path.name for path in (data / "visual_frames" / folder / name).iterdir())
        assert frames == [f"{name}_{k}.png" for k in range(1, 6)]
        assert Image.open(data / "visual_frames" / folder / name / frames[0]).mode == "RGB"
        masks = sorted((data / "gt_masks" / folder / name).iterdir())
        assert len(masks) == (1 if split == "train" else 5)
        assert masks[0].name == f"{name}_1.png"
        for path in masks:
            mask = np.array(Image.open(path))
            # One object sounds all the time in single-source clips.
            assert mask.shape == (48, 48) and set(np.unique(mask)) == {0, 255}
        with wave.open(str(data / "audio_wav" / folder / f"{name}.wav")) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (16000, 1, 80000)
        assert (data / "raw_videos" / folder / f"{name}.mp4").is_file()


def test_ms3_layout(release):
    base = release / "AVSBench_object" / "Multi-sources"
    rows = read_table(base / "ms3_meta_data.csv")
    assert list(rows[0]) == ["video_id", "split"]
    for row in rows:
        name, split, data = row["video_id"], row["split"], base / "ms3_data"
        frames = sorted(path.name for path in (data / "visual_frames" / name).iterdir())
        assert frames == [f"{name}.mp4_{k}.png" for k in range(1, 6)]
        masks = sorted((data / "gt_masks" / split / name).iterdir())
        assert [path.name for path in masks] == [f"{name}_{k}.png" for k in range(1, 6)]
        for path in masks:
            image = Image.open(path)
            assert image.mode == "P"
            # Indices and grey values agree, so every way of reading sees 0 and 255.
            np.testing.assert_array_equal(np.array(image), np.array(image.convert("L")))
            assert set(np.unique(np.array(image))) <= {0, 255}
        assert (data / "audio_wav" / split / f"{name}.wav").is_file()
        assert (data / "raw_videos" / f"{name}.mp4").is_file()


def test_avss_layout(release):
    base = release / "AVSBench_semantic"
    names = json.loads((base / "label2idx.json").read_text())
    assert names == {name: index for index, name in enumerate(AVSS_CLASSES)}
    rows = read_table(base / "metadata.csv")
    assert list(rows[0]) == ["vid", "uid", "s_min", "s_max", "a_obj", "split", "label"]
    assert {row["label"] for row in rows if row["split"] == "train"} == {"v1s", "v1m", "v2"}
    for row in rows:
        folder, seconds = base / row["label"] / row["uid"], 10 if row["label"] == "v2" else 5
        assert {path.name for path in (folder / "frames").iterdir()} == {f"{k}.jpg" for k in range(seconds)}
        assert Image.open(folder / "frames" / "0.jpg").size == (72, 48)
        annotated = 1 if row["label"] == "v1s" and row["split"] == "train" else seconds
        labels = [np.array(Image.open(folder / "labels_semantic" / f"{k}.png")) for k in range(annotated)]
        assert len(list((folder / "labels_semantic").iterdir())) == annotated
        found = set(np.unique(labels)) - {0}
        assert found == {AVSS_CLASSES.index(name) for name in row["a_obj"].split("_")}
        colors = np.array(Image.open(folder / "labels_rgb" / "0.png"))
        for index in np.unique(labels[0]):
            # PASCAL VOC: bits 0, 1, 2 of the label are the highest bits of red, green, blue, and so on.
            bits = [[(int(index) >> (3 * level + channel)) & 1 for level in range(3)] for channel in range(3)]
            expected = [sum(bit << (7 - level) for level, bit in enumerate(channel)) for channel in bits]
            assert (colors[labels[0] == index] == expected).all()
        with wave.open(str(folder / "audio.wav")) as sound:
            assert (sound.getframerate(), sound.getnchannels()) == (44100, 2)
            assert sound.getnframes() == 44100 * seconds


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_our_readers_find_everything_and_the_flow_is_theirs(release, subset):
    for split in ("train", "val", "test"):
        for record in load_records(subset, split, release):
            flow = read_flow(record["flow_path"], clip_id=record["clip_id"], num_frames=len(record["image_paths"]))
            assert flow.flow.shape[1:] == (5, 2, 12, 12)
            assert flow.meta["fps"] == (12.0 if subset == "avss" else 10.0)
            assert np.abs(flow.flow).max() > 1  # something moves, pixels per second
            assert record["video_path"] and record["wav_path"]


def test_videos_have_the_sampled_frames_and_the_sound(release):
    record = load_records("ms3", "test", release)[0]
    with av.open(record["video_path"]) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        assert container.streams.video[0].average_rate == 10
    assert frames.shape == (50, 48, 48, 3)
    # Image 15 of 16 of a second at 10 per second is number 9 (floor of 9.375).
    released = np.array(Image.open(record["image_paths"][2])).astype(float)
    differences = [np.abs(frame - released).mean() for frame in frames.astype(float)]
    assert int(np.argmin(differences)) == 29
    with av.open(record["video_path"]) as container:
        audio = container.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio)])
    with wave.open(record["wav_path"]) as file:
        sound = np.frombuffer(file.readframes(80000), "<i2") / 32768
    # AAC is lossy and padded, so compare the loudness per tenth of a second.
    loud = [np.sqrt(np.mean(x[:80000].reshape(50, 1600) ** 2, axis=1)) for x in (samples, sound)]
    assert np.corrcoef(loud)[0, 1] > 0.9


def test_the_table_of_clips_says_what_each_one_is(release):
    rows = read_table(release / "synth_truth" / "ms3_clips.csv")
    assert list(rows[0]) == ["clip_id", "split", "name", "kind", "classes", "roles", "sounds", "seconds"]
    for row in rows:
        truth = np.load(release / "synth_truth" / "ms3" / row["split"] / f"{row['name']}.npz")
        assert str(truth["kind"]) == row["kind"] == "plain"
        assert truth["roles"].tolist() == row["roles"].split()
        assert str(truth["clip_id"]) == row["clip_id"]
        folder = release / "AVSBench_object/Multi-sources/ms3_data/gt_masks" / row["clip_id"]
        sounding = (truth["masks"] & truth["sounding"][:, :, None, None]).any(axis=1)
        for k, mask in enumerate(sounding, 1):
            released = np.array(Image.open(folder / f"{row['name']}_{k}.png"))
            np.testing.assert_array_equal(released, 255 * mask.astype(np.uint8))


# --------------------------------------------------------------------------------------------------- physics


def tenths(samples: np.ndarray) -> np.ndarray:
    """Root mean square per tenth of a second at 16 kHz, (seconds, 10)."""
    return np.sqrt(np.mean(samples.astype(float).reshape(-1, 10, 1600) ** 2, axis=2))


@pytest.mark.parametrize("kind", ["twin", "mover"])
def test_motion_goes_with_the_sound_for_the_sounding_object_only(kind):
    """Against the wave form itself, not against the envelope that made both."""
    sounding, silent = [], []
    for scene in scenes_of(kind, 24, rest=0.0):
        truth = Renderer(scene, fps=10, flicker=0.0).truth(steps=10)
        loud = tenths(draw_soundtrack(scene, rate=16000, channels=1, hiss=0.001))
        for k, item in enumerate(scene.objects):
            speed = truth.speed[:, :, k]
            if item.role == "twin":
                assert not speed.any()
                assert not truth.loudness[:, :, k].any()
            else:
                correlation = np.corrcoef(speed.ravel(), loud.ravel())[0, 1]
                (sounding if item.role == "sounding" else silent).append(correlation)
    assert len(sounding) == 24 and np.mean(sounding) > 0.85 and np.min(sounding) > 0.6
    if kind == "mover":
        assert len(silent) == 24 and abs(np.mean(silent)) < 0.15


def test_what_rests_is_silent_still_and_not_in_the_mask():
    rested = 0
    for scene in scenes_of("twin", 12, rest=1.0):
        truth = Renderer(scene, fps=10, flicker=0.0).truth(steps=10)
        loud = tenths(draw_soundtrack(scene, rate=16000, channels=1, hiss=0.0))
        quiet = ~truth.sounding.any(axis=1)
        rested += quiet.sum()
        assert 1 <= quiet.sum() <= 2
        assert not loud[quiet].any() and not truth.speed[quiet].any()
        assert (loud[~quiet].max(axis=1) > 0).all() and (truth.speed[~quiet].max(axis=(1, 2)) > 0).all()
    assert rested >= 12


def test_true_flow_agrees_with_what_dis_sees():
    """An independent look at the images themselves: position and units of the truth."""
    errors, sizes = [], []
    for kind in ("twin", "camera"):
        for scene in scenes_of(kind, 6, rest=0.0):
            renderer = Renderer(scene, fps=50, flicker=0.0)
            truth = renderer.truth(steps=10)
            gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in renderer.frames()]
            for t, n in enumerate(renderer.sampled()):
                seen = 50 * (dis_flow(gray[n], gray[n + 1]) - dis_flow(gray[n], gray[n - 1])) / 2
                for k in range(len(scene.objects)):
                    inside = cv2.erode(truth.masks[t, k].astype(np.uint8), np.ones((7, 7))) > 0
                    errors.append(np.median(np.hypot(*(seen - truth.flow[t])[:, inside])))
                    sizes.append(np.median(np.hypot(*truth.flow[t][:, inside])))
    errors, moving = np.array(errors), np.array(sizes) > 3
    assert moving.sum() > 20
    # DIS is good to a few hundredths of a pixel, which at 50 images per second is a few pixels per second.
    assert np.median(errors[moving] / np.array(sizes)[moving]) < 0.2
    assert np.median(errors[~moving]) < 1.5


def test_sound_out_of_view_leaves_the_mask_empty():
    for scene in scenes_of("offscreen", 8):
        truth = Renderer(scene, fps=4, flicker=0.0).truth(steps=4)
        assert truth.masks.any() and not truth.sounding.any() and not truth.speed.any()
        assert tenths(draw_soundtrack(scene, rate=16000, channels=1, hiss=0.0)).max(axis=1).all()
        (source,) = scene.sources
        assert not source.visible and source.object_class not in [item.object_class for item in scene.objects]


def test_plain_clips_hold_different_classes_and_weak_ones_move_less():
    for scene in scenes_of("plain", 60):
        assert len({item.object_class for item in scene.objects}) == len(scene.objects)
        assert {item.role for item in scene.objects} <= {"sounding", "still"}
    speeds = {
        kind: np.mean([Renderer(s, fps=4, flicker=0).truth(steps=4).speed.max() for s in scenes_of(kind, 10)])
        for kind in ("plain", "weak")
    }
    assert 0 < speeds["weak"] < 0.5 * speeds["plain"]


@pytest.mark.parametrize("events", EVENTS)
def test_envelopes_vary_within_the_second(events):
    rng = np.random.default_rng(0)
    active = np.array([True, True, False, True, True])
    for _ in range(20):
        envelope = draw_envelope(rng, events, active)
        assert envelope.values.shape == (5 * CONTROL_RATE,)
        assert 0 <= envelope.values.min() and envelope.values.max() <= 1
        seconds = envelope.values.reshape(5, CONTROL_RATE)
        assert not seconds[2].any()
        assert (seconds[active].std(axis=1) > 0.05).all()
        gaps = np.diff(envelope.onsets)
        within_run = gaps[(envelope.onsets[:-1] < 2) == (envelope.onsets[1:] < 2)]
        assert (within_run >= 0.25).all() and (within_run <= 0.9).all()


# -------------------------------------------------------------------------------------------------- no leaks


@pytest.mark.parametrize("kind", ["twin", "mover"])
def test_size_place_and_order_say_nothing_of_the_role(kind):
    """800 scenes: the same distributions for both roles, and the front object sounds as often as the back one."""
    scenes = scenes_of(kind, 800)
    values = {"sounding": [], kind: []}
    for scene in scenes:
        for item in scene.objects:
            central = np.hypot(item.x - 48, item.y - 48)
            values[item.role].append((item.area, central, item.x, item.y, item.angle))
    for ours, theirs in zip(*(np.array(value).T for value in values.values()), strict=True):
        # Seeded, so this cannot flicker; a sounding object placed first gives p far below 1e-6.
        assert ks_2samp(ours, theirs).pvalue > 0.01
    front = np.mean([scene.objects[-1].role == "sounding" for scene in scenes])
    assert abs(front - 0.5) < 0.05  # 2.8 standard errors of 800 tosses


def test_a_mover_rests_as_often_as_what_sounds():
    """800 scenes: neither rest, nor energy, nor the number of events says which of two moving objects sounds."""
    scenes = scenes_of("mover", 800)
    values = {"sounding": [], "mover": []}
    for scene in scenes:
        for item in scene.objects:
            envelope = item.envelope
            values[item.role].append([~envelope.active.all(), envelope.values.mean(), len(envelope.onsets)])
    ours, theirs = (np.array(value, dtype=float) for value in values.values())
    # 3 standard errors of the difference of two shares of a quarter; 0.25 while movers never rested.
    assert abs(ours[:, 0].mean() - theirs[:, 0].mean()) < 3 * np.sqrt(2 * 0.25 * 0.75 / 800)
    for column in (1, 2):
        first = np.mean(ours[:, column] > theirs[:, column]) + np.mean(ours[:, column] == theirs[:, column]) / 2
        assert abs(first - 0.5) < 0.05  # 2.8 standard errors of 800 tosses


def test_still_twins_stand_in_poses_of_moving_ones():
    """At the sampled instants, displacement and rotation have one distribution."""
    poses = {"sounding": [], "twin": []}
    for scene in scenes_of("twin", 400):
        for item in scene.objects:
            if item.motion.orbit == "circle" or item.motion.orbit == "turn":
                poses[item.role].append(item.motion.pose(np.array([2.9]))[0])
    moving, still = (np.array(value).T for value in poses.values())
    assert moving.shape == still.shape and moving.shape[1] > 60
    for ours, theirs in zip(moving[:3], still[:3], strict=True):
        assert ks_2samp(ours, theirs).pvalue > 0.01


def test_twins_share_their_look():
    for scene in scenes_of("twin", 10):
        one, two = scene.objects
        assert one.look == two.look and one.object_class == two.object_class
        assert {one.role, two.role} == {"sounding", "twin"}


def test_objects_lie_inside_and_apart():
    for kind in ("plain", "mover"):
        for scene in scenes_of(kind, 40):
            truth = Renderer(scene, fps=4, flicker=0.0).truth(steps=4)
            for k, item in enumerate(scene.objects):
                seen = truth.masks[:, k].sum(axis=(1, 2)) / item.area
                assert (seen > 0.7).all()  # neither cut off by the border nor hidden
                assert 0.02 < truth.masks[:, k].mean() < 0.17


def test_no_single_colour_is_a_class():
    """The families of colours overlap: the look that is nearest in colour is often of another class."""
    rng = np.random.default_rng(0)
    colors, owners = [], []
    for number, object_class in enumerate(CLASSES):
        for _ in range(40):
            look = draw_look(rng, object_class, int(rng.choice(SEEN_VARIANTS)))
            colors.append(look.body)
            owners.append(number)
    colors, owners = np.array(colors), np.array(owners)
    distance = np.linalg.norm(colors[:, None] - colors, axis=2) + np.where(np.eye(len(colors)), np.inf, 0)
    same = (owners[distance.argmin(axis=1)] == owners).mean()
    assert 0.125 < same < 0.8


@pytest.mark.parametrize("object_class", CLASSES, ids=lambda item: item.avss)
def test_sprites_have_the_area_asked_for(object_class):
    look = draw_look(np.random.default_rng(0), object_class, 0)
    for area in (200.0, 1000.0):
        assert draw_sprite(look, area).area == pytest.approx(area, rel=0.1)  # whole pixels of its side


def test_classes_are_real_and_held_out_variants_apart():
    assert len(CLASSES) >= 6
    assert all(item.category in S4_CATEGORIES and item.avss in AVSS_CLASSES[1:] for item in CLASSES)
    wanted = settings("ms3", heldout_looks=True, heldout_timbres=True)
    for split, variants in (("train", SEEN_VARIANTS), ("val", SEEN_VARIANTS), ("test", HELDOUT_VARIANTS)):
        options = wanted.scene_options(split, multi=True)
        assert options.looks == options.timbres == variants
        used = {source.timbre_variant for i in range(20) for source in plan_clip(wanted, split, i).scene.sources}
        assert used <= set(variants)
    assert not set(SEEN_VARIANTS) & set(HELDOUT_VARIANTS)


# ---------------------------------------------------------------------------------------------- safe to run


def test_a_whole_release_is_left_alone_and_a_broken_one_finished(tmp_path):
    wanted = settings("s4", val=0, test=1)
    assert generate(tmp_path, wanted, jobs=1, progress=False)
    before = digests(tmp_path)
    assert not generate(tmp_path, wanted, jobs=1, progress=False)
    assert digests(tmp_path) == before

    # As an interruption leaves it: no table, one clip without truth and with an image cut short.
    base = tmp_path / "AVSBench_object" / "Single-source"
    (base / "s4_meta_data.csv").unlink()
    next((tmp_path / "synth_truth" / "s4" / "test").iterdir()).unlink()
    picture = next((base / "s4_data" / "visual_frames" / "test").rglob("*.png"))
    picture.write_bytes(picture.read_bytes()[:50])
    assert generate(tmp_path, wanted, jobs=1, progress=False)
    assert digests(tmp_path) == before


def test_no_table_before_the_last_clip(tmp_path, monkeypatch):
    def fail(root, plan, wanted):
        raise OSError("No space left on device")

    monkeypatch.setattr("ska_vct.synth.writer.write_clip", fail)
    with pytest.raises(OSError, match="No space"):
        generate(tmp_path, settings("ms3"), jobs=1, progress=False)
    assert not list(tmp_path.rglob("*.csv"))
    assert json.loads((tmp_path / "synth_truth" / "ms3_settings.json").read_text())["complete"] is False


def test_real_releases_and_other_settings_are_not_touched(tmp_path):
    real = tmp_path / "AVSBench_object" / "Multi-sources" / "ms3_meta_data.csv"
    real.parent.mkdir(parents=True)
    real.write_text("name,split\n")
    with pytest.raises(SynthError, match="not made by this program"):
        generate(tmp_path, settings("ms3"), jobs=1, progress=False)
    assert real.read_text() == "name,split\n"
    assert len(list(tmp_path.rglob("*"))) == 3

    generate(tmp_path, settings("s4", val=0, test=0), jobs=1, progress=False)
    with pytest.raises(SynthError, match="seed 0 instead of 5"):
        generate(tmp_path, settings("s4", val=0, test=0, seed=5), jobs=1, progress=False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"subset": "s5"}, "s5"),
        ({"train": 0, "val": 0, "test": 0}, "at least one clip"),
        ({"train": -1}, "-1"),
        ({"size": 97}, "97"),
        ({"size": 16}, "16"),
        ({"scenes": {"twins": 1.0}}, "twins"),
        ({"scenes": {"plain": 0.0}}, "above 0"),
        ({"scenes": {"plain": float("nan")}}, "Shares"),
        ({"seconds": 7}, "7"),
        ({"series": 11}, "11"),
        ({"channels": 6}, "6"),
    ],
)
def test_senseless_settings_are_one_sentence(changed, message):
    with pytest.raises(SynthError, match=message):
        settings(**{"subset": "ms3", **changed})


@pytest.fixture(scope="module")
def make_synth():
    spec = importlib.util.spec_from_file_location("make_synth", ROOT / "datasets" / "make_synth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_command_line(make_synth, tmp_path, capsys):
    command = ["--root", str(tmp_path), "--subset", "ms3", "--test", "1", "--size", "48", "--flow-size", "12"]
    assert make_synth.main([*command, "--scenes", "twin=1", "--heldout-looks"]) == 0
    assert "1 test" in capsys.readouterr().out
    assert [row["kind"] for row in read_table(tmp_path / "synth_truth" / "ms3_clips.csv")] == ["twin"]
    assert make_synth.main([*command, "--scenes", "twin=1", "--heldout-looks"]) == 0
    assert "already holds" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: .*other settings"):
        make_synth.main(command)
    with pytest.raises(SystemExit, match="error: .*95"):
        make_synth.main([*command[:-4], "--size", "95"])
    with pytest.raises(SystemExit):
        make_synth.main([*command, "--scenes", "twin:1"])
    assert "plain=0.5" in capsys.readouterr().err


def test_help_explains_every_kind_of_scene(make_synth):
    text = make_synth.build_parser().format_help()
    assert "python datasets/make_synth.py --root" in text
    assert all(kind in text for kind in SCENE_KINDS)
