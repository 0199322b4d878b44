"""Temporal SKA: time matters, stillness is dark, everything trains."""

import math

import pytest
import torch

from ska_vct.modeling.motion.temporal_ska import TemporalSKA
from ska_vct.utils.errors import InputError


def make_ska(**options):
    torch.manual_seed(0)
    defaults = dict(
        dim=32, grid=(12, 12), num_heads=4, series_dim=8, match_scale=6.0, energy_init=1.0, confidence=False
    )
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
    envelope = pulses(steps).repeat_interleave(10)
    return -4.6 + 4 * envelope[None, None, :, None].expand(1, 1, 100, 64)


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
    prompt = make_ska()(torch.zeros(2, 32, 6, 4), torch.randn(2, 1, 100, 64), flow)
    assert prompt.motion_map.eq(0).all() and prompt.retrieved.eq(0).all()


def test_every_parameter_trains():
    ska = make_ska()
    prompt = ska(torch.zeros(1, 32, 6, 4), torch.randn(1, 1, 100, 64), two_movers())
    (prompt.motion_map.square().sum() + prompt.retrieved.sum()).backward()
    # What is added to a whole series is centred away again.
    constant = {"audio_encoder.2.bias"}
    silent = {name for name, p in ska.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12}
    assert silent <= constant


def test_one_field_per_second_is_no_series():
    with pytest.raises(ValueError, match="INPUT.FLOW.SERIES"):
        make_ska()(torch.zeros(1, 32, 6, 4), torch.zeros(1, 1, 100, 64), torch.zeros(1, 1, 2, 24, 24))


def slow_cosine(ska, series, audio, steps):
    """Cosine of every location's motion with the audio, the long way: (N, H, L).

    Args:
        series: (N, S*c, L).
        audio: (N, 1, 100, 64), NaN where it is unknown.
    """
    count = ska.motion_encoder.in_channels
    cosines = torch.zeros(len(series), 4, series.shape[2])
    for n, (locations, sound) in enumerate(zip(series, audio[:, 0], strict=True)):
        known = ~sound[:, 0].isnan()
        last = 0
        sound = sound.clone() + 4.605170185988091
        for hop in range(100):
            last = hop if known[hop] else last
            sound[hop] = sound[last]
        heard = resample(ska.audio_encoder(sound.T[None]), steps).view(4, 8, steps)
        weight = resample(known.float()[None, None], steps)[0, 0]
        for index, location in enumerate(locations.T):
            motion = ska.motion_encoder(resample(location.view(1, -1, count).transpose(1, 2), steps)).view(
                4, 8, steps
            )
            for head in range(4):
                a, b = motion[head], heard[head]
                if ska.centred:
                    a, b = (x - (x * weight).sum(-1, keepdim=True) / weight.sum() for x in (a, b))
                norms = ((a * a * weight).sum() * (b * b * weight).sum()).sqrt()
                cosines[n, head, index] = (a * b * weight).sum() / norms
    return cosines


