"""Run lists, run order and folders with stub programs; tables checked against hand-worked scores."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ska_vct.experiments.ablation import runner as ablation
from ska_vct.experiments.ablation.bootstrap import ClipScore, interval
from ska_vct.experiments.ablation.plan import AblationError, changed_keys, config_keys, plan_runs, read_ablation
from ska_vct.experiments.ablation.report import format_spread, write_tables
from ska_vct.experiments.ablation.run import is_done
from ska_vct.experiments.statistics import Spread, paired_differences, spread

ROOT = Path(__file__).resolve().parents[3]
QUICKSTART = ROOT / "configs" / "synth" / "quickstart.yaml"


@pytest.fixture
def write_list(tmp_path):
    """Returns a function that writes a list of rows a and b (baseline a); keyword arguments override its keys."""
    for name in ("train", "plain"):
        (tmp_path / "benchmark" / name).mkdir(parents=True)

    def write(**changes) -> Path:
        content = {
            "benchmark": str(tmp_path / "benchmark"),
            "seeds": [1, 2],
            "baseline": "a",
            "splits": ["plain"],
            "rows": [
                {
                    "name": name,
                    "label": name.upper(),
                    "config": str(QUICKSTART),
                    "overrides": ["TEST.BATCH_SIZE", k],
                }
                for k, name in enumerate("ab", start=1)
            ],
        }
        path = tmp_path / "few.yaml"
        path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
        return path

    return write


# Stub of a run that writes its result files: M_J is 80 + seed, and 5 less in row b.
STUB = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
plan = json.loads((folder / "run.json").read_text())
if plan["row"] == FAILS:
    sys.exit("error: no such thing")
with open(TRACE, "a") as file:
    file.write(f"{plan['row']}{plan['seed']} ")
(folder / "train").mkdir()
(folder / "train" / "model_final.pth").touch()
training = {"finished": True, "seconds": 60.0, "iterations": 10, "parameters": 2e6, "losses": {}, "sessions": []}
(folder / "training.json").write_text(json.dumps(training))
true = {"M_J": 80.0 + plan["seed"] - 5 * (plan["row"] == "b"), "M_F": 90.0, "boundary_F": None}
split = {"num_clips": 3, "conditions": {"true": true}, "drop": None, "notes": []}
(folder / "robustness.json").write_text(json.dumps({"convention": "combo", "splits": {"plain": split}}))
(folder / "scored.json").write_text(json.dumps(plan["scoring"]))
"""


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Returns a function that replaces runs with stubs and returns the file to which they append their names."""
    trace = tmp_path / "trace"

    def use(fails: str | None = None) -> Path:
        code = STUB.replace("FAILS", repr(fails)).replace("TRACE", repr(str(trace)))
        monkeypatch.setattr(
            ablation, "run_command", lambda folder: [sys.executable, "-S", "-c", code, str(folder)]
        )
        return trace

    return use


def test_all_rows_of_the_first_seed_come_first(write_list):
    rows = [{"name": name, "label": name, "config": str(QUICKSTART)} for name in "abc"]
    rows[1]["seeds"] = [7]
    plan = read_ablation(write_list(rows=rows))
    runs = plan_runs(plan, "out")
    assert [run.name for run in runs] == ["a seed 1", "b seed 7", "c seed 1", "a seed 2", "c seed 2"]
    assert runs[1].folder == Path("out/b/seed7")
    assert [run.name for run in plan_runs(plan, "out", rows=["b", "a"], seeds=[3])] == ["a seed 3", "b seed 3"]
    # Parts cover every run exactly once.
    parts = [run.name for k in (1, 2) for run in plan_runs(plan, "out", part=(k, 2))]
    assert sorted(parts) == sorted(run.name for run in runs) and len(plan_runs(plan, "out", part=(2, 2))) == 2
    with pytest.raises(AblationError, match="no row x; the list has a, b, c"):
        plan_runs(plan, "out", rows=["x"])
    with pytest.raises(AblationError, match="Part 3/2 does not exist"):
        plan_runs(plan, "out", part=(3, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "distinct non-negative integers"),
        ({"seeds": []}, "distinct non-negative integers"),
        ({"baseline": "c"}, "baseline 'c' is not a row; rows are a, b"),
        ({"rows": []}, "at least one entry"),
        ({"base": "a"}, "unknown base"),
        ({"negatives_on": ["noisy"]}, "negatives_on names noisy"),
        ({"delays_on": ["noisy"]}, "delays_on names noisy"),
        ({"rows_from": "other.yaml"}, "either 'rows' or 'rows_from'"),
        ({"variants": ["low"]}, "'variants' must map names"),
        ({"variants": {"low": ["SEED"]}}, "no partner"),
        ({"overrides": "SEED 1"}, "list of KEY, VALUE"),
        ({"rows": [{"name": "a", "label": "A"}]}, "row 1: config is missing"),
        ({"rows": [{"name": "../a", "label": "A", "config": str(QUICKSTART)}]}, "cannot be a folder"),
        ({"rows": [{"name": "a", "label": "A", "config": "none.yaml"}]}, "no config 'none.yaml'"),
        ({"rows": [{"name": "a", "label": "A", "config": str(QUICKSTART), "overrides": ["SEED"]}]}, "no partner"),
        ({"rows": [{"name": "a", "label": "A", "config": str(QUICKSTART)}] * 2}, "several rows named a"),
    ],
)
def test_an_invalid_list_raises_one_sentence(write_list, changes, message):
    with pytest.raises(AblationError, match=message):
        read_ablation(write_list(**changes))


def test_rows_of_another_list_once_per_variant(write_list, tmp_path):
    write_list().rename(tmp_path / "rows.yaml")
    changes = {
        "rows_from": "rows.yaml",
        "baseline": "a.low",
        "splits": [],
        "overrides": ["SOLVER.MAX_ITER", 4],
        "variants": {"low": ["SOLVER.BASE_LR", 0.1], "high": ["SOLVER.BASE_LR", 0.2]},
    }
    path = write_list(**changes)
    content = yaml.safe_load(path.read_text())
    del content["rows"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    rows = read_ablation(path).rows
    assert [row.name for row in rows] == ["a.low", "a.high", "b.low", "b.high"]
    assert rows[3].label == "B; high"
    assert rows[3].overrides == ("TEST.BATCH_SIZE", "2", "SOLVER.MAX_ITER", "4", "SOLVER.BASE_LR", "0.2")
    keys = config_keys(rows[3])
    assert (keys["TEST.BATCH_SIZE"], keys["SOLVER.MAX_ITER"], keys["SOLVER.BASE_LR"]) == (2, 4, 0.2)


def test_bootstrap_intervals_hold_the_mean_and_follow_the_spread_of_seeds_and_clips():
    score = ClipScore("plain", "true", "right_frames", "wrong_frames", "silent_frames")

    def run(right: list[int]) -> dict:
        rows = [{"right_frames": str(k), "wrong_frames": "0", "silent_frames": "5"} for k in right]
        return {("plain", "true"): rows}

    same = run([5, 0] * 50)
    low, high = interval([same, same], score)
    # The mean of 100 clips that are 0 or 100 percent has a standard error of 5.
    assert low == pytest.approx(50 - 1.96 * 5, abs=1.5) and high == pytest.approx(50 + 1.96 * 5, abs=1.5)
    assert interval([run([3] * 100)] * 2, score) == (60.0, 60.0)
    # Two seeds, 0 and 100 percent in all clips: a draw of seeds has 0, 50 or 100.
    assert interval([run([0] * 100), run([5] * 100)], score) == (0.0, 100.0)
    assert interval([run([5]), {}], score) is None and interval([], score) is None


def test_runs_execute_once_and_are_tabulated(write_list, stub, tmp_path, capsys):
    trace, out = stub(), tmp_path / "out"
    lines = []
    assert ablation.run_ablation(write_list(), out, threads=1, say=lines.append)
    assert trace.read_text() == "a1 b1 a2 b2 "
    assert ablation.run_ablation(write_list(), out, export_to=tmp_path / "docs", threads=1, say=lines.append)
    assert trace.read_text() == "a1 b1 a2 b2 " and lines.count("b seed 2: already done") == 1
    text = (out / "few.md").read_text()
    # Row a: 81 and 82, mean 81.5, sd sqrt(2 * 0.5 ** 2 / 1) = 0.707; b is 5 less with either seed, so its sd is 0.
    assert "| A     | 2   | 81.5 ± 0.7  | 90.0 ± 0.0  |" in text
    assert (
        "| B     | 2   | -5.0 ± 0.0  |" in text and "Difference to 'A', paired by seed; convention `combo`" in text
    )
    assert "| A     | 2         | 2.000            | 10           | 1 min 00 s      |" in text
    rows = list(csv.DictReader((tmp_path / "docs" / "few.csv").open()))
    assert rows[0] == {
        "row": "a", "score": "plain/true/M_J", "convention": "combo", "n": "2",
        "mean": "81.5000", "sd": "0.7071", "seed1": "81.0000", "seed2": "82.0000",
    }  # fmt: skip
    summary = json.loads((tmp_path / "docs" / "few_summary.json").read_text())
    assert summary["rows"][1]["runs"][0]["keys"] == {"TEST.BATCH_SIZE": 2}
    assert summary["rows"][1]["runs"][0]["scores"] == {"plain/true/M_J": 76.0, "plain/true/M_F": 90.0}
    assert summary["common_keys"]["SOLVER.MAX_ITER"] == 900 and "SEED" not in summary["common_keys"]
    assert (tmp_path / "docs" / "few.png").stat().st_size > 1000


def test_clips_with_several_sounding_objects_are_counted_apart(write_list, stub, tmp_path):
    stub()
    path, out, truth = write_list(), tmp_path / "out", tmp_path / "benchmark" / "plain" / "synth_truth"
    assert ablation.run_ablation(path, out, threads=1, say=str)
    truth.mkdir()
    roles = {"a": "sounding", "b": "twin sounding", "c": "sounding sounding"}
    (truth / "ms3_clips.csv").write_text("clip_id,roles\n" + "".join(f"{k},{v}\n" for k, v in roles.items()))
    per_clip = "split,condition,clip_id,M_J\nplain,true,a,80\nplain,true,b,90\nplain,true,c,20\nplain,noise,a,0\n"
    (out / "a" / "seed1" / "per_clip.csv").write_text(per_clip)
    assert ablation.run_ablation(path, out, threads=1, table_only=True, say=str)
    text = (out / "few.md").read_text()
    assert "## M_J of clips with one and with several sounding objects" in text
    assert "| A     | 1   | 85.0         | 20.0             |" in text


def test_a_failing_run_is_reported_and_retried_next_time(write_list, stub, tmp_path):
    trace, lines = stub(fails="a"), []
    assert not ablation.run_ablation(write_list(), tmp_path / "out", threads=1, say=lines.append)
    assert "    | error: no such thing" in lines and "a seed 1, a seed 2" in lines[-1]
    assert trace.read_text() == "b1 b2 "
    # Without the baseline no differences are shown, but the row still appears in the table of costs.
    assert "Difference" not in (tmp_path / "out" / "few.md").read_text()
    stub()
    assert ablation.run_ablation(write_list(), tmp_path / "out", threads=1, say=lines.append)
    assert trace.read_text() == "b1 b2 a1 a2 "


def test_a_run_of_another_config_is_refused_or_moved_aside(write_list, stub, tmp_path):
    trace, out = stub(), tmp_path / "out"
    ablation.run_ablation(write_list(), out, rows=["a"], seeds=[1], threads=1, say=[].append)
    changed = {"seeds": [1], "overrides": ["SOLVER.MAX_ITER", "7"], "threads": 1, "say": [].append}
    with pytest.raises(AblationError, match=r"out/a/seed1 with SOLVER\.MAX_ITER 900, now 7; .*--redo"):
        ablation.run_ablation(write_list(), out, **changed)
    assert not (out / "b").exists()
    ablation.run_ablation(write_list(), out, redo=True, **changed)
    assert trace.read_text() == "a1 a1 b1 " and len(list((out / "a").glob("seed1.old.*"))) == 1
    # A second seed with the first config would mix two configs in a row: the table says so.
    ablation.run_ablation(write_list(), out, rows=["a"], seeds=[2], threads=1, say=[].append)
    text = (out / "few.md").read_text()
    assert "**The seeds of row 'A' differ in more than the seed: SOLVER.MAX_ITER.**" in text


def test_changed_scoring_settings_score_again(write_list, stub, tmp_path):
    trace, out = stub(), tmp_path / "out"
    ablation.run_ablation(write_list(), out, rows=["a"], seeds=[1], threads=1, say=[].append)
    again = read_ablation(write_list(negatives_on=["plain"]))
    assert is_done(out / "a" / "seed1")
    ablation.prepare_runs(again, plan_runs(again, out, rows=["a"], seeds=[1]))
    assert not is_done(out / "a" / "seed1")
    assert "81.0" not in write_tables(again, out) and trace.read_text() == "a1 "


def test_missing_clips_are_named_before_anything_runs(write_list, stub, tmp_path):
    stub()
    with pytest.raises(AblationError, match="no folder '.*silent-twin'"):
        ablation.run_ablation(write_list(splits=["plain", "silent-twin"]), tmp_path / "out", threads=1)
    assert not (tmp_path / "out" / "a").exists()


def test_a_key_added_to_the_code_later_changes_nothing(write_list):
    keys = config_keys(read_ablation(write_list()).rows[0])
    assert "SEED" not in keys and "OUTPUT_DIR" not in keys
    older = {key: value for key, value in keys.items() if key not in ("MODEL.SKA.ENERGY_PRIOR", "MODEL.SKA.NAME")}
    # The prior has its default; SKA's name is TemporalSKA in this config, and the default is SKA.
    assert changed_keys(older | {"MODEL.GONE": 3}, keys) == {"MODEL.SKA.NAME": ("SKA", "TemporalSKA")}
    assert changed_keys(json.loads(json.dumps(keys)), keys) == {}


def test_slots_divide_cores_and_gpus(monkeypatch):
    monkeypatch.setattr(ablation.os, "cpu_count", lambda: 8)
    slots = ablation.job_slots(3, device_ids=[0, 5])
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "5", "0"]
    assert {slot["OMP_NUM_THREADS"] for slot in slots} == {"2"}
    assert ablation.job_slots(1, threads=4, device_ids=[1])[0]["OMP_NUM_THREADS"] == "4"


def test_spread_and_paired_differences_by_hand():
    # 1, 2, 6: mean 3, squares of distances 4 + 1 + 9 = 14, over 2 = 7. t(0.975, 2) = 4.302653.
    value = spread([1.0, 2.0, 6.0])
    assert (value.n, value.mean) == (3, 3.0) and value.sd == pytest.approx(7**0.5, rel=1e-12)
    half = 4.302653 * 7**0.5 / 3**0.5
    assert value.interval() == pytest.approx((3 - half, 3 + half), abs=1e-5)  # the table's t has six digits
    assert spread([]) is None and spread([4.0]) == Spread(1, 4.0, None) and spread([1.0, 2.0]).interval() is None
    assert spread([2.0, 2.0, 2.0]).interval() == (2.0, 2.0), "without spread the interval is a point"
    assert paired_differences({1: 5.0, 2: 7.0, 4: 0.0}, {2: 4.0, 1: 1.0, 3: 9.0}) == {1: 4.0, 2: 3.0}
    assert format_spread(value) == "3.0 ± 2.6"
    assert format_spread(value, signed=True) == "+3.0 ± 2.6 [-3.6, +9.6]"
    assert format_spread(Spread(1, -4.04, None), signed=True) == "-4.0" and format_spread(None) == "-"


def test_gpu_rows_change_the_same_keys_as_cpu_rows(monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = ROOT / "configs" / "ablations" / "synth"
    small = {row.name: row for name in ("main", "more") for row in read_ablation(folder / f"{name}.yaml").rows}
    large = {row.name: row for row in read_ablation(folder / "gpu.yaml").rows}
    assert small.keys() == large.keys()
    for name in small:
        changes = [changed_keys(config_keys(rows["full"]), config_keys(rows[name])) for rows in (small, large)]
        assert changes[0] == changes[1], name
        assert (name == "full") == (not changes[0])


def program(*words: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_two_real_runs_from_clips_to_table(tmp_path):
    benchmark, out = tmp_path / "benchmark", tmp_path / "out"
    for split, scene, counts in (
        ("train", "plain", "310"),
        ("plain", "plain", "003"),
        ("silent-twin", "twin", "003"),
    ):
        numbers = [word for pair in zip(("--train", "--val", "--test"), counts, strict=True) for word in pair]
        where = ("--root", str(benchmark / split), "--subset", "ms3", "--size", "32", "--jobs", "1")
        program("datasets/make_synth.py", *where, *numbers, "--scenes", f"{scene}=1")
    rows = [
        {"name": name, "label": name, "config": f"configs/ablations/synth/{name}.yaml"}
        for name in ("ppqg", "full")
    ]
    content = {"benchmark": str(benchmark), "seeds": [5], "baseline": "ppqg", "rows": rows}
    content |= {"splits": ["plain", "silent-twin"], "negatives_on": ["plain"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    sizes = ("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "INPUT.SIZE", "(32, 32)")
    command = ("tools/run_ablation.py", "--list", str(tmp_path / "tiny.yaml"), "--out", str(out), "--jobs", "2")
    text = program(*command, "--", *sizes)
    assert text.count(": done in") == 2 and "| twin M_J" in text
    scores = json.loads((out / "full" / "seed5" / "robustness.json").read_text())["splits"]
    assert set(scores["plain"]["conditions"]) == {"true", "silence", "noise", "off_screen"}
    assert set(scores["silent-twin"]["conditions"]) == {"true"}
    assert f"{scores['silent-twin']['conditions']['true']['M_J']:.1f}" in (out / "tiny.md").read_text()
    assert "SEED: 5\n" in (out / "full" / "seed5" / "train" / "config.yaml").read_text()
    # Interrupted after the last checkpoint: it resumes there and is scored again.
    folder = out / "full" / "seed5"
    training = json.loads((folder / "training.json").read_text())
    assert training["iterations"] == 2 and training["parameters"] > 1e5 and training["losses"]["total_loss"] > 0
    (folder / "training.json").write_text(json.dumps(training | {"finished": False}))
    for name in ("robustness.json", "scored.json"):
        (folder / name).unlink()
    text = program(*command, "--", *sizes)
    assert "ppqg seed 5: already done" in text and "full seed 5: done in" in text
    again = json.loads((folder / "training.json").read_text())
    assert len(again["sessions"]) == 2 and again["seconds"] > training["seconds"]
    assert json.loads((folder / "robustness.json").read_text())["splits"] == scores
