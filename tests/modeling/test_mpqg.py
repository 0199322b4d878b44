"""MPQG: PPQG as its off state, any grid, straight-through grouping."""

import torch

from ska_vct.modeling.mpqg import MPQG, PixelGrouping
from ska_vct.modeling.ska import MotionPrompt


def make_mpqg(motion=True, gate_init=1.0, grid=(8, 8), prototypes=0, **options):
    torch.manual_seed(0)
    return MPQG(
        mask_dim=16,
        dim=16,
        num_queries=5,
        mixer_grid=grid,
        pre_dim=16,
        mixer_dim=16,
        num_prototypes=prototypes,
        num_heads=4,
        tau=1.0,
        motion=motion,
        gate_init=gate_init,
        **options,
    ).eval()


def test_without_retrieval_the_map_alone_prompts():
    features = torch.randn(2, 16, 8, 8)
    retrieving, map_only = make_mpqg(), make_mpqg(retrieves=False)
    map_only.load_state_dict({k: v for k, v in retrieving.state_dict().items() if k in map_only.state_dict()})
    # The projection of what is retrieved starts at zero.
    one = prompt()
    assert torch.equal(map_only(features, one), retrieving(features, one))
    assert not [key for key in map_only.state_dict() if key.startswith("retrieved_proj")]


def prompt(value=None, frames=2):
    motion_map = torch.rand(frames, 1, 6, 6) if value is None else torch.full((frames, 1, 6, 6), value)
    return MotionPrompt(motion_map=motion_map, retrieved=torch.randn(frames, 16))


def test_without_motion_it_is_ppqg():
    features = torch.randn(2, 16, 8, 8)
    prompted, plain = make_mpqg(motion=True), make_mpqg(motion=False)
    plain.load_state_dict({k: v for k, v in prompted.state_dict().items() if k in plain.state_dict()})
    wanted = plain(features)
    assert torch.equal(prompted(features, None), wanted)
    assert torch.equal(prompted(features, prompt(0.0)), wanted)
    assert torch.equal(plain(features, prompt()), wanted)
    assert not torch.allclose(prompted(features, prompt()), wanted)


def test_a_gate_that_starts_at_zero_starts_as_ppqg_and_trains():
    features = torch.randn(2, 16, 8, 8)
    mpqg = make_mpqg(gate_init=0.0)
    assert torch.equal(mpqg(features, prompt()), mpqg(features, None))
    mpqg(features, prompt()).square().sum().backward()
    assert mpqg.motion_gate.grad.abs() > 0 and mpqg.retrieved_proj.weight.grad.abs().sum() > 0


def test_other_grids_than_the_mixer_was_made_for():
    for size in ((8, 8), (5, 9), (20, 12)):
        assert make_mpqg(prototypes=3)(torch.randn(1, 16, *size), prompt(frames=1)).shape == (1, 5, 16)


def test_grouping_gives_each_pixel_to_one_query_and_passes_soft_gradients():
    torch.manual_seed(0)
    grouping = PixelGrouping(dim=8, tau=1.0)
    queries, pixels = torch.randn(2, 3, 8, requires_grad=True), torch.randn(2, 10, 8)
    for training in (True, False):
        assignment = grouping.train(training).assign(queries, pixels)
        assert torch.allclose(assignment.sum(1), torch.ones(2, 10), atol=1e-6)
        # one-hot up to the rounding of hard - soft + soft
        assert torch.allclose(assignment.max(1).values, torch.ones(2, 10), atol=1e-6)
    (assignment * torch.randn(2, 3, 10)).sum().backward()
    assert queries.grad.abs().sum() > 0


def test_grouping_by_hand():
    grouping = PixelGrouping(dim=1, tau=1.0).eval()
    with torch.no_grad():
        for proj in (grouping.q_proj, grouping.k_proj, grouping.v_proj, grouping.out_proj):
            proj.weight.fill_(1.0)
            proj.bias.zero_()
        queries, pixels = torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[[2.0], [4.0], [-3.0]]])
        # Pixels 2 and 4 agree in sign with query 1, pixel -3 with query 2: 1 + 6 / (2 + 1), -1 + (-3) / (1 + 1).
        assert grouping(queries, pixels).flatten().tolist() == [3.0, -2.5]
