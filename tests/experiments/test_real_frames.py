"""Frames of real videos: the outlines, changes of the sound, and the scores."""

import json
from pathlib import Path

import numpy as np
import pytest

from ska_vct.engine.predictor import ClipArrays
from ska_vct.experiments import real_frames
from ska_vct.experiments.real_frames import CONDITIONS, HALVES, SIDE, change, read_outlines, to_markdown
from ska_vct.utils.errors import InputError

OUTLINES = Path(__file__).resolve().parents[1] / "data" / "real_frames.json"


def test_the_outlines_are_whole():
    clips = read_outlines(OUTLINES)
    assert sum(len(clip.masks) for clip in clips) == 40
    halves = [sum(clip.half == half for clip in clips) for half in HALVES]
    assert halves == [4, 4]
    assert all(0.02 < mask.mean() < 0.8 for clip in clips for mask in clip.masks.values())


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"clips": {}}', '{"clips": {"a": {"half": "choose", "frames": 3}}}']
)
def test_damaged_outlines_give_one_sentence(tmp_path, content):
    path = tmp_path / "outlines.json"
    path.write_text(content)
    with pytest.raises(InputError, match="outlines|halves"):
        read_outlines(path)


def test_each_condition_changes_one_thing():
    rng = np.random.default_rng(0)
    clips = [
        ClipArrays(
            frames=np.zeros((2, 8, 8, 3), np.uint8),
            audio=(rng.standard_normal((200, 1)), 100),
            flow=rng.standard_normal((2, 3, 2, 4, 4)),
        )
        for _ in range(2)
    ]
    own, other = clips
    changed = {name: change(own, name, other) for name in CONDITIONS}
    assert changed["own"] is own
    assert not changed["muted"].audio[0].any() and changed["muted"].flow is own.flow
    assert changed["swapped sound"].audio is other.audio
    late = changed["sound 0.5 s late"].audio[0]
    assert not late[:50].any() and np.array_equal(late[50:], own.audio[0][:-50])
    assert not changed["no flow"].flow.any() and changed["no flow"].audio is own.audio


def test_scores_of_perfect_empty_and_random_maps(tmp_path):
    square = {"half": "choose", "frames": {"0": [[[0, 0], [50, 0], [50, 50], [0, 50]]]}}
    path = tmp_path / "outlines.json"
    path.write_text(json.dumps({"clips": {"a": square, "b": {**square, "half": "report"}}}))
    clips = read_outlines(path)
    perfect = [{0: clip.masks[0].astype(np.float32)} for clip in clips]
    empty = [{0: np.zeros((SIDE, SIDE), np.float32)} for _ in clips]
    faint = [{0: 0.3 + 0.1 * maps[0]} for maps in perfect]
    scores = dict.fromkeys(CONDITIONS, faint) | {"muted": empty}
    data = real_frames._summarise(clips, scores, perfect, 0.35)
    own, muted = data["conditions"]["own"]["report"], data["conditions"]["muted"]["report"]
    assert (
        own["J_argmax"] == 0
        and own["J_rule"] == pytest.approx(100)
        and own["J_threshold"] == pytest.approx(100)
        and own["AUC"] == pytest.approx(100)
    )
    assert muted["J_threshold"] == 0 and muted["area_of_own"] == 0 and muted["AUC"] == pytest.approx(50)
    assert data["baselines"]["everything"]["report"]["J_threshold"] == pytest.approx(25, abs=1)
    text = to_markdown(data)
    assert "swapped sound" in text and "flow magnitude" in text
