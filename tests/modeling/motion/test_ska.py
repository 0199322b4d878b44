"""SKA: what lights up, what must stay dark, and what trains."""

import pytest
import torch

from ska_vct.config import get_cfg
from ska_vct.modeling.motion.ska import SKA, add_energy, build_ska, is_still, min_max, reduce_flow
from ska_vct.modeling.queries.mpqg import MPQG


def make_ska(channels="magnitude", energy_init=None):
    torch.manual_seed(0)
    return SKA(dim=32, flow_dim=8, grid=(12, 12), channels=channels, num_heads=4, energy_init=energy_init)


def log_mel(frames):
    return torch.zeros(frames, 1, 96, 64)


def moving_flow(frames=2, series=1):
    flow = torch.zeros(frames, series, 2, 24, 24)
    flow[:, :, 0, 6:12, 6:12] = 0.8
    return flow


@pytest.mark.parametrize("channels", ["magnitude", "uvm"])
@pytest.mark.parametrize("training", [True, False])
def test_a_still_or_evenly_moving_scene_gives_an_exactly_zero_map(channels, training):
    ska = make_ska(channels).train(training)
    flow = torch.cat((torch.zeros(1, 1, 2, 24, 24), torch.full((1, 1, 2, 24, 24), 1 / 3), moving_flow(1)))
    prompt = ska(torch.randn(3, 32, 6, 4), log_mel(3), flow)
    assert prompt.motion_map[:2].eq(0).all() and prompt.retrieved[:2].eq(0).all()
    assert prompt.motion_map[2].amax() == 1 and prompt.motion_map[2].amin() == 0


def test_the_map_is_per_frame():
    ska = make_ska().eval()
    audio, flow = torch.randn(2, 32, 6, 4), torch.cat((moving_flow(1), moving_flow(1).flip(-1)))
    both = ska(audio, log_mel(2), flow).motion_map
    assert torch.allclose(
        both[1], ska(audio[1:], log_mel(1), flow[1:]).motion_map[0], atol=1e-5
    )  # batched matmul rounding


