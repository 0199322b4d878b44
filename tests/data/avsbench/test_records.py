import os
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.catalog import load_records, register_splits


def exist(paths) -> bool:
    return all(Path(path).is_file() for path in paths)


def test_s4_layout(release):
    release.write_s4()
    train = load_records("s4", "train", release.root)
    assert [record["clip_id"] for record in train] == ["train/cat_meowing/-dash_1", "train/cat_meowing/plain"]
    record = train[0]
    assert [Path(path).name for path in record["image_paths"]] == [f"-dash_1_{k}.png" for k in range(1, 6)]
    assert exist(record["image_paths"]) and exist([record["mask_paths"][0], record["wav_path"]])
    assert record["mask_paths"][1:] == [None] * 4
    assert (record["category"], record["label"], record["rebuilt"]) == ("cat_meowing", None, False)
    assert record["log_mel_paths"] == {"pickle": None, "npy": None} and record["video_path"] is None
    assert record["pre_mask_paths"] is None and record["sem_classes"] == ("cat_meowing",)
    assert record["flow_path"] == str(release.root / "flow/s4/train/cat_meowing/-dash_1.npz")
    test = load_records("s4", "test", release.root, flow_root="/elsewhere")
    assert exist(test[0]["mask_paths"]) and len(test[0]["mask_paths"]) == 5
    assert test[1]["flow_path"] == "/elsewhere/s4/test/cat_meowing/plain.npz"


def test_s4_finds_log_mel_and_video(release):
    release.write_s4(names=("x",), splits=("val",))
    data = release.s4 / "s4_data"
    for path in ("audio_log_mel/val/cat_meowing/x.pkl", "audio_log_mel/val/cat_meowing/x.npy",
                 "raw_videos/val/cat_meowing/x.mp4"):  # fmt: skip
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).touch()
    (record,) = load_records("s4", "val", release.root)
    assert exist([*record["log_mel_paths"].values(), record["video_path"]])


@pytest.mark.parametrize("infix", [".mp4", ""])
def test_ms3_layout(release, infix):
    release.write_ms3(infix=infix)
    records = load_records("ms3", "val", str(release.root))
    assert [record["clip_id"] for record in records] == ["val/val_one", "val/val_two"]
    assert Path(records[0]["image_paths"][4]).name == f"val_one{infix}_5.png"
    for record in records:
        assert exist(record["image_paths"]) and exist(record["mask_paths"]) and record["category"] is None
    train = load_records("ms3", "train", release.root)
    assert None not in train[0]["mask_paths"]


def test_avss_layout(release):
    release.write_avss()
    train = {record["label"]: record for record in load_records("avss", "train", release.root)}
    assert train["v1s"]["clip_id"] == "v1s/-a_train" and len(train["v1s"]["image_paths"]) == 5
    assert train["v1s"]["mask_paths"][1:] == [None] * 4 and exist(train["v1s"]["mask_paths"][:1])
    assert exist(train["v1m"]["mask_paths"]) and train["v1m"]["sem_classes"] == ("dog", "emergency-car")
    test = {record["label"]: record for record in load_records("avss", "test", release.root)}
    assert exist(test["v1s"]["mask_paths"]) and len(test["v1s"]["mask_paths"]) == 5
    # In the order of time, not of names (10 would come after 1).
    assert [Path(path).name for path in test["v2"]["image_paths"]] == [f"{k}.jpg" for k in range(10)]


def test_rebuilt_folders_are_preferred_where_they_are(release):
    release.write_s4(names=("x",))
    rebuilt = release.s4 / "s4_data_384"
    for split, size in (("train", 384), ("test", 224)):
        for k in range(1, 6):
            stem = f"{split}/cat_meowing/x/x_{k}"
            release.image(rebuilt / f"visual_frames_384/{stem}.png", (48, 48))
            release.mask(rebuilt / f"gt_masks_{size}/{stem}.png", (28, 28))
            release.image(rebuilt / f"pre_SAM_mask_384/{stem}_mask_color.png", (48, 48))
    for split, masks in (("train", "gt_masks_384"), ("test", "gt_masks_224")):
        (record,) = load_records("s4", split, release.root, pre_masks=True)
        assert record["rebuilt"]
        assert all("s4_data_384/visual_frames_384/" in path for path in record["image_paths"])
        assert masks in record["mask_paths"][0] and exist(record["pre_mask_paths"])
        assert exist([record["wav_path"]])
        (plain,) = load_records("s4", split, release.root, prefer_rebuilt=False)
        assert not plain["rebuilt"] and "s4_data/visual_frames/" in plain["image_paths"][0]
    # A split that was not rebuilt comes from the release.
    (val,) = load_records("s4", "val", release.root)
    assert not val["rebuilt"] and "s4_data/gt_masks/" in val["mask_paths"][0]


