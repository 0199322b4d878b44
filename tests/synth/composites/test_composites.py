"""Composites: sources and their splits, physics of the clips, and reproducibility."""

import csv
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ska_vct.cli.composites import build_parser, main
from ska_vct.data.audio.log_mel import SAMPLE_RATE
from ska_vct.data.catalog import load_records
from ska_vct.data.flow.store import read_flow
from ska_vct.synth import SynthError
from ska_vct.synth.composites import COMPOSITE_KINDS, CompositeSettings, make_release, prepare_sources
from ska_vct.synth.composites.generate import plan_composite
from ska_vct.synth.composites.packages import Licences, package_name, read_package
from ska_vct.synth.composites.prepare import read_sources
from ska_vct.synth.composites.scene import mixed
from ska_vct.synth.composites.sounds import draw_track, draw_unrelated_track
from ska_vct.synth.envelopes import correlate
from ska_vct.synth.truth import read_objects
from ska_vct.utils.errors import InputError


@pytest.fixture
def scenes(release, small):
    """Scenes of one kind."""

    def draw(kind: str, count: int = 12) -> list:
        settings = CompositeSettings(train=count, scenes={kind: 1.0}, **small)
        return [plan_composite(release, settings, "train", index).scene for index in range(count)]

    return draw


# -------------------------------------------------------------------------------------------------- sources


def test_splits_share_neither_things_nor_recordings(release):
    sources = {source.name: source for source in read_sources(release)}
    assert sources["thinga"].split == sources["thinga_old"].split
    assert sources["thingb"].split == sources["double"].split
    assert sources["thingb"].group == sources["double"].group
    assert not sources["mute"].sound and "silence" in sources["mute"].note
    assert {source.split for source in sources.values()} == {"train", "val", "test"}
    assert all(source.licence == "CC0-1.0" for source in sources.values())
    card = (release / "README.md").read_text()
    assert "CC0-1.0" in card and "mute (its recording is silence)" in card


def test_a_split_uses_its_own_sources_only(release):
    split_of = {source.name: source.split for source in read_sources(release)}
    for folder, part in (("train", "train"), ("train", "val"), ("silent-mover", "test")):
        with open(release / folder / "synth_truth" / "ms3_clips.csv") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == part]
        used = {name for row in rows for name in row["classes"].split() + row["sounds"].split()}
        assert used and {split_of[name] for name in used} == {part}


def test_too_few_sources_are_refused(material, tmp_path):
    cutouts, _ = material
    few = tmp_path / "few"
    few.mkdir()
    (few / "a.jpg").write_bytes(next(material[1].glob("*.jpg")).read_bytes())
    with pytest.raises(InputError, match="photographs"):
        prepare_sources(tmp_path / "out", cutouts=cutouts, photographs=few, progress=False)
    with pytest.raises(InputError, match="no folder"):
        prepare_sources(tmp_path / "out", cutouts=tmp_path / "nowhere", progress=False)