def test_every_parameter_trains():
    ska = make_ska()
    prompt = ska(torch.randn(2, 32, 6, 4), log_mel(2), moving_flow())
    (prompt.motion_map.square().sum() + prompt.retrieved.sum()).backward()
    silent = [name for name, p in ska.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    # A key's bias-free projection is followed by a softmax, so only a constant shift of a key is lost: none here.
    assert silent == []


def test_reduce_flow_is_the_mean_magnitude():
    flow = torch.zeros(1, 2, 2, 1, 1)
    flow[0, 0, :, 0, 0] = torch.tensor([3.0, 4.0])
    assert reduce_flow(flow, "magnitude").item() == 2.5  # (5 + 0) / 2
    assert reduce_flow(flow, "uvm").flatten().tolist() == [1.5, 2.0, 2.5]


def test_is_still_tolerates_resizing_noise_only():
    even = torch.full((1, 1, 4, 4), 0.3)
    noisy = even + 1e-6 * torch.rand(1, 1, 4, 4)
    moving = even.clone()
    moving[..., 0, 0] = 0.31
    assert is_still(torch.cat((even, noisy, moving))).tolist() == [True, True, False]


def test_min_max_of_uniform_attention_is_zero():
    uniform = torch.full((1, 9), 1 / 9) + 1e-9 * torch.arange(9)
    assert min_max(uniform).eq(0).all()
    assert min_max(torch.tensor([[0.1, 0.4, 0.5]])).tolist()[0] == pytest.approx([0, 0.75, 1])


def test_unknown_channels_are_refused():
    with pytest.raises(ValueError, match="MODEL.SKA.CHANNELS"):
        make_ska("colour")


def test_energy_by_hand():
    logits, weight = torch.zeros(1, 1, 2), torch.tensor(2.0)
    # (magnitude + 0.03) ** weight before the softmax: 0.1 ** 2 against 0.3 ** 2, so 1 to 9.
    attention = add_energy(logits, torch.tensor([[0.07, 0.27]]), weight).softmax(-1)
    assert attention.flatten().tolist() == pytest.approx([0.1, 0.9])
    assert add_energy(logits, torch.tensor([[0.07, 0.27]]), None) is logits


@pytest.mark.parametrize("channels", ["magnitude", "uvm"])
def test_energy_of_the_published_form_is_the_magnitude(channels):
    ska = make_ska(channels, energy_init=1.0).eval()
    torch.nn.init.zeros_(ska.q_proj.weight)  # nothing but the energy decides
    flow = torch.zeros(1, 2, 2, 12, 12)
    flow[0, 0, 0, 2, 2], flow[0, :, 1, 8, 8] = -0.5, -0.5  # means over the second: 0.25 and 0.5
    motion_map = ska(torch.randn(1, 32, 6, 4), log_mel(1), flow).motion_map[0, 0]
    # Attention is proportional to magnitude + 0.03, and min-max takes the 0.03 away.
    assert motion_map[2, 2].item() == pytest.approx(0.5, abs=1e-5) and motion_map[8, 8] == 1
    assert motion_map.count_nonzero() == 2
    ska.zero_grad()
    ska(torch.randn(1, 32, 6, 4), log_mel(1), flow).motion_map.sum().backward()
    assert ska.energy_weight.grad.abs() > 0


@pytest.mark.parametrize(
    ("name", "prior", "has"),
    [("SKA", "auto", False), ("SKA", "on", True), ("SKA", "off", False)]
    + [("TemporalSKA", "auto", True), ("TemporalSKA", "on", True), ("TemporalSKA", "off", False)],
)
def test_the_prior_is_a_choice(name, prior, has):
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.SKA.NAME", name, "MODEL.SKA.ENERGY_PRIOR", prior, "MODEL.SKA.ENERGY_INIT", 0.5])
    weights = {key: value for key, value in build_ska(cfg).state_dict().items() if key == "energy_weight"}
    assert weights == ({"energy_weight": torch.tensor(0.5)} if has else {})


def test_an_unknown_prior_is_refused():
    cfg = get_cfg()
    cfg.MODEL.SKA.ENERGY_PRIOR = "yes"
    with pytest.raises(ValueError, match="ENERGY_PRIOR is 'yes'; choose one of auto, on, off"):
        build_ska(cfg)


def test_flow_magnitude_is_the_mean_magnitude_and_hears_nothing():
    cfg = get_cfg()
    cfg.MODEL.SKA.NAME, cfg.MODEL.SKA.GRID = "FlowMagnitude", (4, 4)
    ska = build_ska(cfg)
    flow = torch.zeros(3, 2, 2, 4, 4)
    flow[0, 0, :, 1, 1] = torch.tensor([3.0, 4.0])
    flow[0, :, 0, 2, 2] = 10.0
    flow[2] = 0.7
    prompts = [ska(torch.randn(3, 32, 6, 4), torch.randn(3, 1, 96, 64), flow) for _ in range(2)]
    assert torch.equal(prompts[0].motion_map, prompts[1].motion_map)
    motion_map = prompts[0].motion_map
    # Means over the two fields: (5 + 0) / 2 and 10; still and evenly moving frames have no map.
    assert motion_map[0, 0, 1, 1] == 0.25 and motion_map[0, 0, 2, 2] == 1 and motion_map.count_nonzero() == 2
    assert prompts[0].retrieved.shape == (3, 32) and prompts[0].retrieved.eq(0).all()
    assert list(ska.parameters()) == []


def test_queries_expect_retrieved_motion_only_of_modules_that_retrieve():
    for name, wanted in (("SKA", True), ("TemporalSKA", True), ("FlowMagnitude", False)):
        cfg = get_cfg()
        cfg.INPUT.SIZE, cfg.MODEL.SKA.NAME = (32, 32), name
        mpqg = MPQG(cfg)
        assert (mpqg.retrieved_proj is not None) == wanted and hasattr(mpqg, "motion_gate")