def test_rebuilt_ms3_and_avss(release):
    release.write_ms3(names=("x",))
    for k in range(1, 6):
        release.image(release.ms3 / f"ms3_data_384/visual_frames_384/val_x/val_x_{k}.png", (48, 48))
    (record,) = load_records("ms3", "val", release.root)
    assert record["rebuilt"] and Path(record["image_paths"][0]).name == "val_x_1.png"
    assert "ms3_data/gt_masks/" in record["mask_paths"][0]

    release.write_avss()
    folder = release.avss / "v2" / "c_val"
    for k in range(10):
        release.image(folder / f"processed_frames_384/{k}.jpg", (48, 48))
        release.label_map(folder / f"processed_labels_semantic/{k}.png", 3, (28, 28))
        release.image(release.avss / f"pre_SAM_mask/AVSBench_semantic/v2/c_val/frames/{k}_mask_color.png")
    (record,) = load_records("avss", "val", release.root, pre_masks=True)
    assert "processed_frames_384" in record["image_paths"][9]
    assert "processed_labels_semantic" in record["mask_paths"][9]
    assert record["pre_mask_paths"][9].endswith("c_val/frames/9_mask_color.png")
    (record,) = load_records("avss", "val", release.root, prefer_rebuilt=False)
    assert "/frames/" in record["image_paths"][0] and "/labels_semantic/" in record["mask_paths"][0]


def test_table_columns_in_any_order_or_without_header(release):
    release.write_s4(names=("x",))
    table = release.s4 / "s4_meta_data.csv"
    expected = load_records("s4", "test", release.root)
    table.write_text("\ufeffSplit, category ,name\ntest,cat_meowing,x\n", encoding="utf-8")
    assert load_records("s4", "test", release.root) == expected
    table.write_text("x,0,cat_meowing,test\n")
    assert load_records("s4", "test", release.root) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "category,split\na,test\n",
            "s4_meta_data.csv lacks the column name; its first line has 'category', 'split'",
        ),
        ("", "lacks the column"),
        ("name,category,split\nx,cat\n", "line 2 has 2 cells"),
        ("name,category,split\nx,cat_meowing,tset\n", "clip 'x' in split 'tset'; splits are train, val, test"),
        ("name,category,split\nx,cat_meowing,train\n", "lists no clip of split 'test' among its 1"),
    ],
)
def test_wrong_table(release, text, message):
    release.write_s4(names=("x",))
    (release.s4 / "s4_meta_data.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_records("s4", "test", release.root)


def test_missing_root_and_table(release):
    with pytest.raises(
        DatasetError, match="Folder .*Multi-sources does not exist, .*DATASETS.ROOT .*DETECTRON2_DATASETS"
    ):
        load_records("ms3", "train", release.root)
    with pytest.raises(DatasetError, match="There is no folder '.*nowhere', where .*DETECTRON2_DATASETS"):
        load_records("ms3", "train", release.root / "nowhere")
    (release.root / "synth" / "synth_truth").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"\(synthetic clips, in .*/synth, are read only if DATASETS.ROOT is"):
        load_records("ms3", "train", release.root)
    release.ms3.mkdir(parents=True)
    with pytest.raises(DatasetError, match="ms3_meta_data.csv cannot be read .No such file"):
        load_records("ms3", "train", release.root)
    with pytest.raises(DatasetError, match="Split 'dev' does not exist; choose one of train, val, test"):
        load_records("ms3", "dev", release.root)


