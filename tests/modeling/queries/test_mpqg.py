"""MPQG: PPQG as its off state, any grid, straight-through grouping."""

import math

import pytest
import torch
import torch.nn.functional as F

from ska_vct.modeling.motion.ska import MotionPrompt
from ska_vct.modeling.queries.anchors import best_locations, sample_locations
from ska_vct.modeling.queries.mpqg import MPQG, PixelGrouping, Pixels, sample_gumbel_of_clips


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


def plain_pixels(maps):
    """(N, C, h, w) as they are."""
    scale, width = torch.ones_like(maps[:, :1]), maps.shape[1]
    return Pixels(hidden=maps, scale=scale, weight=torch.eye(width), bias=torch.zeros(width))


def queries_of_made_pixels(mpqg, features, prompt, noise):
    """MPQG word for word: pixels, keys and values are made, then read."""
    x = mpqg.pre_proj(features)
    if prompt is not None:
        x = x * (1 + mpqg.motion_gate * F.interpolate(prompt.motion_map, size=x.shape[-2:], mode="bilinear"))
    mixed = F.interpolate(x, size=mpqg.mixer_grid, mode="bilinear")
    queries = mpqg.query_mixer(mixed.flatten(2)).transpose(1, 2)
    if prompt is not None and mpqg.anchors:
        locations, found = best_locations(prompt.motion_map, mpqg.anchors)
        seeds = sample_locations(x, locations, (6, 6))
        queries = torch.cat((torch.where(found[..., None], seeds, queries[:, : mpqg.anchors]), queries[:, 2:]), 1)
    if prompt is not None:
        queries = queries + mpqg.retrieved_proj(prompt.retrieved)[:, None]
    grouping, pixels = mpqg.grouping, x.flatten(2).mT
    logits = grouping.q_proj(queries) @ grouping.k_proj(pixels).mT / queries.shape[-1] ** 0.5 + noise
    soft = logits.softmax(1)
    shares = F.one_hot(logits.argmax(1), soft.shape[1]).mT - soft.detach() + soft
    shares = shares / (shares.sum(-1, keepdim=True) + 1)
    return queries + grouping.out_proj(shares @ grouping.v_proj(pixels)) + mpqg.query_feat.weight


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
def test_pixels_that_are_never_made_give_the_same_queries_and_gradients(monkeypatch, prompted, size):
    mpqg = make_mpqg(anchors=2).double().train()
    with torch.no_grad():
        for parameter in mpqg.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    features = torch.randn(2, 16, *size, dtype=torch.float64, requires_grad=True)
    one = None
    if prompted:
        one = MotionPrompt(
            motion_map=torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True),
            retrieved=torch.randn(2, 16, dtype=torch.float64),
        )
    noise = torch.randn(2, 5, size[0] * size[1], dtype=torch.float64)
    monkeypatch.setattr("ska_vct.modeling.queries.mpqg.sample_gumbel", lambda shape, like: noise)
    leaves = [features, *mpqg.pre_proj.parameters(), *mpqg.query_mixer.parameters(), *mpqg.grouping.parameters()]
    leaves += [one.motion_map, mpqg.motion_gate] if prompted else []
    weights = torch.randn(2, 5, 16, dtype=torch.float64)
    results = []
    for queries in (mpqg(features, one), queries_of_made_pixels(mpqg, features, one, noise)):
        results.append((queries, *torch.autograd.grad((queries * weights).sum(), leaves)))
    for ours, wanted in zip(*results, strict=True):
        # The same numbers in another order of sums.
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


def test_grouping_gives_each_pixel_to_one_query_and_passes_soft_gradients():
    torch.manual_seed(0)
    grouping = PixelGrouping(dim=8, tau=1.0)
    queries, pixels = torch.randn(2, 3, 8, requires_grad=True), plain_pixels(torch.randn(2, 8, 2, 5))
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
        queries, pixels = torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[[[2.0, 4.0, -3.0]]]])
        # Pixels 2 and 4 agree in sign with query 1, pixel -3 with query 2: 1 + 6 / (2 + 1), -1 + (-3) / (1 + 1).
        assert grouping(queries, plain_pixels(pixels)).flatten().tolist() == [3.0, -2.5]


def test_noise_of_a_clip_depends_on_its_seed_alone():
    like = torch.zeros(1)
    alone = [sample_gumbel_of_clips((n, 3, 4), like, [(seed, n)]) for seed, n in ((7, 2), (8, 1))]
    together = sample_gumbel_of_clips((3, 3, 4), like, [(8, 1), (7, 2)])
    assert torch.equal(together, torch.cat(alone[::-1]))
    state = torch.get_rng_state()
    many = sample_gumbel_of_clips((1, 100, 1000), like, [(9, 1)])
    # The mean of standard Gumbel noise is Euler's constant, its variance pi^2 / 6.
    assert many.mean() == pytest.approx(0.5772, abs=0.01) and many.var() == pytest.approx(math.pi**2 / 6, abs=0.03)
    assert torch.equal(torch.get_rng_state(), state), "the training's own numbers are not used"


def test_training_with_seeds_repeats_and_without_seeds_does_not():
    mpqg, features = make_mpqg(motion=False).train(), torch.randn(1, 16, 8, 8)
    first, second, other = (mpqg(features, noise=[(seed, 1)]) for seed in (5, 5, 6))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert not torch.equal(mpqg(features), mpqg(features))
