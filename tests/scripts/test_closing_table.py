"""The closing table of the quickstart shows the claim, condition by condition, and says what to do next."""

import json
import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "closing_table.py"


def run(folder: Path, monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["closing_table.py", str(folder)])
    return runpy.run_path(str(SCRIPT))["main"]()


def test_scores_by_condition_and_next_steps(tmp_path, monkeypatch, capsys):
    def scores(**values):
        return {"M_J": 70.0, "FPR": 5.0, "right": None, "wrong": None} | values

    plain = {"true": scores(M_J=78.25), "silence": scores(FPR=0.25), "off_screen": scores(FPR=1.5)}
    twins = {"true": scores(right=98.0, wrong=1.0), "silence": scores(right=0.0, wrong=0.5)}
    movers = {"true": scores(right=90.0, wrong=2.0)}
    found = {"plain": plain, "silent-twin": twins, "silent-mover": movers}
    splits = {name: {"conditions": conditions} for name, conditions in found.items()}
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "robustness.json").write_text(json.dumps({"convention": "combo", "splits": splits}))
    (tmp_path / "training.json").write_text(json.dumps({"seconds": 300.4, "peak_bytes": 2**30}))
    assert run(tmp_path, monkeypatch) == 0
    text = capsys.readouterr().out
    lines = {line.strip().split("   ")[0]: line.split() for line in text.splitlines() if line.startswith("    ")}
    assert "78.2" in text
    assert lines["silent twins, right / wrong object"][-6:] == ["98.0", "/", "1.0", "0.0", "/", "0.5"]
    assert lines["plain clips, FPR"][-2:] == ["0.2", "1.5"]
    assert "300 s, 1.00 GiB" in text and "What to do next" in text and "tools/predict.py" in text


def test_an_unfinished_run_is_said(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, monkeypatch) == 1
    assert "let scripts/quickstart.sh finish first" in capsys.readouterr().err
