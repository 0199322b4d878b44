"""Benchmarks: what they time, how they take turns, and the basis of their conclusions."""

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from ska_vct.evaluation.metrics import binary_stats
from ska_vct.modeling.layers import DEFORM_IMPLEMENTATIONS
from ska_vct.profiling.timing import SUBJECTS, BenchmarkError, Measurement, benchmark, measure_in_turn
from ska_vct.profiling.timing.clips import make_clips, smooth_images
from ska_vct.profiling.timing.deform import attention_inputs, runnable
from ska_vct.profiling.timing.metrics import same_scores, threshold_loop
from ska_vct.profiling.timing.report import ratios, seconds, table
from ska_vct.profiling.timing.work import TOTAL, Case, Clock, Work
from ska_vct.profiling.timing.worker import Worker, call, repeat
from ska_vct.structures import validate_clip
from ska_vct.utils.cli import split_overrides

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "synth" / "quickstart.yaml")
SMALL = ("INPUT.SIZE", "(32, 32)", "INPUT.EVAL_SIZE", "(16, 16)", "MODEL.DECODER.NUM_LAYERS", "1")
CPU = torch.device("cpu")


def tool():
    spec = importlib.util.spec_from_file_location("benchmark_tool", ROOT / "tools" / "benchmark.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_case(kind: str, **options) -> Case:
    return SUBJECTS[kind].cases([CONFIG], SMALL, threads=1, **options)[0]


def measured(name: str, *totals: float, clips: int = 1, **fields) -> Measurement:
    case = Case(subject="train", name=name, config_file=CONFIG)
    return Measurement(case=case, seconds={TOTAL: list(totals)}, clips=clips, **fields)


@pytest.mark.parametrize("kind", [kind for kind in SUBJECTS if kind != "data"])
def test_every_subject_builds_and_times_itself(kind):
    options = {"flow": {"side": 64}, "predict": {"sizes": ["64x48"], "seconds": 2, "fps": 5}}.get(kind, {})
    work = SUBJECTS[kind].build(one_case(kind, **options))
    parts = call(work, CPU)
    assert parts[TOTAL] > 0 and all(value >= 0 for value in parts.values())
    assert work.frames > 0


def test_a_training_step_trains():
    work = SUBJECTS["train"].build(one_case("train"))
    step = work.run
    model_parameters = [
        cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, torch.nn.Module)
    ]
    before = [p.detach().clone() for p in model_parameters[0].parameters()]
    step(Clock(CPU))
    moved = [not torch.equal(a, b) for a, b in zip(before, model_parameters[0].parameters(), strict=True)]
    assert np.mean(moved) > 0.9


def test_clips_are_what_the_subset_would_give(tiny_cfg):
    tiny_cfg.MODEL.PRE_MASK.ENABLED = True
    for train in (True, False):
        for clip in make_clips(tiny_cfg, clips=2, train=train):
            validate_clip(clip, needs=("flow", "masks", "pre_masks"))
            assert len(clip["images"]) == 5
    # MS3 annotates all frames, however many are asked for.
    assert make_clips(tiny_cfg, clips=1, train=True, frames=7)[0]["mask_valid"].sum() == 7
    tiny_cfg.DATASETS.SUBSET = "s4"
    # S4 annotates the first of five training frames, and training loads no other.
    clip = make_clips(tiny_cfg, clips=1, train=True)[0]
    assert clip["images"].shape == (1, 3, 64, 64) and clip["mask_valid"].tolist() == [True]
    assert 0 <= clip["category"] < 23
    tiny_cfg.INPUT.ONLY_ANNOTATED = False
    clip = make_clips(tiny_cfg, clips=1, train=True)[0]
    assert clip["mask_valid"].tolist() == [True] + [False] * 4
    assert len(make_clips(tiny_cfg, clips=1, train=True, frames=7, annotated=3)[0]["images"]) == 7
    with pytest.raises(BenchmarkError, match="2 frames with 3 annotated"):
        make_clips(tiny_cfg, clips=1, train=True, frames=2, annotated=3)


def test_images_move_by_whole_pixels():
    first, second = smooth_images(2, (32, 40), step=3)
    assert np.array_equal(first[:, 3:], second[:, :-3]) and first.std() > 10


