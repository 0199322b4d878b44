"""The check before training, and tools/score.py, as people run them on both miniature releases."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ska_vct.evaluation import CONVENTIONS
from tests.data.miniature import make_original, make_rebuilt, name_of, rows_of

ROOT = Path(__file__).resolve().parents[2]
# pycocotools is older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def train_net(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    config = ("--config", "configs/synth/quickstart.yaml", "--num-gpus", "0")
    overrides = {
        "DATASETS.ROOT": data, "OUTPUT_DIR": out, "DATALOADER.NUM_WORKERS": 0, "TEST.SAVE_PREDICTIONS": True,
        "SOLVER.MAX_ITER": 1, "SOLVER.IMS_PER_BATCH": 2, "INPUT.SIZE": "(32, 32)", "TEST.BATCH_SIZE": 2,
        "DATASETS.VAL": "('avsbench_ms3_test',)",
    }  # fmt: skip
    flat = [str(word) for pair in overrides.items() for word in pair]
    words = ["tools/train_net.py", *config, *options, *flat]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


def script(path: str, *words, capsys, monkeypatch) -> tuple[object, str]:
    """Run a script in this process: what its main returns or exits with, and what it prints, errors last."""
    monkeypatch.setattr(sys, "argv", [path, *map(str, words)])
    try:
        result = runpy.run_path(str(ROOT / path))["main"]()
    except SystemExit as error:
        result = error.code
    return result, "".join(capsys.readouterr())


def test_checked_trained_and_scored(tmp_path, capsys, monkeypatch):
    how = {"capsys": capsys, "monkeypatch": monkeypatch}
    data = make_rebuilt(tmp_path / "data", "ms3")
    code, text = script("datasets/check.py", "--root", data, **how)
    assert code == 0 and "All clips are usable." in text and "rebuilt 384 (2)" in text

    done = train_net(data, tmp_path / "out", "--metric-convention", "dataset")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Data check: read headers of 4 and contents of 4 of 4 clips" in done.stdout
    folder = tmp_path / "out/inference/avsbench_ms3_test"
    results = json.loads((folder / "results.json").read_text())
    assert results["convention"] == "dataset" and set(results["conventions"]) == set(CONVENTIONS)

    common = ("--root", data, "--subset", "ms3", "--out", tmp_path / "scored", "--metric-convention", "dataset")
    for predictions in (folder / "predictions", folder / "predictions_coco.json"):
        code, text = script("tools/score.py", *common, "--predictions", predictions, **how)
        assert code is None
        scored = json.loads((tmp_path / "scored/results.json").read_text())
        for name, scores in results["conventions"].items():
            assert scored["conventions"][name]["M_J"] == pytest.approx(scores["M_J"], abs=1e-9)

    picture = next((folder / "predictions").rglob("*.png"))
    picture.unlink()
    code, text = script("tools/score.py", *common, "--predictions", folder / "predictions", **how)
    assert code == 2 and str(picture) in text and "error: No prediction for clip" in text


def test_training_on_a_damaged_release_is_refused_before_it_starts(tmp_path, capsys, monkeypatch):
    how = {"capsys": capsys, "monkeypatch": monkeypatch}
    data = make_original(tmp_path / "data", "ms3")
    name = next(name_of(row) for row in rows_of(data, "ms3") if row["split"] == "train")
    frame = data / f"AVSBench_object/Multi-sources/ms3_data/visual_frames/{name}/{name}.mp4_1.png"
    frame.write_bytes(frame.read_bytes()[:100])
    done = train_net(data, tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot be used: Image" in done.stderr and str(frame) in done.stderr and "--no-check" in done.stderr
    assert not (tmp_path / "out/metrics.json").exists()

    fix = tmp_path / "fix.csv"
    code, text = script("datasets/check.py", "--root", data, "--fix-list", fix, **how)
    assert code == 1 and str(frame) in text and str(frame) in fix.read_text()
    assert script("datasets/check.py", "--root", tmp_path / "out", **how)[0] == 2


def test_prepare_as_a_program(tmp_path, capsys, monkeypatch):
    how = {"capsys": capsys, "monkeypatch": monkeypatch}
    data = make_original(tmp_path / "data", "ms3")
    words = ("--root", data, "--subset", "ms3", "--what", "log-mel")
    code, text = script("datasets/prepare.py", *words, **how)
    assert code == 0 and "log-mel: 5 clips written, 0 existed or need no file, 0 failed" in text
    assert len(list((data / "prepared").rglob("*.npy"))) == 5
    code, text = script("datasets/prepare.py", *words, **how)
    assert code == 0 and "log-mel: 0 clips written, 5 existed" in text
    code, text = script("datasets/prepare.py", "--root", data, "--subset", "ms3", "--what", "frames", **how)
    assert code == 2 and "there is no other release of AVSBench AVSS" in text
    code, text = script("datasets/prepare.py", *words, "--into-release", **how)
    released = data / "AVSBench_object/Multi-sources/ms3_data/audio_log_mel"
    # What is prepared already need not be made again.
    assert code == 0 and "0 clips written" in text and not released.exists()
