"""The releases as people have them: real tables, odd csv files, archives' folders, names that lead elsewhere."""

import shutil
import unicodedata
from pathlib import Path

import pytest

from ska_vct.data.avsbench.csv_table import MAX_NAME_BYTES
from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.locate import find_release
from ska_vct.data.avsbench.subsets import AVSS, MS3, S4
from ska_vct.data.avsbench.tables import read_rows
from ska_vct.data.catalog import load_records
from ska_vct.data.registry import ReadOptions
from ska_vct.data.validation.check import check_records, check_release
from ska_vct.data.validation.clips import Needs

ROOT = Path(__file__).resolve().parents[3]
REAL = ROOT.parent / "shared" / "real"
FUZZ = ROOT.parent / "shared" / "cases" / "fuzz"
EXCERPTS = ROOT / "tests" / "data" / "excerpts"


def counts(table) -> dict[str, int]:
    return {split: len(rows) for split, rows in table.rows.items()}


def with_table(folder: Path, facts, source: Path) -> str:
    shutil.copy(source, folder / facts.table)
    return str(folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not on this machine")
@pytest.mark.parametrize(
    ("facts", "file"), [(S4, "s4_meta_data.csv"), (S4, "s4_meta_data_shuffled.csv"), (MS3, "ms3_meta_data.csv")]
)
def test_real_tables_have_the_published_splits(tmp_path, facts, file):
    table = read_rows(facts, with_table(tmp_path, facts, REAL / file))
    assert counts(table) == facts.split_sizes and not table.shared
    assert not any(table.repeated.values())
    assert ("header in another line" in table.notes) == ("shuffled" in file)
    names = [row["name"] for rows in table.rows.values() for row in rows]
    assert not {"name", "video_id"} & set(names)
    if facts is S4:
        assert sum(name.startswith("-") for name in names) == 247
        assert {row["category"] for rows in table.rows.values() for row in rows} == set(S4.categories)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not on this machine")
def test_real_test_clips_of_avss_are_as_many_as_the_facts_say():
    assert len((REAL / "avss_test_uids.txt").read_text().split()) == AVSS.split_sizes["test"] == 1554
    assert AVSS.split_sizes == {"train": 8498, "val": 1304, "test": 1554}


@pytest.mark.parametrize(
    ("facts", "file", "expected"),
    [
        (S4, "s4_meta_data.csv", {"train": 3, "val": 1, "test": 2}),
        (S4, "s4_meta_data_shuffled.csv", {"train": 2, "val": 1, "test": 1}),
        (MS3, "ms3_meta_data.csv", {"train": 2, "val": 2, "test": 2}),
    ],
)
def test_excerpts_of_the_real_tables(tmp_path, facts, file, expected):
    table = read_rows(facts, with_table(tmp_path, facts, EXCERPTS / file))
    assert counts(table) == expected
    assert set(table.rows["train"][0]) >= set(facts.columns)


ROWS = [("-AAAAAAAAAA", "train"), ("_BBBBBBBBBB_36", "val"), ("C-CCCCCCCCC_4", "test")]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("video_id,split\n{}", ""),
        ("name,split\n{}", ""),
        ("Split , VIDEO_ID\n{swapped}", ""),
        ("\ufeffvideo_id,split\n{}", "byte order mark"),
        ("video_id;split\n{semicolon}", "other separator"),
        ("video_id\tsplit\n{tab}", "other separator"),
        ("video_id,split\n{}\n,\n,\n\n", "blank rows"),
        ("video_id,split\r\n{}\r\nvideo_id,split\r\n", "header in another line"),
        ("{}\nvideo_id,split\n", "header in another line"),
        ("{}", "no header line"),
    ],
)
def test_tables_as_people_save_them(tmp_path, text, note):
    lines = {
        "swapped": "\n".join(f"{split},{name}" for name, split in ROWS),
        "semicolon": "\n".join(f"{name};{split}" for name, split in ROWS),
        "tab": "\n".join(f"{name}\t{split}" for name, split in ROWS),
    }
    plain = "\n".join(f"{name},{split}" for name, split in ROWS)
    (tmp_path / MS3.table).write_text(text.format(plain, **lines), encoding="utf-8", newline="")
    table = read_rows(MS3, str(tmp_path))
    assert {split: [row["name"] for row in rows] for split, rows in table.rows.items()} == {
        split: [name] for name, split in ROWS
    }
    assert set(table.notes) == ({note} if note else set())


