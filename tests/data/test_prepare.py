"""Prepared files equal what is computed on the fly, runs resume, releases stay untouched; segment images."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ska_vct.config import get_cfg
from ska_vct.data import prepare
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.locate import find_release
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.facts import SPLITS
from ska_vct.data.images import pre_masks as segments
from ska_vct.data.images.io import read_binary_mask, read_image, read_label_map, write_png
from ska_vct.data.registry import ReadOptions, get_facts
from ska_vct.data.validation.check import check_release
from tests.data.miniature import make_original, name_of, rows_of, write_rows


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """All three subsets; the clips of S4 and MS3 are AVSS's v1s and v1m, as in the real releases."""
    root = tmp_path_factory.mktemp("all")
    for subset in ("s4", "ms3"):
        make_original(root, subset, train=1, val=1, test=1)
    make_original(root, "avss", train=4, val=4, test=4)
    rows = [row | {"vid": f"none_{index}"} for index, row in enumerate(rows_of(root, "avss"))]
    for subset, label in (("s4", "v1s"), ("ms3", "v1m")):
        for split in SPLITS:
            spare = next(row for row in rows if row["split"] == split and row["label"] == label)
            (row,) = [row for row in rows_of(root, subset) if row["split"] == split]
            spare["vid"] = name_of(row)
            show_the_same(root, subset, split, spare)
    write_rows(root, "avss", rows)
    return root


def show_the_same(root: Path, subset: str, split: str, twin: dict) -> None:
    """Make the released frames of a split's clip from those of an AVSS clip, as AVSBench's authors did."""
    (record,) = load_records(subset, split, root)
    for k, path in enumerate(record["image_paths"]):
        source = read_image(root / "AVSBench_semantic" / twin["label"] / twin["uid"] / f"frames/{k}.jpg")
        write_png(path, cv2.resize(source, (32, 32), interpolation=cv2.INTER_AREA))


@pytest.fixture
def root(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "root"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def object_frames(root: Path, subset: str, splits=SPLITS) -> prepare.Outcome:
    facts = get_facts(subset)
    base, semantic = (find_release(get_facts(name), root) for name in (subset, "avss"))
    target = f"{root}/prepared/{facts.folder}"
    return prepare.prepare_frames(facts, base, semantic, target, splits, jobs=2, progress=False)


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_object_frames_come_from_avss(root, subset):
    before = files(root)
    prepare.check_target(root, root / "prepared")
    outcome = object_frames(root, subset)
    assert (outcome.written, outcome.present, outcome.failed) == (3, 0, [])
    for split in SPLITS:
        (record,) = load_records(subset, split, root)
        twin = twin_of(root, record)
        assert record["rebuilt"] and "/prepared/" in record["image_paths"][0]
        source = root / "AVSBench_semantic" / twin["label"] / twin["uid"]
        for k, path in enumerate(record["image_paths"]):
            assert read_image(path).shape == (384, 384, 3)
            # Shrunk to a few cells, both show the same image; the nearest other frame of the clip does not.
            small, large = (cells(read_image(p)) for p in (source / f"frames/{k}.jpg", path))
            assert np.abs(small - large).mean() < 3
        side = 384 if split == "train" else 224
        for k, path in enumerate(record["mask_paths"]):
            if path is not None:
                mask = read_binary_mask(path)
                labels = read_label_map(source / f"labels_semantic/{k}.png", 71)
                assert mask.shape == (side, side)
                assert mask.mean() == pytest.approx((labels > 0).mean(), abs=0.01)
    assert {name: data for name, data in files(root).items() if not name.startswith("prepared")} == before
    assert object_frames(root, subset).present == 3


def twin_of(root: Path, record: dict) -> dict:
    """AVSS's row of a clip of S4 or MS3, both of which have a clip of this name here."""
    label = {"s4": "v1s", "ms3": "v1m"}[record["subset"]]
    wanted = {"vid": record["name"], "split": record["split"], "label": label}
    (found,) = [row for row in rows_of(root, "avss") if wanted.items() <= row.items()]
    return found


def cells(picture: np.ndarray) -> np.ndarray:
    side = picture.shape[0] // 8
    return picture[: 8 * side, : 8 * side].reshape(8, side, 8, side, 3).mean((1, 3))


def test_an_interrupted_run_goes_on(root):
    object_frames(root, "ms3", ["train"])
    before = {path: path.stat().st_mtime_ns for path in (root / "prepared").rglob("*.png")}
    victim = max(before)
    victim.unlink()
    (victim.parent / f".{victim.stem}.1.part.png").write_bytes(b"half")
    outcome = object_frames(root, "ms3")
    assert (outcome.written, outcome.present) == (3, 0) and victim.is_file()
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != victim)
    assert object_frames(root, "ms3").present == 3


