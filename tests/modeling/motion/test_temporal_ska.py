"""Temporal SKA: time matters, stillness is dark, everything trains."""

import pytest
import torch

from ska_vct.modeling.motion.temporal_ska import TemporalSKA


def make_ska(**options):
    torch.manual_seed(0)
    defaults = dict(dim=32, grid=(12, 12), num_heads=4, series_dim=8, match_scale=6.0, energy_init=1.0)
    return TemporalSKA(**defaults | options)


def pulses(steps):
    """Motion of a place that moves at ``steps`` of ten only: (10,)."""
    series = torch.zeros(10)
    series[list(steps)] = 1.0
    return series


def two_movers():
    """Left and right patch move equally much, at different times: (1, 10, 2, 24, 24)."""
    flow = torch.zeros(1, 10, 2, 24, 24)
    flow[0, :, 0, 8:16, 2:8] = pulses({1, 2, 6})[:, None, None]
    flow[0, :, 0, 8:16, 16:22] = pulses({4, 8, 9})[:, None, None]
    return flow


def sound_at(steps):
    """Log-mel that is loud at ``steps`` of ten only."""
    envelope = pulses(steps).repeat_interleave(10)[:96]
    return -4.6 + 4 * envelope[None, None, :, None].expand(1, 1, 96, 64)


def sides(ska, steps):
    motion_map = ska(torch.zeros(1, 32, 6, 4), sound_at(steps), two_movers()).motion_map[0, 0]
    return motion_map[4:8, 1:4].mean(), motion_map[4:8, 8:11].mean()


def test_the_mover_in_step_with_the_sound_can_be_told_from_the_other():
    ska = make_ska()
    optimizer = torch.optim.Adam(ska.parameters(), lr=0.01)
    for _ in range(60):
        left = sides(ska, {1, 2, 6})
        right = sides(ska, {4, 8, 9})
        loss = left[1] - left[0] + right[0] - right[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert left[0] > left[1] + 0.5 and right[1] > right[0] + 0.5


def test_energy_decides_before_anything_is_learnt():
    ska = make_ska()
    ska.match_scale = 0.0
    motion_map = ska(torch.zeros(1, 32, 6, 4), sound_at({1}), two_movers()).motion_map[0, 0]
    assert motion_map[5, 2] > 0.9 and motion_map[5, 9] > 0.9 and motion_map[0].max() == 0


def test_without_the_prior_energy_decides_nothing():
    ska = make_ska(energy_init=None)
    ska.match_scale = 0.0
    assert ska(torch.zeros(1, 32, 6, 4), sound_at({1}), two_movers()).motion_map.eq(0).all()
    assert "energy_weight" not in dict(ska.named_parameters())


def test_still_scenes_give_an_exactly_zero_map():
    flow = torch.cat((torch.zeros(1, 10, 2, 24, 24), torch.full((1, 10, 2, 24, 24), 0.3)))
    prompt = make_ska()(torch.zeros(2, 32, 6, 4), torch.randn(2, 1, 96, 64), flow)
    assert prompt.motion_map.eq(0).all() and prompt.retrieved.eq(0).all()


def test_every_parameter_trains():
    ska = make_ska()
    prompt = ska(torch.zeros(1, 32, 6, 4), torch.randn(1, 1, 96, 64), two_movers())
    (prompt.motion_map.square().sum() + prompt.retrieved.sum()).backward()
    # What is added to a whole series is centred away again.
    constant = {"audio_encoder.2.bias"}
    silent = {name for name, p in ska.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12}
    assert silent <= constant


def test_one_field_per_second_is_no_series():
    with pytest.raises(ValueError, match="INPUT.FLOW.SERIES"):
        make_ska()(torch.zeros(1, 32, 6, 4), torch.zeros(1, 1, 96, 64), torch.zeros(1, 1, 2, 24, 24))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("channels", ["magnitude", "uvm"])
@pytest.mark.parametrize("steps", [0, 4, 10, 25])
def test_the_match_is_the_cosine_of_what_the_encoders_give(centred, channels, steps):
    ska = make_ska(centred=centred, channels=channels, steps=steps)
    count, steps = {"magnitude": 1, "uvm": 3}[channels], steps or 10
    series, sound = torch.rand(2, 10 * count, 144), torch.randn(2, 32, steps)
    # As long as it can be: every place through resampling and encoder, normalised by torch.
    fields = series.view(2, 10, count, 144).permute(0, 3, 2, 1).reshape(-1, count, 10)
    if steps < 10:
        fields = torch.nn.functional.adaptive_avg_pool1d(fields, steps)
    elif steps > 10:
        fields = torch.nn.functional.interpolate(fields, size=steps, mode="linear")
    motion, heard = ska.motion_encoder(fields).view(2, 144, 4, 8, steps), sound.view(2, 1, 4, 8, steps)
    if centred:
        motion, heard = (x - x.mean(-1, keepdim=True) for x in (motion, heard))
    wanted = torch.nn.functional.cosine_similarity(motion.flatten(3), heard.flatten(3), dim=-1)
    # Both are float32; the floor under the norm changes a cosine by less than 1e-5 of itself here.
    torch.testing.assert_close(ska._match(series, sound), wanted.transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_direction_counts_with_uvm_and_energy_stays_the_magnitude():
    flow = torch.zeros(1, 10, 2, 24, 24)
    flow[0, :, 0, 8:16, 2:8] = pulses({1, 2, 6})[:, None, None]
    flow[0, :, 0, 8:16, 16:22] = -pulses({1, 2, 6})[:, None, None]  # the same, to the left
    for channels, same in (("magnitude", True), ("uvm", False)):
        ska = make_ska(channels=channels, energy_init=None)
        motion_map = ska(torch.zeros(1, 32, 6, 4), sound_at({1}), flow).motion_map[0, 0]
        assert (abs(motion_map[5, 2] - motion_map[5, 9]) < 1e-5) == same
        ska = make_ska(channels=channels)
        ska.match_scale = 0.0
        motion_map = ska(torch.zeros(1, 32, 6, 4), sound_at({1}), flow).motion_map[0, 0]
        assert motion_map[5, 2].item() == pytest.approx(1) and motion_map[5, 9].item() == pytest.approx(1)
        assert motion_map[0].max() == 0


def test_steps_and_channels_train_and_read_the_whole_second():
    ska = make_ska(steps=20, channels="uvm")
    flow = (two_movers() + 0.01 * torch.rand(1, 10, 2, 24, 24)).requires_grad_()
    sound = torch.randn(1, 1, 96, 64, requires_grad=True)
    prompt = ska(torch.zeros(1, 32, 6, 4), sound, flow)
    (prompt.motion_map.square().sum() + prompt.retrieved.sum()).backward()
    assert [name for name, p in ska.named_parameters() if p.grad is None] == []
    # Each field and each 10 ms of sound has a say.
    assert flow.grad.abs().amax((0, 2, 3, 4)).min() > 0 and sound.grad.abs().amax((0, 1, 3)).min() > 0


@pytest.mark.parametrize("steps", [1, -1])
def test_one_step_is_no_series_either(steps):
    with pytest.raises(ValueError, match="MODEL.SKA.STEPS"):
        make_ska(steps=steps)
