"""The comparison with published VCT: what it refuses, what it remembers, and the arithmetic of its tables."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
GIB = 2**30


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return lambda name: importlib.import_module(name)


@pytest.fixture
def report(module):
    return module("vct_comparison.report")


@pytest.fixture
def driver(module):
    return module("vct_comparison.driver")


@pytest.fixture
def clone(tmp_path, module):
    """Files of a clone, all empty."""
    folder = tmp_path / "VCT_AVS"
    for mark in module("vct_comparison.published").MARKS:
        (folder / mark).parent.mkdir(parents=True, exist_ok=True)
        (folder / mark).touch()
    return folder


def settings(**changes):
    values = {"device": "cpu", "threads": 1, "clips": 1, "backbone": "swin_b", "amp": False, "overrides": []}
    return values | {"vct_commit": "aaa", "our_commit": "bbb"} | changes


def measured(seconds, *, before=1.0, peak=3.0):
    return {"seconds": seconds, "calls": 1, "before_bytes": int(before * GIB), "peak_bytes": int(peak * GIB)}


def table_of(text, first):
    """Cells of the row that begins with ``first``."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    return next(row for row in rows if row[0] == first)


@pytest.fixture
def data():
    return {
        "settings": settings(),
        "machine": {"processor": "a processor"},
        "agreement": {"fscore": {"largest": 1e-7}},
        "runs": {
            "train_s4/no_pre_mask": {
                # Medians 12 and 2 s; added memory 9 and 3 GiB.
                "vct": [{"step": measured(s, before=1, peak=10)} for s in (10, 30, 12)],
                "ours": [{"step": measured(s, before=2, peak=5)} for s in (2.5, 2, 1)],
                "full": [{"step": measured(3.0)}],
            },
            "infer/no_pre_mask": {
                "vct": [{"whole": measured(6.0), "backbones": measured(3.0)}],
                "ours": [{"whole": measured(5.0), "backbones": measured(2.5)}],
            },
            "fscore": {"vct": [{"score": measured(0.05)}], "ours": []},
        },
    }


def test_medians_ratios_and_targets(report, data):
    text = report.markdown(data)
    # 12 / 2 = 6 times as fast is at least 5; 3 / 9 of the memory is just the third aimed at.
    row = table_of(text, "S4 training step, pre-mask encoder off")
    assert row[1:7] == ["12", "2", "6.00 x", "9.00 (10.00)", "3.00 (5.00)", "0.33"]
    assert row[7:] == ["5.0 x, 0.33 of the memory", "yes"]
    # 6 / 5 = 1.2 is less than 1.3.
    assert table_of(text, "inference, pre-mask encoder off")[3:] == [
        "1.20 x",
        "2.00 (3.00)",
        "2.00 (3.00)",
        "1.00",
        "1.3 x",
        "no",
    ]
    assert "median of 1-3 process(es)" in text


def test_the_whole_is_set_against_its_backbones(report, data):
    text = report.markdown(data)
    assert table_of(text, "VCT, inference, pre-mask encoder off")[1:] == ["6", "3", "2.00", "-"]
    # 5 / 2.5 = 2 is more than 1.4.
    assert table_of(text, "ours, inference, pre-mask encoder off")[1:] == ["5", "2.5", "2.00", "no"]


def test_the_full_model_is_told_apart(report, data):
    rows = [line for line in report.markdown(data).splitlines() if line.startswith("| S4")]
    cells = [cell.strip() for cell in rows[-1].strip("|").split("|")]
    # 3 s against the 2 s of ours as VCT.
    assert cells == ["S4 training step, pre-mask encoder off", "3", "1.50 x", "2.00 (3.00)"]


def test_what_was_not_measured_is_no_figure(report, data):
    assert table_of(report.markdown(data), "F-score")[1:] == [
        "0.05",
        "not run",
        "-",
        "2.00 (3.00)",
        "-",
        "-",
        "20.0 x",
        "-",
    ]
    data["runs"] = {}
    assert "| part" not in report.markdown(data)


def test_memory_that_cannot_be_read_is_left_out(report):
    unknown = {"seconds": 1.0, "calls": 1, "before_bytes": None, "peak_bytes": None}
    figure = report.figure([{"step": unknown}], "step")
    assert (figure.seconds, figure.added, figure.total) == (1.0, None, None)
    assert report.memory_share(figure, figure) is None


def test_on_a_gpu_the_targets_are_others(report, data):
    data["settings"] = settings(device="cuda")
    # 1.2 against 2 on a GPU.
    assert table_of(report.markdown(data), "inference, pre-mask encoder off")[7:] == ["2.0 x", "no"]


def test_a_try_out_meets_no_target(report, data):
    data["settings"] = settings(backbone="tiny")
    text = report.markdown(data)
    assert table_of(text, "S4 training step, pre-mask encoder off")[7:] == ["-", "-"]
    assert table_of(text, "ours, inference, pre-mask encoder off")[-1] == "-"


def test_a_checkout_that_changes_is_noticed(driver, tmp_path, monkeypatch):
    commits = iter(["ccc"])
    monkeypatch.setattr(driver, "commit_of", lambda folder: next(commits))
    comparison = driver.Comparison(
        vct=tmp_path, settings=driver.Settings(**settings(our_commit="bbb")), path=tmp_path / "a.json"
    )
    with pytest.raises(driver.ComparisonError, match="was at bbb when the comparison began"):
        comparison.run(["fscore"], pre_masks=[False], rounds=1)