def test_avss_frames_and_log_mel_equal_those_made_on_the_fly(root):
    cfg = get_cfg()
    cfg.INPUT.SIZE = (384, 384)
    cfg.INPUT.FLOW.MISSING = "zero"
    mapper = ClipMapper(cfg, is_train=False)
    plain = load_records("avss", "test", root)
    want = [mapper(record) for record in plain]
    target = f"{root}/prepared/AVSBench_semantic"
    facts = get_facts("avss")
    base = find_release(facts, root)
    assert prepare.prepare_frames(facts, base, base, target, ["val", "test"], progress=False).written == 8
    assert prepare.prepare_log_mel(plain, target, progress=False).written == 4
    records = load_records("avss", "test", root)
    assert all("/prepared/" in record["image_paths"][0] for record in records)
    assert all("/prepared/" in record["mask_paths"][0] for record in records)
    assert all(record["log_mel_paths"]["npy"] for record in records)
    for record, clip in zip(records, want, strict=True):
        got = mapper(record)
        for key in ("images", "masks", "log_mel", "mask_valid"):
            assert (got[key] == clip[key]).all(), key
    assert prepare.prepare_log_mel(records, target, progress=False).present == 4
    (train, *_) = load_records("avss", "train", root)
    assert not train["rebuilt"]
    prepare.prepare_frames(facts, base, base, target, ["train"], progress=False)
    (train, *_) = load_records("avss", "train", root)
    assert "/prepared/" in train["image_paths"][0] and "labels_semantic_384" in train["mask_paths"][0]
    assert len(load_records("avss", "train", root, prefer_rebuilt=False)) == 4


def test_published_flow_becomes_small_files(root):
    shutil.rmtree(root / "flow")
    (record,) = load_records("ms3", "test", root)
    folder = Path(record["flow_path"].removesuffix(".npz"))
    folder.mkdir(parents=True)
    fields = np.random.default_rng(0).random((5, 48, 64), np.float32)
    fields[0] = 0
    for index, field in enumerate(fields):
        np.save(folder / f"flow_{index:04d}.npy", field)
    out = str(root / "prepared/flow")
    assert prepare.prepare_flow([record], out, side=32, progress=False).written == 1
    (small,) = load_records("ms3", "test", root, flow_root=out)
    stored = prepare.read_flow(small["flow_path"], clip_id=record["clip_id"], num_frames=5)
    assert stored.flow.shape == (5, 1, 2, 24, 32) and stored.meta["units"] == "share of the frame maximum"
    assert (stored.meta["height"], stored.meta["width"]) == (48, 64)
    blocks = fields.reshape(5, 24, 2, 32, 2).mean((2, 4))
    np.testing.assert_allclose(stored.flow[:, 0, 0], blocks, atol=1e-3)
    assert prepare.prepare_flow([record], out, side=32, progress=False).present == 1


def test_what_cannot_be_made_is_named_and_the_rest_is_made(root):
    rows = [row | {"vid": "gone"} if row["split"] == "val" else row for row in rows_of(root, "avss")]
    write_rows(root, "avss", rows)
    (test_clip,) = load_records("ms3", "test", root)
    twin = twin_of(root, test_clip)
    (root / "AVSBench_semantic" / twin["label"] / twin["uid"] / "frames/3.jpg").unlink()
    outcome = object_frames(root, "ms3")
    # The clip of another name is found by its images.
    assert outcome.written == 2 and len(outcome.failed) == 1
    assert "frames/3.jpg cannot be read" in outcome.failed[0]