def resample(x, steps):
    if steps <= x.shape[-1]:
        return torch.nn.functional.adaptive_avg_pool1d(x, steps)
    return torch.nn.functional.interpolate(x, size=steps, mode="linear")


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("channels", ["magnitude", "uvm"])
@pytest.mark.parametrize("steps", [0, 4, 25])
@torch.no_grad()
def test_the_match_is_the_cosine_of_what_the_encoders_give(centred, channels, steps):
    ska = make_ska(centred=centred, channels=channels, steps=steps)
    steps = steps or 10
    series = torch.rand(2, 10 * ska.motion_encoder.in_channels, 6)
    audio = torch.randn(2, 1, 100, 64)
    audio[1, :, 83:] = torch.nan
    heard = ska._hear(audio, steps)
    found = ska._match(ska._response(series, steps), series[:, None], heard)
    # Both are float32; the floor under the norm changes a cosine by less than 1e-5 of itself here.
    torch.testing.assert_close(found, slow_cosine(ska, series, audio, steps), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_regions_are_compared_with_the_audio_of_every_frame():
    ska = make_ska()
    flow, audio = torch.rand(3, 10, 2, 12, 12), torch.randn(3, 1, 100, 64)
    audio[2, :, 60:] = torch.nan
    regions = torch.rand(3, 144)
    regions = regions / regions.sum(1, keepdim=True)
    found = ska(torch.zeros(3, 32, 6, 4), audio, flow).region_match(regions)
    pooled = flow.square().sum(2).sqrt().flatten(2) @ regions[..., None]  # N, S, 1
    for m in range(3):
        wanted = slow_cosine(ska, pooled, audio[m : m + 1].expand(3, -1, -1, -1), 10).mean(1)[:, 0]
        torch.testing.assert_close(found[:, m], wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_unknown_hops_count_nothing():
    ska = make_ska()
    audio = sound_at({1, 2, 6})
    shorter = audio.clone()
    shorter[:, :, 70:] = torch.nan
    flow = two_movers()
    flow[0, 7:, 0, 8:16, 2:8] = 5.0  # what the left one does then is not judged
    calm = flow.clone()
    calm[0, 7:, 0, 8:16, 2:8] = 0.0
    heard = ska._hear(shorter, 10)
    assert heard.weight[0].tolist() == [1.0] * 7 + [0.0] * 3
    series = [f.square().sum(2).sqrt().flatten(2)[:, None] for f in (flow, calm)]
    response = ska._response(series[0][:, 0], 10)
    # The motion encoder looks one step ahead, so that only its last known step differs.
    first, second = (ska._match(response, x, heard) for x in series)
    assert (first - second).abs().max() < (
        ska._match(response, series[0], ska._hear(audio, 10)) - second
    ).abs().max()
    nothing = ska(torch.zeros(1, 32, 6, 4), torch.full((1, 1, 100, 64), torch.nan), flow)
    assert nothing.motion_map.isfinite().all() and nothing.retrieved.isfinite().all()


@torch.no_grad()
def test_confidence_makes_silence_dark_and_leaves_where_alone():
    ska = make_ska(confidence=True)
    plain = make_ska()
    plain.load_state_dict({k: v for k, v in ska.state_dict().items() if not k.startswith("confidence.")})
    audio, flow = sound_at({1, 2, 6}), two_movers()
    silence = torch.full((1, 1, 100, 64), math.log(0.01))
    grid = torch.zeros(1, 32, 6, 4)
    where, both = plain(grid, audio, flow), ska(grid, audio, flow)
    share = both.motion_map / where.motion_map.clamp(min=1e-9)
    assert 0.5 < share.max() < 1 and share[where.motion_map > 0].std() < 1e-5
    dark = ska(grid, silence, flow)
    assert dark.motion_map.eq(0).all() and dark.retrieved.eq(0).all()
    assert plain(grid, silence, flow).motion_map.max() == 1


@torch.no_grad()
def test_noise_below_the_speed_floor_is_dark_and_motion_above_it_is_not():
    ska = make_ska(speed_floor=0.04)
    noise = 1e-4 * torch.randn(1, 10, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    grid, audio = torch.zeros(1, 32, 6, 4), sound_at({1, 2, 6})
    still, moving = ska(grid, audio, noise), ska(grid, audio, noise + two_movers())
    assert still.motion_map.max() < 1e-4 and moving.motion_map.max() > 0.9
    # The relative rule alone stretches noise to full range.
    assert make_ska()(grid, audio, noise).motion_map.max() == 1
    assert moving.moving[0, 0, 5, 2] > 0.9 and moving.moving[0, 0, 0, 0] < 1e-4


def test_silence_beside_the_second_is_no_click():
    """A steady tone has no event; zeros beside it would be one."""
    ska, old = make_ska(), make_ska(audio="patch")
    steady = torch.full((1, 1, 100, 64), -2.0)
    embedded = resample(ska.audio_encoder(steady[:, 0].transpose(1, 2) + 4.6), 10)
    assert embedded.std(-1).max() < 1e-6
    clicked = resample(old.audio_encoder(steady[:, 0].transpose(1, 2)), 10)
    assert clicked.std(-1).max() > 0.01


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


def test_each_location_is_judged_on_its_own_with_a_sigmoid():
    """A third object, however well it matches, takes nothing from the others; the stretched attention does."""

    def left(**options):
        ska = make_ska(**options)
        flows = two_movers(), two_movers()
        # The object on the right gets all the energy in the second flow.
        flows[1][0, :, 0, 8:16, 16:22] *= 20
        maps = [ska(torch.zeros(1, 32, 6, 4), sound_at({1, 2, 6}), flow).motion_map[0, 0] for flow in flows]
        return [motion_map[4:8, 1:4].mean().item() for motion_map in maps]

    alone, beside = left(map_form="sigmoid")
    assert alone == pytest.approx(beside, abs=1e-6) and alone > 0
    alone, beside = left()
    assert beside < alone / 2


def test_the_sigmoid_map_is_dark_in_silence_and_where_nothing_moves():
    ska = make_ska(map_form="sigmoid", confidence=True, speed_floor=0.1)
    silent = torch.full((1, 1, 100, 64), math.log(0.01))
    assert ska(torch.zeros(1, 32, 6, 4), silent, two_movers()).motion_map.eq(0).all()
    motion_map = ska(torch.zeros(1, 32, 6, 4), sound_at({1, 2, 6}), two_movers()).motion_map[0, 0]
    assert motion_map[0].max() == 0 and motion_map[4:8, 1:4].min() > 0


def test_the_sigmoid_form_trains_whole():
    ska = make_ska(map_form="sigmoid", confidence=True)
    prompt = ska(torch.zeros(1, 32, 6, 4), sound_at({1, 2, 6}), two_movers())
    (prompt.motion_map[0, 0, 5, 2] + prompt.retrieved.sum()).backward()
    assert [name for name, p in ska.named_parameters() if p.grad is None] == []
    assert ska.confidence is None


def test_an_unknown_form_of_the_map_is_refused():
    with pytest.raises(InputError, match="softmax or sigmoid"):
        make_ska(map_form="tanh")


def test_weak_motion_is_judged_like_strong_motion_with_energy_in_the_frame_s_unit():
    """Up to the absolute floor: ten times slower gives the same map, a thousand times slower darkness."""

    def largest(factor, unit):
        ska = make_ska(map_form="sigmoid", speed_floor=1e-3, energy_unit=unit)
        flow = two_movers() * factor
        return ska(torch.zeros(1, 32, 6, 4), sound_at({1, 2, 6}), flow).motion_map.max().item()

    assert largest(0.1, "frame") == pytest.approx(largest(1.0, "frame"), rel=0.02)
    assert largest(0.1, "flow") < 0.8 * largest(1.0, "flow")
    assert largest(1e-4, "frame") < 0.02
    with pytest.raises(InputError, match="flow or frame"):
        make_ska(energy_unit="pixel")
