"""Scores of known objects: by hand, and against a slow oracle that looks at one object at a time."""

import pytest
import torch

from ska_vct.evaluation.objects import count_objects, judge_frames, object_scores
from ska_vct.structures.clip import SILENT_MOVING, SILENT_STILL, SOUNDING


def image(*rows: str) -> torch.Tensor:
    return torch.tensor([[int(cell) for cell in row] for row in rows], dtype=torch.uint8)


# 1 sounds, 2 is silent and still, 3 silent and moving
GROUPS = torch.stack([image("1111", "2222", "0000"), image("1100", "3333", "2200"), image("0000", "2222", "0000")])
FOUND = torch.stack(
    [image("1110", "1000", "1111"), image("0000", "1110", "1100"), image("1111", "1100", "0000")]
).bool()


def test_counts_and_scores_by_hand():
    counts = count_objects(FOUND, GROUPS)
    # group by group: pixels, and those of them that are segmented
    assert counts.tolist() == [[[4, 3], [4, 1], [0, 0]], [[2, 0], [2, 2], [4, 3]], [[0, 0], [4, 2], [0, 0]]]
    scores = object_scores([counts])
    assert scores["silent_still"] == (1 + 2 + 2) / (4 + 2 + 4)
    assert scores["silent_moving"] == 3 / 4
    assert scores["silent"] == (5 + 3) / (10 + 4)
    assert scores["missed"] == (1 + 2) / (4 + 2)
    # First frame: 3 of 4 against 1 of 4, right. Second: 0 of 2 against 5 of 6, wrong. Third: nothing sounds.
    assert (scores["right"], scores["wrong"], scores["right_minus_wrong"]) == (1 / 2, 1 / 2, 0)
    assert scores["silent_frames"] == 2


def test_scores_of_several_clips_sum_their_pixels_and_frames():
    counts = count_objects(FOUND, GROUPS)
    assert object_scores([counts[:1], counts[1:]]) == object_scores([counts])


@pytest.mark.parametrize(
    ("sounding", "silent", "right", "wrong"),
    [
        ((4, 3), (4, 1), True, False),
        ((4, 2), (4, 0), False, False),  # exactly half of what sounds is not more than half
        ((4, 4), (4, 2), False, False),  # nor is exactly half of what is silent less
        ((4, 1), (4, 3), False, True),
        ((4, 4), (4, 4), False, False),  # all is segmented: neither
        ((4, 0), (4, 0), False, False),
        ((0, 0), (4, 4), False, False),  # nothing sounds: the frame does not count
        ((4, 4), (0, 0), False, False),
    ],
)
def test_right_and_wrong(sounding, silent, right, wrong):
    counts = torch.tensor([[sounding, silent, (0, 0)]])
    found = [bool(value) for value in judge_frames(counts)]
    assert found == [right, wrong, sounding[0] > 0 and silent[0] > 0]
    # A silent object may as well move.
    moving = torch.tensor([[sounding, (0, 0), silent]])
    assert [bool(value) for value in judge_frames(moving)] == found


def test_counts_equal_those_of_a_loop():
    generator = torch.Generator().manual_seed(3)
    groups = torch.randint(0, 4, (5, 17, 13), generator=generator).to(torch.uint8)
    found = torch.rand(5, 17, 13, generator=generator) > 0.4
    want = torch.zeros(5, 3, 2, dtype=torch.int64)
    for frame in range(5):
        for place, code in enumerate((SOUNDING, SILENT_STILL, SILENT_MOVING)):
            here = groups[frame] == code
            want[frame, place] = torch.stack([here.sum(), (here & found[frame]).sum()])
    torch.testing.assert_close(count_objects(found, groups), want, rtol=0, atol=0)


def test_without_objects_there_are_no_scores():
    for clips in ([], [count_objects(torch.ones(2, 3, 3).bool(), torch.zeros(2, 3, 3, dtype=torch.uint8))]):
        scores = object_scores(clips)
        assert scores.pop("silent_frames") == 0
        assert set(scores.values()) == {None}


def test_errors_say_what_does_not_fit():
    with pytest.raises(ValueError, match=r"shape \(3, 3, 4\).*\(3, 2, 4\)"):
        count_objects(FOUND, GROUPS[:, :2])
    with pytest.raises(ValueError, match="value 4; they range from 0 to 3"):
        count_objects(FOUND, GROUPS + 1)
