"""Whole datasets: shards, interruptions, other processes, bad clips and full disks change no byte of a file."""

import importlib.util
import pickle
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ska_vct.data.catalog import load_records
from ska_vct.data.flow.extract.clip import FlowRequest
from ska_vct.data.flow.extract.run import compute_flow, parse_shard
from ska_vct.data.flow.extract.slurm import submit_flow
from ska_vct.data.flow.extract.workers import run_here, run_on_device
from ska_vct.data.flow.methods.registry import build_flow_method
from ska_vct.data.flow.store import FlowError, read_flow
from ska_vct.synth import SynthSettings, generate

ROOT = Path(__file__).resolve().parents[3]
REQUEST = FlowRequest(series=4, size=12)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    settings = SynthSettings(subset="ms3", train=2, val=1, test=3, size=48, series=4, flow_size=8, seed=5)
    generate(root, settings, jobs=1, progress=False)
    return root


def run(root, out, **changes):
    options = {
        "subsets": ["ms3"], "splits": ["train", "val", "test"], "request": REQUEST, "jobs": 1, "progress": False,
    }  # fmt: skip
    return compute_flow(root=root, out=out, **{**options, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def plain(root, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("plain")
    summary = run(root, out)
    assert (summary.clips, summary.written, summary.kept, summary.failures) == (6, 6, 0, [])
    files = contents(out)
    assert len(files) == 6 and summary.bytes == sum(map(len, files.values()))
    assert "6 clips: 6 written (6 from video), 0 there already, 0 failed" in str(summary)
    return files


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compute_flow_script", ROOT / "datasets" / "compute_flow.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_resumed_shards_equal_a_plain_run_byte_for_byte(root, plain, tmp_path):
    # Interrupted after one clip; then a file was cut off, and the rest came in shards, one on several processes.
    assert run(root, tmp_path, limit=1).written == 1
    (first,) = contents(tmp_path)
    assert (tmp_path / first).read_bytes() == plain[first]
    (tmp_path / first).write_bytes(plain[first][:500])
    shards = [run(root, tmp_path, shard=(index, 3), jobs=2 if index == 1 else 1) for index in range(3)]
    assert [summary.clips for summary in shards] == [2, 2, 2]
    assert [summary.damaged for summary in shards] == [1, 0, 0]
    assert contents(tmp_path) == plain
    # Nothing is left to do, and nothing is touched.
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    again = run(root, tmp_path)
    assert (again.written, again.kept) == (0, 6)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}


def test_threads_of_opencv_change_nothing(root, plain, tmp_path):
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        run(root, tmp_path)
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    assert contents(tmp_path) == plain


def test_reading_ahead_of_a_device_changes_nothing(root, plain, tmp_path):
    records = [
        r for split in ("train", "val", "test") for r in load_records("ms3", split, root, flow_root=tmp_path)
    ]
    outcomes = list(run_on_device(records, REQUEST, build_flow_method("dis"), jobs=2))
    assert [outcome.clip_id for outcome in outcomes] == [record["clip_id"] for record in records]
    assert contents(tmp_path) == plain


def test_two_processes_on_the_same_clips(root, plain, tmp_path):
    command = [
        sys.executable, ROOT / "datasets" / "compute_flow.py", "--root", root, "--out", tmp_path,
        "--subset", "ms3", "--series", "4", "--size", "12", "--jobs", "1",
    ]  # fmt: skip
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert contents(tmp_path) == plain


def test_raft_runs_through_the_same_pipe(root, tmp_path, monkeypatch):
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    state = optical_flow.raft_small(weights=None).state_dict()
    torch.save(state, tmp_path / "raft.pth")
    request = FlowRequest(method="raft_small", source="frames", size=12)
    options = {"request": request, "weights": tmp_path / "raft.pth", "device": "cpu", "batch_size": 3, "limit": 1}
    threads = torch.get_num_threads()
    try:
        for name in ("one", "two"):
            assert run(root, tmp_path / name, **options).written == 1
    finally:
        torch.set_num_threads(threads)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    (path,) = (tmp_path / "one").rglob("*.npz")
    record = read_flow(path, num_frames=5)
    assert record.meta["method"] == "raft_small" and record.meta["weights"].startswith("raft.pth sha256:")
    assert record.meta["request"] == request.to_meta() and "torchvision" in record.meta["software"]
    # Other weights are other flow.
    state["mask_predictor.conv.bias" if "mask_predictor.conv.bias" in state else next(iter(state))] += 1
    torch.save(state, tmp_path / "raft.pth")
    with pytest.raises(FlowError, match="made with other settings"):
        run(root, tmp_path / "one", **options)


def test_files_of_other_settings_are_not_mixed_in(root, tmp_path):
    run(root, tmp_path, limit=2)
    before = contents(tmp_path)
    other = FlowRequest(series=2, size=12)
    with pytest.raises(FlowError, match=r"2 of 6 .*made with other settings.*series 4 instead of 2.*--overwrite"):
        run(root, tmp_path, request=other)
    assert contents(tmp_path) == before
    assert run(root, tmp_path, request=other, overwrite=True, splits=["train"]).written == 2
    assert all(read_flow(path).flow.shape[1] == 2 for path in tmp_path.rglob("*.npz"))
    # The generator's own flow says nothing of a request: it is not replaced unasked either.
    with pytest.raises(FlowError, match="6 of 6 flow files were made with other settings"):
        run(root, "")


def test_eight_bits_are_the_same_flow(root, plain, tmp_path):
    run(root, tmp_path / "8", request=FlowRequest(series=4, size=12, bits=8))
    run(root, tmp_path / "16")
    for path in (tmp_path / "8").rglob("*.npz"):
        exact = read_flow(tmp_path / "16" / path.relative_to(tmp_path / "8")).flow.astype(np.float32)
        step = np.abs(exact).max(axis=(2, 3, 4), keepdims=True) / 127
        assert (np.abs(read_flow(path).flow - exact) <= 0.51 * step + np.abs(exact) * 2**-10).all()
        assert path.stat().st_size < 0.7 * len(plain[str(path.relative_to(tmp_path / "8"))])


def test_bad_clips_are_named_and_the_others_done(root, tmp_path):
    records = load_records("ms3", "test", root, flow_root=tmp_path / "out")
    unequal, single, videoless = ({**record} for record in records)
    unequal["video_path"] = single["video_path"] = videoless["video_path"] = None
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "odd.png")
    unequal["image_paths"] = [*unequal["image_paths"][:4], str(tmp_path / "odd.png")]
    single["image_paths"] = single["image_paths"][:1]
    outcomes = list(run_here([unequal, single, videoless], REQUEST, build_flow_method("dis")))
    assert "odd.png is 20 x 30" in outcomes[0].error and not Path(unequal["flow_path"]).exists()
    assert "single image" in outcomes[1].remark and "Its flow is zero" in outcomes[1].remark
    still = read_flow(single["flow_path"], num_frames=1)
    assert not still.flow.any() and still.meta["source"] == "none"
    assert outcomes[2].source == "frames" and read_flow(videoless["flow_path"]).flow.shape == (5, 1, 2, 12, 12)
    tiny = {**videoless, "image_paths": [str(tmp_path / "tiny.png")] * 2}
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "tiny.png")
    (outcome,) = run_here([tiny], REQUEST, build_flow_method("dis"))
    assert videoless["clip_id"] in outcome.error and "at least 24 pixels" in outcome.error