def deb(path: Path, files: dict[str, bytes]) -> Path:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
        link = tarfile.TarInfo("./usr/share/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 A
License: GPL-2+

Files: nature/Dune.jpg
 nature/Wood.jpg
Copyright: 2007 B
License: CC-BY-4.0
 Text of the licence.

Files: debian/*
Copyright: 2020 C
License: Expat
"""


def test_packages_are_read_as_they_are(tmp_path, material):
    photo = next(material[1].glob("*.jpg")).read_bytes()
    path = deb(
        tmp_path / "mate-backgrounds_1.0_all.deb",
        {
            "./usr/share/backgrounds/mate/nature/Dune.jpg": photo,
            "./usr/share/backgrounds/mate/abstract/Flow.png": photo,
            "./usr/share/doc/mate-backgrounds/copyright": COPYRIGHT.encode(),
        },
    )
    assert package_name(path) == "mate-backgrounds"
    found = list(read_package(path, ("*.jpg", "*/copyright")))
    assert [Path(file.path).name for file in found] == ["Dune.jpg", "copyright"]
    licences = Licences(COPYRIGHT)
    assert licences.of("usr/share/backgrounds/mate/nature/Wood.jpg") == "CC-BY-4.0"
    assert licences.of("usr/share/backgrounds/mate/nature/Aqua.jpg") == "GPL-2+"
    assert Licences("It was downloaded from somewhere.").of("a.jpg") == "see the copyright file"

    cutouts, photographs = material
    sources = prepare_sources(
        tmp_path / "out", packages=[path], cutouts=cutouts, photographs=photographs, progress=False
    )
    taken = [source for source in sources if source.package == path.name]
    assert [(source.origin, source.licence) for source in taken] == [("Dune.jpg", "CC-BY-4.0")]
    assert (tmp_path / "out" / "sources" / "mate-backgrounds.copyright").read_text() == COPYRIGHT


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("mate-backgrounds_1_all.deb", b"hello", "not a Debian package"),
        ("mate-backgrounds_1_all.deb", b"!<arch>\n", "holds no data"),
        ("other_1_all.deb", b"!<arch>\n", "Nothing is known"),
    ],
)
def test_bad_packages_give_one_sentence(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        prepare_sources(tmp_path / "out", packages=[path], progress=False)


# --------------------------------------------------------------------------------------------------- scenes


def test_twins_differ_by_motion_only(scenes):
    for scene in scenes("twin"):
        one, two = sorted(scene.objects, key=lambda item: item.role)
        assert one.source == two.source and one.light == two.light
        assert (one.role, two.role) == ("sounding", "twin")
        assert np.ptp(one.motion.phase) > 0 and np.ptp(two.motion.phase) == 0


def test_movers_move_out_of_step(scenes):
    drawn = scenes("mover")
    correlations = []
    for scene in drawn:
        by_role = {item.role: item.envelope.values for item in scene.objects}
        correlations.append(correlate(by_role["sounding"], by_role["mover"]))
    assert np.mean(correlations) < 0.2
    assert 0.2 < np.mean([len({item.source.name for item in scene.objects}) == 1 for scene in drawn]) < 0.9


def test_dubbed_clips_have_silent_looks_and_real_recordings(release, small):
    settings = CompositeSettings(train=12, scenes={"twin": 0.5, "mover": 0.5}, dubbed=1.0, **small)
    sounding = {source.name for source in read_sources(release) if source.sound}
    for index in range(12):
        scene = plan_composite(release, settings, "train", index).scene
        assert not {item.source.name for item in scene.objects} & sounding
        assert {sound.object_class.avss for sound in scene.sources} <= sounding
        if scene.kind == "twin":
            assert len({item.source.name for item in scene.objects}) == 1


def test_releases_from_before_dubbing_are_still_the_same_clips():
    assert "dubbed" not in CompositeSettings(train=1).to_json()
    assert CompositeSettings(train=1, dubbed=0.5).to_json()["dubbed"] == 0.5


def test_roles_do_not_depend_on_place_size_and_order(scenes):
    drawn = scenes("mover", 300)
    first = np.array([scene.objects[0].role == "sounding" for scene in drawn])
    assert 0.4 < first.mean() < 0.6
    area = {role: [o.area for s in drawn for o in s.objects if o.role == role] for role in ("sounding", "mover")}
    assert abs(np.log(np.median(area["sounding"]) / np.median(area["mover"]))) < 0.35


def test_silence_is_silent_and_offscreen_sounds_are_of_others(scenes):
    quiet = [np.abs(mixed(scene)).max() for scene in scenes("silence")]
    assert min(quiet) == 0 and max(quiet) < 2000
    for scene in scenes("offscreen"):
        assert scene.sources and all(item.role != "sounding" for item in scene.objects)
        assert scene.sources[0].object_class.category not in {item.source.group for item in scene.objects}


def test_loudness_varies_within_each_active_second():
    rng = np.random.default_rng(0)
    recording = np.sin(np.arange(30000) / 3)
    active = np.array([True, True, False, True, True])
    samples, envelope = draw_track(rng, recording, active)
    by_second = envelope.values.reshape(5, -1)
    assert (by_second[active].std(axis=1) > 0.1).all() and not envelope.values[2000:2980].any()
    assert len(samples) == 5 * SAMPLE_RATE and np.abs(samples).max() < 1
    other = draw_unrelated_track(rng, [recording], active, envelope)
    assert correlate(other.values, envelope.values) < 0.3


# ---------------------------------------------------------------------------------------------------- clips


def test_clips_are_read_as_ms3_and_flow_follows_motion(release):
    shares = []
    for record in load_records("ms3", "train", release / "train", prefer_rebuilt=False):
        truth = read_objects(release / "train", record)
        assert truth.kind in COMPOSITE_KINDS and truth.masks.shape[2:] == (64, 64)
        flow = read_flow(record["flow_path"], clip_id=record["clip_id"], num_frames=5)
        assert flow.meta["source"] == "compressed video" and flow.flow.shape == (5, 5, 2, 12, 12)
        assert not truth.sounding[:, [role != "sounding" for role in truth.roles]].any()
        shares.append(truth.masks.mean())
    assert len(shares) == 10 and 0.01 < np.mean(shares) < 0.8


def test_same_settings_same_bytes_whatever_the_jobs(release, material, small, tmp_path):
    cutouts, photographs = material
    counts = {"train": 10, "val": 2, "test": 2}
    options = {"cutouts": cutouts, "photographs": photographs, "licence": "CC0-1.0", "only": ["silent-twin"]}
    make_release(tmp_path, jobs=2, progress=False, **options, **counts, **small)
    for path in (tmp_path / "silent-twin").rglob("*"):
        if path.is_file():
            again = release / path.relative_to(tmp_path)
            assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest(), path
    # Complete: nothing is written; other settings: refused.
    make_release(tmp_path, jobs=1, progress=False, **options, **counts, **small)
    with pytest.raises(SynthError, match="other settings"):
        make_release(tmp_path, progress=False, **options, **{**counts, "test": 3}, **small)


def test_command_line(release, material, capsys):
    cutouts, photographs = material
    counts = ["--train", "10", "--val", "2", "--test", "2", "--size", "64", "--flow-size", "12", "--series", "5"]
    where = ["--root", str(release), "--cutouts", str(cutouts), "--photographs", str(photographs)]
    assert main([*where, *counts, "--fps", "8", "--only", "plain"]) == 0
    assert "2 in plain" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="odd"):
        main([*where, *counts, "--only", "odd"])
    text = build_parser("x").format_help()
    assert all(kind in text for kind in COMPOSITE_KINDS)
