"""Losses on the map by hand: which frames count, what is learnt from them."""

import math

import pytest
import torch

from ska_vct.modeling import MotionPrompt
from ska_vct.modeling.losses.map_losses import contrast_loss, foreground, map_loss

IGNORE = 255


def prompt(motion_map, moving=None, region_match=None):
    moving = torch.ones_like(motion_map) if moving is None else moving
    return MotionPrompt(
        motion_map=motion_map, retrieved=torch.zeros(len(motion_map), 4), moving=moving, region_match=region_match
    )


def test_shares_of_foreground_leave_ignored_pixels_out():
    labels = torch.tensor([[[3, 0, 255, 255], [0, 0, 255, 1]]])
    share, known = foreground(labels, IGNORE, (1, 2))
    assert share[0, 0, 0].tolist() == [0.25, 1.0] and known.all()
    assert not foreground(torch.full((1, 2, 2), 255), IGNORE, (1, 1))[1].any()


def test_cross_entropy_by_hand():
    labels = torch.tensor([[[1, 0]]])
    loss = map_loss(prompt(torch.tensor([[[[0.8, 0.4]]]])), labels, IGNORE)
    assert loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2, rel=1e-5)


def test_still_foreground_is_left_out_and_no_foreground_asks_for_darkness():
    labels = torch.tensor([[[1, 0]], [[0, 0]], [[255, 255]]])
    motion_map = torch.tensor([[[[0.0, 1.0]]], [[[0.5, 0.5]]], [[[1.0, 1.0]]]], requires_grad=True)
    moving = torch.tensor([[[[0.1, 1.0]]], [[[1.0, 1.0]]], [[[1.0, 1.0]]]])
    loss = map_loss(prompt(motion_map, moving), labels, IGNORE)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    loss.backward()
    assert motion_map.grad[0].eq(0).all() and motion_map.grad[2].eq(0).all() and (motion_map.grad[1] > 0).all()
    nothing = map_loss(prompt(torch.rand(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)), labels[:1], IGNORE)
    assert nothing.item() == 0


def test_contrast_is_between_clips_and_leaves_replaced_audio_out():
    match = torch.tensor([[0.5, 0.9, -0.5], [0.1, 0.5, 0.2], [0.3, 0.0, 0.4]], requires_grad=True)
    labels = torch.ones(3, 1, 2, dtype=torch.int64)
    regions = []

    def region_match(weights):
        regions.append(weights)
        return match

    given = prompt(torch.ones(3, 1, 1, 2), region_match=region_match)
    loss = contrast_loss(given, labels, [2, 1], torch.tensor([False, False, True]), IGNORE)
    # Frames 0 and 1 are of one clip: each competes with frame 2 alone; frame 2's audio is not its own.
    wanted = [math.log(1 + math.exp(6 * (other - own))) for own, other in ((0.5, -0.5), (0.5, 0.2))]
    assert loss.item() == pytest.approx(sum(wanted) / 2, rel=1e-5)
    torch.testing.assert_close(regions[0].sum(1), torch.ones(3))
    loss.backward()
    assert match.grad[2].eq(0).all() and match.grad[0, 1] == 0 and match.grad[0, 0] < 0 < match.grad[0, 2]


def test_one_clip_has_no_contrast():
    given = prompt(torch.ones(2, 1, 1, 2), region_match=lambda regions: torch.zeros(2, 2))
    loss = contrast_loss(
        given, torch.ones(2, 1, 2, dtype=torch.int64), [2], torch.zeros(2, dtype=torch.bool), IGNORE
    )
    assert loss.item() == pytest.approx(0, abs=1e-6)