def test_clips_are_matched_by_what_they_show(root):
    """Two names of AVSS are exchanged, a third shows another clip that nothing else shows."""
    rows = rows_of(root, "avss")
    names = {row["split"]: row for row in rows if not row["vid"].startswith("none") and row["label"] == "v1m"}
    names["train"]["vid"], names["val"]["vid"] = names["val"]["vid"], names["train"]["vid"]
    write_rows(root, "avss", rows)
    (record,) = load_records("ms3", "test", root)
    for path in record["image_paths"]:
        write_png(path, 255 - read_image(path))
    outcome = object_frames(root, "ms3")
    assert outcome.written == 2 and len(outcome.failed) == 1
    assert f"'{record['name']}'" in outcome.failed[0] and "shows other images" in outcome.failed[0]
    (train,) = load_records("ms3", "train", root)
    released = load_records("ms3", "train", root, prefer_rebuilt=False)[0]
    assert train["rebuilt"]
    for small, large in zip(released["image_paths"], train["image_paths"], strict=True):
        assert np.abs(cells(read_image(small)) - cells(read_image(large))).mean() < 5


def test_a_clip_without_its_twin_is_named(root):
    rows = [row for row in rows_of(root, "avss") if row["split"] != "val" or row["label"] != "v1m"]
    write_rows(root, "avss", rows)
    outcome = object_frames(root, "ms3")
    assert outcome.written == 2
    assert "is not in AVSS's table, and no clip of AVSS's v1m shows the same images" in outcome.failed[0]


# --- what is prepared in part ---


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_what_is_prepared_in_part_is_read_clip_by_clip(root, subset, caplog):
    prepare.check_target(root, root / "prepared")
    object_frames(root, subset, ["val"])
    assert [load_records(subset, split, root)[0]["rebuilt"] for split in SPLITS] == [False, True, False]
    # A run that was interrupted within a clip: its last frame is missing.
    (record,) = load_records(subset, "val", root)
    Path(record["image_paths"][-1]).unlink()
    (record,) = load_records(subset, "val", root)
    assert not record["rebuilt"] and all("/prepared/" not in path for path in record["image_paths"])
    assert all("/prepared/" not in path for path in record["mask_paths"])
    object_frames(root, subset, ["val"])
    # Masks alone may come from the release: they match frames of any size.
    (record,) = load_records(subset, "val", root)
    Path(record["mask_paths"][-1]).unlink()
    (record,) = load_records(subset, "val", root)
    assert record["rebuilt"] and all("/prepared/" not in path for path in record["mask_paths"])
    assert "larger frames" not in caplog.text


def test_a_split_that_is_prepared_in_part_is_said(root, caplog):
    facts = get_facts("avss")
    base, out = find_release(facts, root), root / "prepared"
    prepare.check_target(root, out)
    prepare.prepare_frames(facts, base, base, f"{out}/{facts.folder}", ["test"], progress=False)
    records = load_records("avss", "test", root)
    assert "of 4 clips" not in caplog.text
    shutil.rmtree(Path(records[1]["image_paths"][0]).parent)
    Path(records[2]["image_paths"][3]).write_bytes(b"half")
    report = check_release(facts, base, ReadOptions(root=str(root)), progress=False)
    found = {finding.kind: finding.text for finding in report.findings}
    assert "of 4 clips, 3 rebuilt 384 and 1 original are used" in found["partly prepared"]
    assert "prepare.py --root" in found["partly prepared"] and "again" in found["partly prepared"]
    assert found["unreadable frame"].endswith("run datasets/prepare.py again, which replaces it.")
    load_records("avss", "test", root)
    assert "of 4 clips, 3 rebuilt 384 and 1 original are used" in caplog.text
    # And the same command repairs both.
    outcome = prepare.prepare_frames(facts, base, base, f"{out}/{facts.folder}", ["test"], progress=False)
    assert (outcome.written, outcome.present) == (2, 2)
    report = check_release(facts, base, ReadOptions(root=str(root)), progress=False)
    assert report.states["test"] == {"rebuilt 384": 4} and report.errors == []


def test_files_missing_from_both_places_are_to_be_prepared_or_unpacked(root):
    prepare.check_target(root, root / "prepared")
    object_frames(root, "ms3", ["test"])
    (record,) = load_records("ms3", "test", root)
    released = load_records("ms3", "test", root, prefer_rebuilt=False)[0]
    shutil.rmtree(Path(released["image_paths"][0]).parent)
    Path(record["image_paths"][0]).unlink()
    report = check_release(
        get_facts("ms3"), find_release(get_facts("ms3"), root), ReadOptions(root=str(root)), progress=False
    )
    texts = [finding.text for finding in report.errors]
    assert len(texts) == 2
    assert all("run datasets/prepare.py again, or leave the clip out" in text for text in texts)