def test_no_clone_and_wrong_folder(driver, tmp_path, clone):
    with pytest.raises(driver.ComparisonError, match="there is no folder.*clone https"):
        driver.check_clone(tmp_path / "nowhere")
    with pytest.raises(driver.ComparisonError, match="is not a clone of VCT_AVS: models/vct_model.py is missing"):
        driver.check_clone(tmp_path)
    assert driver.check_clone(clone) == clone.resolve()


def test_the_program_ends_with_a_sentence(tmp_path):
    command = [sys.executable, str(SCRIPTS / "compare_vct.py"), "--vct", str(tmp_path / "nowhere")]
    command += ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --vct: there is no folder") and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--repeat", "0"], "--repeat must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--device", "cpu", "--amp"], "--amp needs a GPU"),
    ],
)
def test_impossible_arguments(module, clone, tmp_path, extra, message):
    script = module("compare_vct")
    given = ["--vct", str(clone), "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    with pytest.raises(script.ComparisonError, match=message):
        script.compare(script.parse_args([*given, *extra]))


@pytest.fixture
def comparison(driver, tmp_path, monkeypatch):
    """A comparison whose jobs do nothing; ``asked`` holds them."""

    class Recorded(driver.Comparison):
        asked: list = []

        def _job(self, task, *, side, **job):
            self.asked.append((task, side))
            return {
                "prepare": {"fingerprint": 7.0},
                "check": {"largest": 1e-6, "mean": 1e-7},
                "facts": {"device": "d"},
                "infer": {"whole": measured(1.0), "backbones": measured(0.5), "fingerprint": 7.0},
                "fscore": {"score": measured(0.1), "outputs": [0.5]},
            }[task]

    monkeypatch.setattr(Recorded, "asked", [])
    monkeypatch.setattr(driver, "available_bytes", lambda: None)

    def make(**changes):
        return Recorded(
            vct=tmp_path, settings=driver.Settings(**settings(**changes)), path=tmp_path / "out" / "a.json"
        )

    return make


def test_sides_take_turns_and_finished_work_is_not_repeated(comparison):
    first = comparison()
    first.run(["fscore", "infer"], pre_masks=[False], rounds=2)
    turns = ["vct", "ours", "full"]
    assert first.asked == [
        ("facts", "vct"),
        *[("fscore", side) for side in ("vct", "ours", "vct", "ours")],
        ("prepare", "vct"),
        ("check", "ours"),
        *[("infer", side) for side in turns * 2],
    ]
    first.asked.clear()
    second = comparison()
    second.load()
    second.run(["fscore", "infer"], pre_masks=[False], rounds=2)
    assert second.asked == []
    third = comparison()
    third.load(forget=["fscore"])
    third.run(["fscore", "infer"], pre_masks=[False], rounds=1)
    assert third.asked == [("fscore", "vct"), ("fscore", "ours")]


def test_figures_of_other_conditions_are_not_mixed(comparison, driver):
    comparison().run(["fscore"], pre_masks=[False], rounds=1)
    with pytest.raises(driver.ComparisonError, match="threads was 1 and is 2"):
        comparison(threads=2).load()
    redone = comparison(threads=2)
    redone.load(forget=["fscore"])
    assert redone.data["runs"] == {} and redone.data["settings"]["threads"] == 2


def test_a_file_that_is_no_comparison(comparison, driver, tmp_path):
    (tmp_path / "out").mkdir()
    for content in ("not json", "[]", json.dumps({"settings": {}})):
        (tmp_path / "out" / "a.json").write_text(content)
        with pytest.raises(driver.ComparisonError, match="does not hold a comparison"):
            comparison().load()


def test_unequal_things_are_not_timed(comparison, driver, monkeypatch):
    unequal = comparison()
    found = {"check": {"largest": 0.1, "mean": 0.1}, "prepare": {"fingerprint": 7.0}, "facts": {}}
    monkeypatch.setattr(unequal, "_job", lambda task, **job: found[task])
    with pytest.raises(driver.ComparisonError, match="programs that disagree are not timed"):
        unequal.run(["infer"], pre_masks=[True], rounds=1)
    assert not any(unequal.data["runs"].values())


def test_what_does_not_fit_into_memory_is_left_out(comparison, driver, monkeypatch, capsys):
    monkeypatch.setattr(driver, "available_bytes", lambda: 5 * GIB)
    small = comparison()
    small.run(["infer", "train_ms3"], pre_masks=[False], rounds=1)
    assert ("train", "vct") not in small.asked and ("infer", "vct") in small.asked
    assert "train_ms3/no_pre_mask: skipped" in capsys.readouterr().out


def test_why_a_process_failed(driver):
    assert "ran out of memory" in driver._why("vct: train", -9, "")
    sentence = driver._why("vct: infer", 1, "Traceback\nModuleNotFoundError: No module named 'einops'\n")
    assert "No module named 'einops'; VCT needs it" in sentence and "Traceback" not in sentence


def test_both_sides_get_the_same_numbers_every_time(module):
    inputs = module("vct_comparison.inputs")
    first, second = (inputs.make_clips(2, annotated=1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert all((a[name] == b[name]).all() for name in ("images", "pre_masks", "log_mel", "flow", "masks"))
    assert (first[0]["images"] != first[1]["images"]).any()
    assert first[0]["masks"].shape == (1, 384, 384)