def test_the_loop_counts_as_the_histogram_does():
    # By hand: thresholds are k / 254; 0.5 is the 128th (k = 127), so 128 of them (k = 0..127) are <= 0.5.
    prob = torch.tensor([[[0.5, 1.0], [0.0, 0.25]]])
    mask = torch.tensor([[[1, 1], [0, 0]]])
    stats = threshold_loop(prob, mask)
    assert stats.predicted[0].tolist() == [4] + [3] * 63 + [2] * 64 + [1] * 127
    assert stats.true_positive[0].tolist() == [2] * 128 + [1] * 127
    prob, mask = torch.rand(3, 20, 20), torch.rand(3, 20, 20) > 0.5
    mask[1] = False
    assert same_scores(prob, mask)
    assert torch.equal(threshold_loop(prob, mask).predicted, binary_stats(prob, mask).predicted)


def test_attention_inputs_fit_every_implementation(tiny_cfg):
    value, shapes, locations, weights = attention_inputs(tiny_cfg, 2)
    assert shapes == [(2, 2), (4, 4), (8, 8)] and value.shape[:2] == (2, 84)
    torch.testing.assert_close(weights.sum((3, 4)), torch.ones(weights.shape[:3]))
    names = runnable("cpu", value.shape[-1])
    assert {"torch", "grid_sample"} <= set(names)
    wanted = DEFORM_IMPLEMENTATIONS["grid_sample"](value, shapes, locations, weights)
    for name in names:
        # Different summation order of at most 12 products of numbers of size 1.
        found = DEFORM_IMPLEMENTATIONS[name](value, shapes, locations, weights)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_clock_sums_parts_unless_there_is_a_total(monkeypatch):
    ticks = iter([0.0, 1.0, 2.0, 4.0, 10.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    clock = Clock(CPU)
    for part in ("forward", "backward"):
        with clock(part):
            pass
    assert clock.read() == {"forward": 1.0, "backward": 2.0, TOTAL: 3.0}
    with clock():
        pass
    assert clock.read()[TOTAL] == 5.0


def test_a_repetition_is_the_mean_of_its_calls():
    lengths = iter([1.0, 2.0, 6.0])

    def run(clock):
        clock._marks.append(("part", 0.0, next(lengths)))

    assert repeat(Work(run=run), CPU, 3) == {"part": 3.0, TOTAL: 3.0}


def test_medians_quartiles_and_ratios():
    slow = measured("a", 1.0, 2.0, 3.0, 4.0, 100.0, peak_bytes=200)
    fast = measured("b", 1.0, 1.0, 1.0, clips=2, peak_bytes=50)
    assert slow.median() == 3.0 and slow.quartiles() == (2.0, 4.0)
    # Three seconds for one clip against one second for two.
    assert ratios(fast, slow) == {"speed ratio": "6.00", "memory ratio": "0.25"}
    assert "| 6.00" in table([slow, fast])
    assert [seconds(value) for value in (2.5, 0.0123, 4e-5)] == ["2.5 s", "12.3 ms", "40 us"]


def test_peak_memory_sees_what_was_freed():
    # In a process of its own, as measurements are made: this one may return memory of earlier tests meanwhile.
    program = """if True:
        import torch
        from ska_vct.profiling.timing.memory import PeakMemory
        meter = PeakMemory(torch.device("cpu"))
        meter.restart()
        torch.ones(2**26)  # 256 MiB, written and freed
        print(meter.read())
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 250 * 2**20 < int(done.stdout) < 300 * 2**20


def test_the_loader_is_compared_with_the_step_of_its_own_config():
    subject = SUBJECTS["data"]
    rows = []
    for options, total in (({"workers": 0}, 2.0), ({"workers": 2}, 0.5), ({"amp": "off"}, 1.0)):
        rows.append(
            Measurement(
                case=Case(subject="data", name="x", config_file=CONFIG, options=options),
                seconds={TOTAL: [total]},
                clips=4,
                facts={"data": "8 clips"} if "workers" in options else {},
            )
        )
    lines = subject.conclude(rows)
    assert lines[0] == "Data: 8 clips."
    assert "0 workers: 2.00 clips/s loaded, 4.00 clips/s trained: limited by the loader (ratio 0.50" in lines[1]
    assert "2 workers: 8.00 clips/s loaded, 4.00 clips/s trained: limited by the model (ratio 2.00" in lines[2]


def test_changes_begin_at_the_first_key():
    words = ["--vary", "MODEL.A", "1", "2", "--workers", "0", "2", "MODEL.B", "3", "INPUT.SIZE", "(3, 4)"]
    options, pairs = split_overrides(words, keys_of=["--vary"])
    assert pairs == ["MODEL.B", "3", "INPUT.SIZE", "(3, 4)"] and options == words[:-4]
    options, pairs = split_overrides([*words, "--json", "a.json"], keys_of=["--vary"])
    assert pairs == words[-4:] and options == [*words[:-4], "--json", "a.json"]


def test_rows_are_configs_times_values_times_variants():
    arguments = tool().parse_args([
        "infer", "--config-file", CONFIG, CONFIG, "--vary", "MODEL.BRM.ENABLED", "True", "False",
        "--amp", "off", "bf16", *SMALL,
    ])  # fmt: skip
    assert arguments.pop("subject") == "infer"
    for name in ("repeat", "apart", "json", "progress"):
        arguments.pop(name)
    cases = SUBJECTS["infer"].cases(**arguments)
    assert len(cases) == 8 and cases[1].name == "synth/quickstart, MODEL.BRM.ENABLED True, bf16"
    assert cases[-1].opts[-2:] == ("MODEL.BRM.ENABLED", "False")
    with pytest.raises(ValueError, match="MODEL.NOTHING"):
        SUBJECTS["infer"].cases([CONFIG], vary=("MODEL.NOTHING", ["1"]))


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_tool_offers_every_subject_with_its_own_defaults(name):
    module = tool()
    assert set(module.KINDS) == set(SUBJECTS)
    parameters = inspect.signature(SUBJECTS[name].options).parameters.keys() - {"device"}
    arguments = module.parse_args([name, "--config-file", CONFIG])
    assert parameters <= arguments.keys()
    own = {key: arguments[key] for key in parameters}
    assert SUBJECTS[name].options(device="cpu", **own) == SUBJECTS[name].options(device="cpu")


class ThreadContext:
    """Stands in for multiprocessing's context: uses a thread, since a process takes seconds to import."""

    Pipe = staticmethod(Pipe)

    class Process(threading.Thread):
        def __init__(self, target, args):
            connection, *rest = args
            # The parent closes its copy of the child's end.
            super().__init__(target=target, args=(Connection(os.dup(connection.fileno())), *rest), daemon=True)

        def terminate(self):
            """Nothing to do: closing the pipe ends the thread."""


@pytest.fixture
def in_threads(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_context", lambda method: ThreadContext)


def compare_metrics(out: Path) -> tuple[str, dict]:
    words = ["metrics", "--config-file", CONFIG, "--repeat", "2", "--no-progress", "--json", str(out), *SMALL]
    return benchmark(**tool().parse_args(words)), json.loads(out.read_text())


def test_a_comparison_from_its_arguments_to_its_files(tmp_path, in_threads):
    text, found = compare_metrics(tmp_path / "result.json")
    assert "the score are identical" in text
    assert found["machine"]["torch"] == torch.__version__ and found["settings"]["repeat"] == 2
    assert [len(row["seconds"][TOTAL]) for row in found["results"]] == [2, 2]


@pytest.mark.parametrize("apart", [False, True])
def test_cases_take_turns(apart, in_threads, monkeypatch):
    order = []

    class Recorder:
        def build(self, case):
            return Work(run=lambda clock: order.append(case.name))

    cases = [Case(subject="recorder", name=name, config_file=CONFIG, warmup=0, min_seconds=0.0) for name in "ab"]
    measure_in_turn(cases, Recorder().build, repeat=2, apart=apart, progress=False)
    # The first call of each process is warm-up.
    assert "".join(order) == ("aabbaabb" if apart else "ab" + "abab")


def test_what_goes_wrong_in_a_process_is_said_here(in_threads):
    case = one_case("train", batch=0)
    with pytest.raises(BenchmarkError, match="'synth/quickstart': Cannot make 0 clips"):
        measure_in_turn([case], SUBJECTS["train"].build, repeat=1, progress=False)


def test_a_process_that_is_ended_is_said_to_be():
    worker = Worker(one_case("train"), SUBJECTS["train"].build)
    worker._process.kill()
    with pytest.raises(BenchmarkError, match="exit code -9.*out of memory"):
        worker.start()
    worker.kill()


@pytest.mark.slow
def test_processes_of_their_own_know_their_memory(tmp_path):
    _, found = compare_metrics(tmp_path / "result.json")
    assert len(found["results"]) == 2
    case = one_case("train")
    measured = measure_in_turn([case], SUBJECTS["train"].build, repeat=1, progress=False)[0]
    # Parameters, gradients and two moments of a model of 3 million parameters, plus saved tensors.
    assert 10 * 2**20 < measured.peak_bytes < 500 * 2**20