def test_damaged_log_mels_and_flow_are_made_again(root):
    (record,) = load_records("ms3", "test", root)
    target = f"{root}/prepared/AVSBench_object/Multi-sources"
    assert prepare.prepare_log_mel([record], target, progress=False).written == 1
    (record,) = load_records("ms3", "test", root)
    Path(record["log_mel_paths"]["npy"]).write_bytes(b"half")
    assert prepare.prepare_log_mel([record], target, progress=False).written == 1
    assert prepare.prepare_log_mel([record], target, progress=False).present == 1


def test_flow_is_found_in_either_folder(root):
    (record,) = load_records("ms3", "test", root)
    path = Path(record["flow_path"])
    moved = root / "prepared/flow" / path.relative_to(root / "flow")
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    published = Path(str(path).removesuffix(".npz"))
    published.mkdir()
    assert load_records("ms3", "test", root)[0]["flow_path"] == str(moved)
    moved.unlink()
    assert load_records("ms3", "test", root)[0]["flow_path"] == str(path)
    assert load_records("ms3", "test", root, flow_root=root / "prepared/flow")[0]["flow_path"] == str(path)
    # Another folder is taken at its word.
    assert load_records("ms3", "test", root, flow_root=root / "mine")[0]["flow_path"].startswith(f"{root}/mine")


def test_releases_are_not_written_into_unasked(root):
    with pytest.raises(DatasetError, match="is inside the release .*--into-release"):
        prepare.check_target(root, root / "AVSBench_semantic/prepared")
    with pytest.raises(DatasetError, match="is inside the release"):
        prepare.check_target(
            root / "AVSBench_object/Multi-sources", root / "AVSBench_object/Multi-sources/prepared"
        )


# --- segment images ---


def test_small_segments_lie_on_large_ones_in_seeded_colours():
    large, small = np.zeros((2, 8, 10), bool)
    large[1:7, 1:9] = True
    small[3:5, 3:5] = True
    picture = segments.draw_segments([small, large], (8, 10), seed=4)
    assert (picture[~large] == 0).all() and (picture[large] > 0).all()
    assert len(np.unique(picture[large & ~small], axis=0)) == 1 == len(np.unique(picture[small], axis=0))
    assert (picture[3, 3] != picture[1, 1]).any()
    assert (picture == segments.draw_segments([large, small], (8, 10), seed=4)).all()
    assert (picture != segments.draw_segments([large, small], (8, 10), seed=5)).any()
    assert (segments.draw_segments([], (8, 10)) == 0).all()
    with pytest.raises(ValueError, match="must agree"):
        segments.draw_segments([large], (4, 4))


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_segment_pictures_lie_where_the_reader_looks(root, tmp_path, subset):
    records = load_records(subset, "test", root)
    halves = lambda picture: [np.arange(picture.size // 3).reshape(picture.shape[:2]) % 2 == 0]  # noqa: E731
    total = sum(len(record["image_paths"]) for record in records)
    assert segments.make_pre_masks(records, halves, tmp_path / "out", progress=False) == (total, 0)
    assert segments.make_pre_masks(records, halves, tmp_path / "out", progress=False) == (0, total)
    found = load_records(subset, "test", root, pre_masks=True, pre_mask_root=tmp_path / "out")
    for record in found:
        assert all(read_image(path).any() for path in record["pre_mask_paths"])


def test_without_transformers_or_weights_the_way_out_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DatasetError, match=r"\[premasks\].*INPUT.PRE_MASK.ROOT.*MODEL.PRE_MASK.ENABLED False"):
        segments.load_segmenter(str(tmp_path))


def test_a_real_segment_anything_model_finds_segments(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "output_channels": 16,
             "mlp_dim": 16, "image_size": 64, "global_attn_indexes": [1], "num_pos_feats": 8}  # fmt: skip
    config = transformers.SamConfig(
        vision_config=sizes,
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "image_embedding_size": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 16,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    transformers.SamModel(config).save_pretrained(tmp_path / "sam")
    transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
    ).save_pretrained(tmp_path / "sam")
    segment = segments.load_segmenter(str(tmp_path / "sam"), points_per_batch=256)
    picture = np.random.default_rng(0).integers(0, 255, (40, 48, 3)).astype(np.uint8)
    # Random weights may find nothing; what they find must fit the image.
    assert segments.draw_segments(segment(picture), (40, 48)).shape == (40, 48, 3)
    with pytest.raises(
        DatasetError, match="No segment-anything model could be loaded from .*facebook/sam-vit-base"
    ):
        segments.load_segmenter(str(tmp_path / "nothing"))
