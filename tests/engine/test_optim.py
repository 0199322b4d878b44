"""Which parameter gets which learning rate and decay, clipping, and schedules that can be prolonged."""

import math

import pytest
import torch
from torch import nn

from ska_vct.engine.optim import (
    AdamW,
    WarmupPolyLR,
    apply_schedule,
    build_lr_scheduler,
    build_optimizer,
    get_parameter_groups,
)


class Audio(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.mlp = nn.Linear(2, 2)


class Fake(nn.Module):
    """One parameter of every kind that is treated differently."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.network = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        self.backbone.relative_position_bias_table = nn.Parameter(torch.ones(3))
        self.backbone_gate = nn.Linear(2, 2)
        self.audio_encoder = Audio()
        self.norm = nn.GroupNorm(1, 2)
        self.query_feat = nn.Embedding(3, 2)
        self.level_embed = nn.Parameter(torch.ones(3))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.shared = self.backbone_gate


# (learning rate / base, weight decay) of every parameter that trains.
EXPECTED = {
    "backbone.relative_position_bias_table": (0.1, 0.0),
    "backbone.network.0.weight": (0.1, 0.05),
    "backbone.network.0.bias": (0.1, 0.05),
    "backbone.network.1.weight": (0.1, 0.002),
    "backbone.network.1.bias": (0.1, 0.002),
    "backbone_gate.weight": (1.0, 0.05),
    "backbone_gate.bias": (1.0, 0.05),
    "audio_encoder.backbone.0.weight": (0.1, 0.05),
    "audio_encoder.backbone.0.bias": (0.1, 0.05),
    "audio_encoder.backbone.1.weight": (0.1, 0.002),
    "audio_encoder.backbone.1.bias": (0.1, 0.002),
    "audio_encoder.mlp.weight": (1.0, 0.05),
    "audio_encoder.mlp.bias": (1.0, 0.05),
    "norm.weight": (1.0, 0.002),
    "norm.bias": (1.0, 0.002),
    "query_feat.weight": (1.0, 0.003),
    "level_embed": (1.0, 0.05),
}


@pytest.fixture
def paper_cfg(tiny_cfg):
    tiny_cfg.SOLVER.WEIGHT_DECAY_NORM, tiny_cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.002, 0.003
    tiny_cfg.SOLVER.MAX_ITER = 100
    return tiny_cfg


def test_groups(paper_cfg):
    model = Fake()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = get_parameter_groups(paper_cfg, model)
    found = {
        names[parameter]: (pytest.approx(group["lr"] / 1e-4), group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert found == EXPECTED
    assert sum(len(group["params"]) for group in groups) == len(EXPECTED)
    # Merged: one group per pair of learning rate and decay.
    assert len(groups) == len(set(EXPECTED.values()))


def test_the_audio_encoder_may_have_its_own_rate(paper_cfg):
    """A new one beside a pretrained visual backbone."""
    paper_cfg.SOLVER.AUDIO_MULTIPLIER = 1.0
    model = Fake()
    rates = {id(p): group["lr"] for group in get_parameter_groups(paper_cfg, model) for p in group["params"]}
    assert rates[id(model.audio_encoder.backbone[0].weight)] == paper_cfg.SOLVER.BASE_LR
    assert rates[id(model.backbone.network[0].weight)] == pytest.approx(0.1 * paper_cfg.SOLVER.BASE_LR)


def test_the_whole_model_is_grouped_once(paper_cfg):
    from detectron2.modeling import build_model

    import ska_vct.modeling  # noqa: F401

    model = build_model(paper_cfg)
    groups = get_parameter_groups(paper_cfg, model)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)) == len([p for p in model.parameters() if p.requires_grad])
    backbones = {
        id(p) for n, p in model.named_parameters() if n.startswith(("backbone.", "audio_encoder.backbone."))
    }
    for group in groups:
        assert {id(p) in backbones for p in group["params"]} == {group["lr"] < 5e-5}


def test_the_norm_of_all_gradients_together_is_clipped(paper_cfg):
    paper_cfg.SOLVER.CLIP_FULL_MODEL_NORM = 0.5
    model = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
    optimizer = build_optimizer(paper_cfg, model)
    model["a"].weight.grad = torch.tensor([[3.0]])
    model["b"].weight.grad = torch.tensor([[4.0]])
    optimizer.step()
    # Norm 5 before; each gradient times 0.5 / 5 after.
    assert optimizer.grad_norm.item() == pytest.approx(5.0)
    assert model["a"].weight.grad.item() == pytest.approx(0.3, rel=1e-4)
    assert model["b"].weight.grad.item() == pytest.approx(0.4, rel=1e-4)


def test_a_step_is_adamw_s(paper_cfg):
    paper_cfg.SOLVER.CLIP_FULL_MODEL_NORM = 0.0
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = build_optimizer(paper_cfg, model)
    weight, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0), start=1):
        model.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        # Loshchilov & Hutter, ICLR 2019, with lr 1e-4, decay 0.05 and PyTorch's betas and epsilon.
        weight *= 1 - 1e-4 * 0.05
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weight -= 1e-4 * mean / (1 - 0.9**step) / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
        # Rounding of float32 near 2 is 1.2e-7.
        assert model.weight.item() == pytest.approx(weight, abs=3e-7)


def test_infinite_gradients_stop_training_before_the_weights_change(paper_cfg):
    model = nn.Linear(1, 1)
    before = model.weight.clone()
    optimizer = build_optimizer(paper_cfg, model)
    model.weight.grad, model.bias.grad = torch.tensor([[math.inf]]), torch.zeros(1)
    with pytest.raises(FloatingPointError, match="gradient's norm is inf"):
        optimizer.step()
    assert torch.equal(model.weight, before)


def test_unknown_optimizer_and_nothing_to_train(paper_cfg):
    with pytest.raises(ValueError, match="no parameter that trains"):
        build_optimizer(paper_cfg, nn.Linear(1, 1).requires_grad_(False))
    paper_cfg.SOLVER.OPTIMIZER = "SGD"
    with pytest.raises(ValueError, match="'SGD'"):
        build_optimizer(paper_cfg, nn.Linear(1, 1))


def run(cfg, steps: int, state=None):
    """Learning rates of ``steps`` steps, and the schedule's state after them."""
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    scheduler = build_lr_scheduler(cfg, optimizer)
    if state is not None:
        optimizer.load_state_dict(state[0])
        scheduler.load_state_dict(state[1])
        apply_schedule(optimizer, scheduler)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates, (optimizer.state_dict(), scheduler.state_dict())


def test_polynomial_decay_is_the_published_one(paper_cfg):
    rates, _ = run(paper_cfg, 100)
    assert rates == pytest.approx([1e-4 * (1 - i / 100) ** 0.9 for i in range(100)])


@pytest.mark.parametrize("name", ["WarmupPolyLR", "WarmupCosineLR"])
def test_a_longer_training_goes_on_along_the_longer_curve(paper_cfg, name):
    paper_cfg.SOLVER.LR_SCHEDULER_NAME = name
    _, state = run(paper_cfg, 100)
    paper_cfg.SOLVER.MAX_ITER = 200
    whole, _ = run(paper_cfg, 200)
    rest, _ = run(paper_cfg, 100, state)
    assert rest == pytest.approx(whole[100:])
    assert rest[0] > 1e-5


def test_state_holds_no_length_and_ignores_an_old_one(paper_cfg):
    optimizer = build_optimizer(paper_cfg, nn.Linear(1, 1))
    scheduler = build_lr_scheduler(paper_cfg, optimizer)
    assert isinstance(scheduler, WarmupPolyLR)
    assert set(scheduler.state_dict()) == {"base_lrs", "last_epoch"}
    scheduler.load_state_dict({"base_lrs": [1.0], "last_epoch": 7, "max_iters": 1, "power": 9})
    assert (scheduler.last_epoch, scheduler.max_iters, scheduler.power) == (7, 100, 0.9)


def test_gradients_are_clipped_after_amp_has_unscaled_them():
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = AdamW([parameter], lr=0.1, clip_norm=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((parameter * torch.tensor([3.0, 4.0])).sum()).backward()
    scaler.step(optimizer)
    assert optimizer.grad_norm == 5.0
