"""Anchors: which locations are chosen, what is sampled there, and what static frames get."""

import pytest
import torch

from ska_vct.config import get_cfg
from ska_vct.modeling.motion.ska import MotionPrompt
from ska_vct.modeling.queries.anchors import best_locations, sample_locations, seed_queries
from ska_vct.modeling.queries.mpqg import MPQG


def two_hills():
    """Maxima 1.0 at (1, 1) and 0.6 at (4, 4), each with almost equal neighbours: (1, 1, 6, 6)."""
    motion_map = torch.zeros(1, 1, 6, 6)
    motion_map[0, 0, 0:3, 0:3], motion_map[0, 0, 1, 1] = 0.99, 1.0
    motion_map[0, 0, 3:6, 3:6], motion_map[0, 0, 4, 4] = 0.59, 0.6
    return motion_map


def test_each_hill_is_one_location():
    locations, found = best_locations(two_hills(), 4)
    assert locations[0, :2].tolist() == [1 * 6 + 1, 4 * 6 + 4]
    assert found.tolist() == [[True, True, False, False]]


def test_a_plateau_is_one_place_and_a_static_frame_has_none():
    plateau = torch.zeros(2, 1, 6, 6)
    plateau[0, 0, 1:5, 1:5] = 1.0
    locations, found = best_locations(plateau, 3)
    assert found.tolist() == [[True, False, False], [False] * 3]
    assert plateau[0].flatten()[locations[0, 0]] == 1


def test_an_independent_search_finds_the_same_locations():
    motion_map = torch.rand(3, 1, 9, 7)
    locations, found = best_locations(motion_map, 5)
    for frame in range(3):
        image = motion_map[frame, 0]
        peaks = [
            (image[y, x].item(), y * 7 + x)
            for y in range(9)
            for x in range(7)
            if image[y, x] == image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
        ]
        wanted = [location for _, location in sorted(peaks, reverse=True)[:5]]
        assert locations[frame][found[frame]].tolist() == wanted


@pytest.mark.parametrize("grid", [(3, 2), (6, 4), (12, 8)])
def test_features_are_read_at_the_centres_of_cells(grid):
    """Features that are the coordinates themselves: bilinear sampling gives them exactly, except at the border."""
    rows, columns = (torch.arange(12) + 0.5) / 12, (torch.arange(8) + 0.5) / 8
    features = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
    locations = torch.arange(grid[0] * grid[1])[None]
    found = sample_locations(features, locations, grid)[0]
    wanted = [((y + 0.5) / grid[0], (x + 0.5) / grid[1]) for y in range(grid[0]) for x in range(grid[1])]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_first_queries_are_seeded_and_the_others_stay():
    queries, features = torch.randn(2, 5, 3), torch.randn(2, 3, 6, 6)
    motion_map = torch.cat((two_hills(), torch.zeros(1, 1, 6, 6)))
    locations, found = best_locations(motion_map, 3)
    seeded = seed_queries(queries, sample_locations(features, locations, (6, 6)), found)
    torch.testing.assert_close(seeded[0, 0], features[0, :, 1, 1])
    torch.testing.assert_close(seeded[0, 1], features[0, :, 4, 4])
    assert torch.equal(seeded[0, 2:], queries[0, 2:]) and torch.equal(seeded[1], queries[1])


def make_mpqg(anchors, *overrides):
    cfg = get_cfg()
    cfg.merge_from_list(
        ["INPUT.SIZE", (32, 32), "MODEL.HIDDEN_DIM", 16, "MODEL.DECODER.NUM_QUERIES", 5, "MODEL.MPQG.PRE_DIM", 8]
        + ["MODEL.MPQG.MIXER_DIM", 8, "MODEL.MPQG.ANCHORS", anchors, *overrides]
    )
    torch.manual_seed(0)
    return MPQG(cfg).eval()


def test_static_frames_get_the_queries_they_would_have_without_anchors():
    features = torch.randn(2, 16, 8, 8)
    motion_map = torch.cat((two_hills(), torch.zeros(1, 1, 6, 6)))
    prompt = MotionPrompt(motion_map=motion_map, retrieved=torch.randn(2, 16))
    plain, anchored = make_mpqg(0), make_mpqg(2)
    anchored.load_state_dict(plain.state_dict())  # anchors add no parameters
    wanted, found = plain(features, prompt), anchored(features, prompt)
    assert torch.equal(found[1], wanted[1]) and not torch.allclose(found[0], wanted[0])
    assert torch.equal(anchored(features, None), plain(features, None))


def test_gradients_reach_features_and_gate_through_the_seeds():
    queries, features = torch.zeros(1, 5, 3, requires_grad=True), torch.randn(1, 3, 6, 6, requires_grad=True)
    locations, found = best_locations(two_hills(), 2)
    seed_queries(queries, sample_locations(features, locations, (6, 6)), found).sum().backward()
    assert features.grad[0, 0].nonzero().tolist() == [[1, 1], [4, 4]]
    assert queries.grad.sum((0, 2)).tolist() == [0, 0, 3, 3, 3]


def test_invalid_anchor_settings_are_refused():
    with pytest.raises(ValueError, match="needs a motion map"):
        make_mpqg(2, "MODEL.SKA.ENABLED", False)
    with pytest.raises(ValueError, match="ANCHORS is 6, but there are 5 queries"):
        make_mpqg(6)
    with pytest.raises(ValueError, match="GRID has only 4 locations"):
        make_mpqg(5, "MODEL.SKA.GRID", (2, 2))