def test_missing_files_are_reported_together(release):
    release.write_ms3(names=("a", "b", "c"))
    data = release.ms3 / "ms3_data"
    (data / "visual_frames/test_a/test_a.mp4_2.png").unlink()
    for k in range(1, 6):
        (data / f"gt_masks/test/test_c/test_c_{k}.png").unlink()
    (data / "audio_wav/test/test_c.wav").unlink()
    with pytest.raises(DatasetError) as error:
        load_records("ms3", "test", release.root)
    message = str(error.value)
    # 1 frame of clip a, 5 masks and the audio of clip c.
    assert "2 of 3 clips lack files, 7 in all" in message
    assert "visual_frames/test_a/test_a.mp4_2.png" in message and "..." in message and "\n" not in message


def test_a_clip_listed_twice_is_used_once_and_said(release, caplog):
    release.write_ms3(names=("a",))
    with (release.ms3 / "ms3_meta_data.csv").open("a") as table:
        table.write("test_a,test\n")
    assert len(load_records("ms3", "test", release.root)) == 1
    assert "lists clips more than once in split test; each is used once: 1 ('test_a')" in caplog.text


def test_listing_reads_each_folder_once_and_stats_no_file(release, monkeypatch):
    release.write_s4(names=[f"n{index}" for index in range(6)], splits=("test",))
    listed, stats = [], []
    real_list, real_stat = os.listdir, os.stat
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(os.fspath(path)) or real_list(path))
    monkeypatch.setattr(os, "stat", lambda path, **kw: stats.append(path) or real_stat(path, **kw))
    assert len(load_records("s4", "test", release.root)) == 6
    assert len(listed) == len(set(listed))
    # Per clip its frames and its masks; what is left are folders of the whole split.
    assert len(listed) <= 2 * 6 + 14
    assert not [path for path in stats if str(path).endswith((".png", ".wav"))]


def test_registration_is_lazy_and_can_be_repeated(release, tmp_path):
    names = register_splits("avss", "/nowhere")
    assert names == ["avsbench_avss_train", "avsbench_avss_val", "avsbench_avss_test"]
    with pytest.raises(DatasetError, match="There is no folder ./nowhere."):
        DatasetCatalog.get(names[0])
    release.write_avss()
    register_splits("avss", release.root, flow_root="/flow")
    assert [len(DatasetCatalog.get(name)) for name in names] == [2, 1, 2]
    assert DatasetCatalog.get(names[1])[0]["flow_path"] == "/flow/avss/v2/c_val.npz"
    metadata = MetadataCatalog.get(names[2])
    assert metadata.root == str(release.root) and metadata.split == "test" and metadata.evaluator_type == "avs"
    assert metadata.num_classes == 71 == len(metadata.classes) == len(metadata.colors)
    assert metadata.ignore_label == 255 and metadata.colors[70] == [32, 128, 128]


def test_subset_facts():
    # 11,356 clips in AVSS, 23 categories in S4 (docs/data.md).
    assert sum(SUBSETS["avss"].split_sizes.values()) == 11356 and len(set(SUBSETS["avss"].classes)) == 71
    assert SUBSETS["s4"].annotated_frames("train") == range(1) and SUBSETS["s4"].annotated_frames("val") == range(
        5
    )
    assert SUBSETS["ms3"].annotated_frames("train") == range(5)
    assert [SUBSETS["avss"].annotated_frames("train", label) for label in ("v1s", "v1m", "v2")] == [
        range(1), range(5), range(10),
    ]  # fmt: skip


def test_pre_masks_in_combos_and_vcts_folders(release):
    release.write_ms3(names=("x",), splits=("test",))
    both_ways = r"pre_SAM_mask_384/test_x/.*make_premasks.py --root .* --subset ms3 .*PRE_MASK.ENABLED False"
    with pytest.raises(DatasetError, match=both_ways):
        load_records("ms3", "test", release.root, pre_masks=True)
    for k in range(1, 6):
        release.image(release.ms3 / f"ms3_data/pre_SAM_mask/test_x/test_x.mp4_{k}_mask_color.png")
    (record,) = load_records("ms3", "test", release.root, pre_masks=True)
    assert exist(record["pre_mask_paths"]) and "/ms3_data/pre_SAM_mask/" in record["pre_mask_paths"][0]
    for k in range(1, 6):
        release.image(release.ms3 / f"ms3_data_384/pre_SAM_mask_384/test_x/test_x_{k}_mask_color.png")
    (record,) = load_records("ms3", "test", release.root, pre_masks=True)
    assert exist(record["pre_mask_paths"]) and "/pre_SAM_mask_384/" in record["pre_mask_paths"][0]
