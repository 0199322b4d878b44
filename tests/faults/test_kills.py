"""The short form of the kill harness, and that it notices a difference."""

import json
import shutil
import signal

import pytest
import torch

from tests.faults import kills


@pytest.mark.slow
def test_killed_trainings_end_as_if_nothing_had_happened(tmp_path):
    outcome = kills.run_kills(tmp_path, kills=3, seed=2, per_run=3)
    assert outcome.kills.total() == 3 and outcome.differences == []
    # The harness notices what it is for.
    whole, other = tmp_path / "whole", tmp_path / "other"
    shutil.copytree(whole, other)
    assert kills.compare(whole, other) == ["config.yaml differs"]
    content = torch.load(other / "model_final.pth", weights_only=True)
    next(iter(content["model"].values())).view(torch.int32).reshape(-1)[0] ^= 1
    torch.save(content, other / "model_final.pth")
    lines = (other / "metrics.json").read_text().splitlines()
    (other / "metrics.json").write_text("\n".join([*lines, lines[-1]]) + "\n")
    problems = " ".join(kills.compare(whole, other))
    assert "model_final.pth: /model/" in problems and "metrics.json: " in problems


@pytest.mark.slow
def test_two_killed_processes_end_as_if_nothing_had_happened(tmp_path):
    outcome = kills.run_kills(tmp_path, kills=2, seed=1, per_run=2, start=kills.TwoProcesses)
    assert outcome.kills.total() == 2 and outcome.differences == []


@pytest.mark.slow
def test_terminated_trainings_end_as_if_nothing_had_happened(tmp_path):
    outcome = kills.run_kills(tmp_path, kills=3, seed=3, per_run=3, start=kills.Program, number=signal.SIGTERM)
    assert outcome.kills.total() == 3 and outcome.differences == []


def test_every_bit_of_nested_values_counts():
    one = {"a": [torch.tensor([0.0, 1.0]), {"b": 1.5}], "c": float("nan")}
    assert kills.unequal(one, {"a": [torch.tensor([0.0, 1.0]), {"b": 1.5}], "c": float("nan")}) == []
    # Zeros of both signs compare equal and are not.
    assert kills.unequal(one, {"a": [torch.tensor([-0.0, 1.0]), {"b": 1.5}], "c": float("nan")}) == [
        "/a/0: tensors differ"
    ]
    assert kills.unequal(one, json.loads('{"a": [1, {"b": 2}]}')) != []