def test_a_full_disk_stops_the_run_and_leaves_no_part(root, plain, tmp_path, small_disk):
    run(root, tmp_path, limit=1)
    before = contents(tmp_path)
    with small_disk(1000), pytest.raises(OSError, match=r"\.npz cannot be written .*it goes on where it stopped"):
        run(root, tmp_path)
    assert contents(tmp_path) == before
    run(root, tmp_path)
    assert contents(tmp_path) == plain


def test_clips_can_be_left_out(root, plain, tmp_path):
    chosen = load_records("ms3", "test", root)[1]["clip_id"]
    (tmp_path / "out.csv").write_text(f"clip\n{chosen}\n")
    run(root, tmp_path / "flow", leave_out=tmp_path / "out.csv")
    assert contents(tmp_path / "flow") == {k: v for k, v in plain.items() if Path(chosen).name not in k}


@pytest.mark.parametrize("text", ["4/4", "1", "a/2", "-1/2", "1/0", "1/2/3", ""])
def test_shards_that_make_no_sense(text):
    with pytest.raises(FlowError, match="not of the form i/n"):
        parse_shard(text)
    assert parse_shard("3/4") == (3, 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "raft"}, "raft_large"), ({"source": "film"}, "auto, video, frames"), ({"bits": 4}, "16, 8"),
        ({"series": 0}, "series is 0"), ({"size": 0}, "size is 0"), ({"long_side": -1}, "long side is -1"),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense(wrong, message):
    with pytest.raises(FlowError, match=message):
        FlowRequest(**wrong)