BAD_NAMES = [
    "..",
    ".",
    "../../evil",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "\x00",
    "a\x07",
    "a" * (MAX_NAME_BYTES + 1),
    "",
]


@pytest.mark.parametrize("bad", BAD_NAMES)
@pytest.mark.parametrize("facts", [S4, MS3, AVSS], ids=lambda facts: facts.name)
def test_no_cell_leads_elsewhere(tmp_path, facts, bad):
    good = {"name": "x", "category": "cat_meowing", "label": "v1s", "split": "train", "classes": "dog", "vid": "v"}
    keys = [key for key in facts.columns if key in good]
    for wrong in {"name", "category", "label", "split"} & set(keys):
        row = good | {wrong: bad}
        header = ",".join(facts.columns[key][0] for key in keys)
        cells = ",".join('"' + row[key] + '"' for key in keys)
        (tmp_path / facts.table).write_text(f"{header}\n{cells}\n", encoding="utf-8")
        with pytest.raises(DatasetError) as error:
            read_rows(facts, str(tmp_path))
        message = str(error.value)
        assert "line 2" in message and len(message) < 400 and message.isprintable()


@pytest.mark.skipif(not FUZZ.is_dir(), reason="the cases are not on this machine")
@pytest.mark.parametrize("case", sorted(FUZZ.glob("table_*")) if FUZZ.is_dir() else [], ids=lambda case: case.name)
def test_damaged_tables_end_in_one_short_sentence(case):
    facts = {facts.name: facts for facts in (S4, MS3, AVSS)}[case.name.split("_")[1]]
    with pytest.raises(DatasetError) as error:
        read_rows(facts, str(case))
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def test_another_level_of_folders_is_looked_through(release):
    release.write_ms3(names=("a",))
    release.write_avss()
    expected = {name: [record["clip_id"] for record in load_records(name, "test", release.root)] for name in
                ("ms3", "avss")}  # fmt: skip
    for folder in (release.ms3 / "ms3_data", release.ms3, release.avss / "v1s", release.avss):
        nest(folder)
    for name in ("ms3", "avss"):
        records = load_records(name, "test", release.root)
        assert [record["clip_id"] for record in records] == expected[name]
        assert all(Path(path).is_file() for record in records for path in record["image_paths"])
    facts = MS3
    report = check_release(
        facts, find_release(facts, release.root), ReadOptions(root=str(release.root)), progress=False
    )
    assert report.errors == [] and not [f for f in report.findings if f.kind == "not in the table"]


def nest(folder: Path) -> None:
    """``ms3_data`` -> ``ms3_data/ms3_data``, as some archives unpack."""
    inner = folder.with_name("moved")
    folder.rename(inner)
    folder.mkdir()
    inner.rename(folder / folder.name)


def test_names_in_another_unicode_form_are_found(release):
    composed = unicodedata.normalize("NFC", "glöckchen")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    release.write_s4(names=(decomposed,), category=decomposed)
    table = release.s4 / "s4_meta_data.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(decomposed, composed), encoding="utf-8")
    (record,) = load_records("s4", "test", release.root)
    assert record["clip_id"] == f"test/{composed}/{composed}"
    paths = [*record["image_paths"], *record["mask_paths"], record["wav_path"]]
    assert all(Path(path).is_file() for path in paths)


def test_frames_of_224_pixels_where_384_were_meant(release):
    release.write_s4(names=("x",))
    for split in ("train", "val", "test"):
        for k in range(1, 6):
            stem = f"{split}/cat_meowing/x/x_{k}"
            release.image(release.s4 / f"s4_data_384/visual_frames_384/{stem}.png", (224, 224))
    report = check_release(S4, find_release(S4, release.root), ReadOptions(root=str(release.root)), progress=False)
    found = [finding for finding in report.findings if finding.kind == "frames smaller than meant"]
    assert len(found) == 3 and "224 x 224" in found[0].text and "promises 384 x 384" in found[0].text
    assert "s4_data_384/visual_frames_384/train" in found[0].text


def test_training_says_that_released_frames_are_enlarged(release):
    release.write_s4(names=("x",), splits=("train",))
    (record,) = load_records("s4", "train", release.root)
    for side, expected in ((384, 1), (32, 0)):
        findings, _ = check_records([record], Needs(input_side=side), seconds=10, progress=False)
        found = [finding.text for finding in findings if finding.kind == "frames smaller than meant"]
        assert len(found) == expected
        assert all("32 x 40" in text and "datasets/prepare.py --what frames" in text for text in found)
