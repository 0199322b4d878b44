"""SKA: what lights up, what must stay dark, and what trains."""

import pytest
import torch

from ska_vct.modeling.ska import SKA, is_still, min_max, reduce_flow


def make_ska(channels="magnitude"):
    torch.manual_seed(0)
    return SKA(dim=32, flow_dim=8, grid=(12, 12), channels=channels, num_heads=4)


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