def test_command_line(script, root, tmp_path, capsys):
    arguments = ["--root", str(root), "--out", str(tmp_path), "--subset", "ms3", "--split", "test", "--jobs", "1"]
    assert script.main([*arguments, "--method", "truth", "--size", "12"]) == 0
    assert "3 clips: 3 written (3 from video), 0 there already, 0 failed" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        script.main([*arguments, "--size", "16"])
    assert str(stopped.value).startswith("error: 3 of 3 flow files were made with other settings")
    for wrong in (["--shard", "4/4"], ["--submit", "local", "--cluster-option", "x"]):
        with pytest.raises(SystemExit) as stopped:
            script.main([*arguments, *wrong])
        assert "4/4" in str(stopped.value) or "KEY=VALUE" in str(stopped.value)


def test_without_submitit_one_sentence(root, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(FlowError, match=r"pip install submitit.*--shard i/n"):
        submit_flow("slurm", tmp_path, shards=2)


class FakeExecutor:
    """Runs what is submitted here and now, after a look at whether a cluster could be given it."""

    def __init__(self, folder, cluster):
        assert cluster == "slurm"

    def update_parameters(self, **parameters):
        if "nonsense" in parameters:
            raise NameError("unknown parameter nonsense")
        assert parameters == {"name": "compute_flow", "timeout_min": 60, "slurm_partition": "cpu"}

    def batch(self):
        return nullcontext()

    def submit(self, function, *arguments):
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        return SimpleNamespace(result=lambda: function(*arguments), job_id="7_0")


def test_submitted_shards_equal_a_plain_run(root, plain, tmp_path, monkeypatch, script, capsys):
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=FakeExecutor))
    options = {"root": root, "subsets": ["ms3"], "splits": ["train", "val", "test"], "request": REQUEST, "jobs": 1}
    with pytest.raises(FlowError, match="cannot submit to 'slurm'.*nonsense"):
        submit_flow("slurm", tmp_path, shards=1, parameters={"nonsense": 1}, **options)
    with pytest.raises(FlowError, match="shards is 0"):
        submit_flow("slurm", tmp_path, shards=0, **options)
    parameters = {"timeout_min": 60, "slurm_partition": "cpu"}
    jobs = submit_flow("slurm", tmp_path, shards=2, parameters=parameters, out=tmp_path / "out", **options)
    assert [job.result().written for job in jobs] == [3, 3]
    assert contents(tmp_path / "out") == plain
    capsys.readouterr()
    arguments = ["--root", str(root), "--subset", "ms3", "--submit", "slurm", "--shards", "3"]
    assert script.main([*arguments, "--cluster-option", "slurm_partition=cpu", "timeout_min=60"]) == 0
    assert "Submitted 3 jobs, 7_0 to 7_0" in capsys.readouterr().out


@pytest.mark.slow
def test_submitit_itself_on_this_machine(root, plain, tmp_path):
    pytest.importorskip("submitit")
    options = {"root": root, "subsets": ["ms3"], "splits": ["train", "val", "test"], "request": REQUEST, "jobs": 1}
    with pytest.raises(FlowError, match="cannot submit to 'local'.*nonsense"):
        submit_flow("local", tmp_path / "log", shards=1, parameters={"nonsense": 1}, **options)
    jobs = submit_flow("local", tmp_path / "log", shards=2, out=tmp_path / "out", **options)
    assert [job.result().written for job in jobs] == [3, 3]
    assert contents(tmp_path / "out") == plain
