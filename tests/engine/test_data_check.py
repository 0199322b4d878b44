"""The check before training, and tools/score.py, as people run them on both miniature releases."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.miniature import make_original, make_rebuilt, rows_of

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


def train_net(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    config = ("--config", "configs/synth/quickstart.yaml", "--num-gpus", "0")
    overrides = {
        "DATASETS.ROOT": data, "OUTPUT_DIR": out, "DATALOADER.NUM_WORKERS": 0, "TEST.SAVE_PREDICTIONS": True,
        "SOLVER.MAX_ITER": 1, "SOLVER.IMS_PER_BATCH": 2, "INPUT.SIZE": "(32, 32)", "TEST.BATCH_SIZE": 2,
        "DATASETS.VAL": "('avsbench_ms3_test',)",
    }  # fmt: skip
    flat = [str(word) for pair in overrides.items() for word in pair]
    return run("tools/train_net.py", *config, *options, *flat)


@pytest.mark.parametrize("make", [make_original, make_rebuilt])
def test_checked_trained_and_scored(tmp_path, make):
    data = make(tmp_path / "data", "ms3")
    done = run("datasets/check.py", "--root", str(data))
    assert done.returncode == 0, done.stderr
    assert "All clips are usable." in done.stdout

    done = train_net(data, tmp_path / "out", "--metric-convention", "dataset")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Data check: read headers of 4 and contents of 4 of 4 clips" in done.stdout
    results = json.loads((tmp_path / "out/inference/avsbench_ms3_test/results.json").read_text())
    assert results["convention"] == "dataset" and set(results["conventions"]) == {"combo", "tpavi", "dataset"}

    folder = tmp_path / "out/inference/avsbench_ms3_test"
    common = ("tools/score.py", "--root", str(data), "--subset", "ms3", "--out", str(tmp_path / "scored"))
    for predictions in (folder / "predictions", folder / "predictions_coco.json"):
        done = run(*common, "--predictions", str(predictions), "--metric-convention", "dataset")
        assert done.returncode == 0, done.stderr
        scored = json.loads((tmp_path / "scored/results.json").read_text())
        for name, scores in results["conventions"].items():
            assert scored["conventions"][name]["M_J"] == pytest.approx(scores["M_J"], abs=1e-9)

    picture = next((folder / "predictions").rglob("*.png"))
    picture.unlink()
    done = run(*common, "--predictions", str(folder / "predictions"))
    assert done.returncode == 1 and str(picture) in done.stderr and "Traceback" not in done.stderr


def test_training_on_a_damaged_release_is_refused_before_it_starts(tmp_path):
    data = make_original(tmp_path / "data", "ms3")
    name = next(row["name"] for row in rows_of(data, "ms3") if row["split"] == "train")
    frame = data / f"AVSBench_object/Multi-sources/ms3_data/visual_frames/{name}/{name}.mp4_1.png"
    frame.write_bytes(frame.read_bytes()[:100])
    done = train_net(data, tmp_path / "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot be used: Picture" in done.stderr and str(frame) in done.stderr and "--no-check" in done.stderr
    assert not (tmp_path / "out/metrics.json").exists()

    fix = tmp_path / "fix.csv"
    done = run("datasets/check.py", "--root", str(data), "--fix-list", str(fix))
    assert done.returncode == 1 and str(frame) in done.stdout and str(frame) in fix.read_text()
    assert run("datasets/check.py", "--root", str(tmp_path / "out")).returncode == 2
