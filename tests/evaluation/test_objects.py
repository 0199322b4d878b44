"""Scores of known objects: by hand, and against a slow oracle that looks at one object at a time."""

import pytest
import torch

from ska_vct.evaluation.objects import count_objects, judge_frames, map_is_first, map_means, object_scores
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


def test_what_the_map_prefers_and_whether_the_mask_follows_by_hand():
    motion_map = torch.zeros(3, 3, 4)
    motion_map[0, 0] = torch.tensor([0.5, 0.5, 0.5, 0.9])  # 0.6 on what sounds, 0.2 on what does not
    motion_map[0, 1] = 0.2
    motion_map[1, 0, :2], motion_map[1, 1, 0] = 0.3, 1.0  # 0.3 against 0.25 on what moves and 0.4 on what is still
    motion_map[1, 2, :2] = 0.4
    means = map_means(motion_map, GROUPS)
    assert torch.allclose(
        means[:2], torch.tensor([[0.6, 0.2, torch.nan], [0.3, 0.4, 0.25]]).double(), equal_nan=True
    )
    assert means[2].isnan().tolist() == [True, False, True]
    assert map_is_first(means).tolist() == [True, False, False]
    counts = count_objects(FOUND, GROUPS)
    scores = object_scores([counts], [means], [torch.tensor([0, 1, 4])])
    # Of the two frames with both kinds, the map is right in the first, and so is the mask.
    assert (scores["map_first"], scores["right_given_map_first"]) == (1 / 2, 1)
    by_frame = scores["by_frame"]
    assert [by_frame[k]["silent_frames"] for k in ("0", "1", "4")] == [1, 1, 0]
    assert [by_frame[k]["map_first"] for k in ("0", "1", "4")] == [1, 0, None]
    assert by_frame["1"]["right_given_map_first"] is None and by_frame["1"]["right_minus_wrong"] == -1


def test_the_map_is_resized_to_the_objects():
    groups = torch.full((1, 8, 8), SOUNDING, dtype=torch.uint8)
    groups[:, :, 4:] = SILENT_MOVING
    means = map_means(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), groups)[0]
    # Bilinear: columns 0 to 7 hold 1, 1, 7/8, 5/8, 3/8, 1/8, 0, 0.
    assert means[0] == pytest.approx(3.5 / 4) and means[2] == pytest.approx(0.5 / 4)


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
