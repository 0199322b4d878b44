"""tools/train_net.py as people run it, on a synthetic release: one process, two processes, wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEST_SET = "avsbench_ms3_test"


def run(*words: str, processes: int = 1, check: bool = True) -> subprocess.CompletedProcess:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*start, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def train_net(data: Path, out: Path, *options: str, overrides: tuple[str, ...] = (), **how):
    common = (
        "DATASETS.ROOT",
        str(data),
        "OUTPUT_DIR",
        str(out),
        "DATALOADER.NUM_WORKERS",
        "0",
        "TEST.BATCH_SIZE",
        "1",
    )
    sizes = ("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "INPUT.SIZE", "(32, 32)")
    config = ("--config", "configs/synth/quickstart.yaml", "--num-gpus", "0")
    return run("tools/train_net.py", *config, *options, *common, *sizes, *overrides, **how)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    counts = ("--train", "2", "--val", "1", "--test", "3", "--size", "32", "--seed", "1", "--jobs", "1")
    run("datasets/make_synth.py", "--root", str(root), "--subset", "ms3", *counts)
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("run")
    done = train_net(data, out)
    # No library's warning reaches the user.
    assert done.stderr == ""
    return out, done.stdout


def scores(folder: Path) -> dict:
    return json.loads((folder / "inference" / TEST_SET / "results.json").read_text())


def test_training_leaves_the_best_weights_and_says_where(trained):
    out, text = trained
    assert (out / "model_best.pth").is_file()
    assert str(out / "model_best.pth") in text and "Waited for data in" not in text.splitlines()[-1]


def test_scores_do_not_depend_on_the_number_of_processes(data, trained, tmp_path):
    weights = ("MODEL.WEIGHTS", str(trained[0] / "model_best.pth"))
    for processes in (1, 2):
        out = tmp_path / str(processes)
        train_net(data, out, "--eval-only", overrides=weights, processes=processes)
    one, two = scores(tmp_path / "1"), scores(tmp_path / "2")
    # Three clips over two processes: a mean over ranks would weigh the third double.
    assert one["num_clips"] == two["num_clips"] == 3
    assert one["sem_seg"] == pytest.approx(two["sem_seg"], abs=1e-3)


def test_two_processes_train_together(data, tmp_path):
    text = train_net(data, tmp_path, processes=2).stdout
    assert (tmp_path / "model_final.pth").is_file() and "model_best.pth" in text


def test_wrong_input_ends_with_one_sentence(data, tmp_path):
    done = train_net(data, tmp_path, overrides=("MODEL.WEIGHTS", "nowhere.pth"), check=False)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "there is no file 'nowhere.pth'" in errors[0]
    assert "Traceback" not in done.stderr
