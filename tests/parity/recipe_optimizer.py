"""Parity of the optimiser: groups by published name, clipping, AdamW, schedule, loss scaling."""

import json
from collections.abc import Iterable, Mapping

import torch
from detectron2.config import CfgNode
from torch import nn

from ska_vct.engine.optim import build_lr_scheduler, build_optimizer, get_parameter_groups
from ska_vct.engine.trainer import Trainer
from ska_vct.profiling.costs.fake import build_without_data

from .golden import Golden, Row, compare
from .published import Names, joined, parameters_of, published_cfg, subset_of

# Parameters lie around 1, so an absolute difference; the files' own sums of gradients carry as much.
_STEP_LIMIT = 1e-7
# Learning rates are products of a few float64 numbers.
_RATE_LIMIT = 1e-12
_MODELS = ("real", "small", "other")


def recipe_optimizer(golden: Golden) -> Iterable[Row]:
    """Learning rate and weight decay of every parameter, the schedule, and recorded steps."""
    subset, solver = subset_of(golden.path), json.loads(golden.text("solver"))
    for model in _MODELS:
        changes = json.loads(golden.text(f"{model}/cfg"))
        entries = json.loads(golden.text(f"{model}/params"))
        yield from _groups(model, published_cfg(subset, changes, solver), entries)
    yield from _schedule(golden, published_cfg(subset, {}, solver))
    for name in ("steps", "steps_short"):
        facts = json.loads(golden.text(f"{name}/facts"))
        changes = dict(facts.get("cfg") or json.loads(golden.text("small/cfg")))
        changes["SOLVER.MAX_ITER"] = facts["max_iter"]
        cfg = published_cfg(subset, changes, solver)
        cfg.SOLVER.CLIP_FULL_MODEL_NORM = facts["clip"]
        yield from _steps(name, golden, facts, cfg)
    yield from _facts(solver, published_cfg(subset, {}, solver))


def _groups(title: str, cfg: CfgNode, entries: list[Mapping]) -> Iterable[Row]:
    """Each published parameter against ours: shape, whether it trains, learning rate, weight decay."""
    model = build_without_data(cfg)
    parameters = parameters_of(model)
    group_of = {id(p): group for group in get_parameter_groups(cfg, model) for p in group["params"]}
    names = Names.of({entry["name"]: entry["shape"] for entry in entries})
    found, wanted, shapes = [], [], 0
    for entry in entries:
        for name in names.ours.get(entry["name"], ()):
            group = group_of.get(id(parameters[name]), {"lr": 0.0, "weight_decay": -1.0})
            found.append((group["lr"], group["weight_decay"]))
            is_in = entry["lr"] is not None
            wanted.append((entry["lr"], entry["weight_decay"]) if is_in else (0.0, -1.0))
        ours = sum(parameters[name].numel() for name in names.ours.get(entry["name"], ()))
        shapes += bool(names.ours.get(entry["name"])) and ours != torch.Size(entry["shape"]).numel()
    strangers = set(parameters) - {name for group in names.ours.values() for name in group}
    # Nothing but VGGish's fully connected layers may be left out, and they get no gradient there.
    lost = [name for name in names.unused if not name.startswith("audio_backbone.embeddings.")]
    yield compare(
        f"{title}/parameters of other sizes, in one of the two only",
        shapes + len(strangers) + len(lost),
        torch.tensor(0),
    )
    found, wanted = torch.tensor(found, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64)
    for column, what in enumerate(("lr", "weight_decay")):
        label = f"{title}/{what} of {len(found)} parameters"
        yield compare(label, found[:, column], wanted[:, column], limit=_RATE_LIMIT)


def _schedule(golden: Golden, cfg: CfgNode) -> Iterable[Row]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    schedule = build_lr_scheduler(cfg, optimizer)
    multipliers = []
    for iteration in golden["schedule/iteration"].tolist():
        schedule.last_epoch = iteration
        multipliers.append(schedule.get_lr()[0])
    wanted = golden["schedule/multiplier"]
    yield compare("schedule/multiplier", torch.tensor(multipliers, dtype=torch.float64), wanted, limit=1e-10)


def _steps(title: str, golden: Golden, facts: Mapping, cfg: CfgNode) -> Iterable[Row]:
    """One optimiser, clipped and scheduled as in training, stepped with the recorded gradients."""
    model = Trainer.build_model(cfg)
    parameters = parameters_of(model)
    names = Names.of({entry["name"]: entry["shape"] for entry in json.loads(golden.text("small/params"))})
    with torch.no_grad():
        for name, value in names.to_ours(golden.under(f"{title}/init/")).items():
            parameters[name].copy_(value)
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer)
    in_backbone, elsewhere = (
        next(names.ours[name][0] for name in facts["names"] if ("backbone" in name) == inside)
        for inside in (True, False)
    )
    rates, norms, differences = [], [], {}
    for step in range(len(facts["lr"])):
        gradients = names.to_ours(golden.under(f"{title}/grad{step}/"))
        for name, parameter in parameters.items():
            parameter.grad = gradients[name].clone() if name in gradients else None
        rates.append([_rate(optimizer, parameters[name]) for name in (in_backbone, elsewhere)])
        optimizer.step()
        schedule.step()
        norms.append(float(optimizer.grad_norm))
        for name, wanted in golden.under(f"{title}/after{step}/").items():
            found = joined([parameters[ours].detach() for ours in names.ours[name]])
            differences[step] = max(differences.get(step, 0.0), (found - wanted).abs().max().item())
    wanted = torch.tensor([[rate["backbone"], rate["rest"]] for rate in facts["lr"]], dtype=torch.float64)
    yield compare(f"{title}/lr", torch.tensor(rates, dtype=torch.float64), wanted, limit=1e-10)
    yield compare(f"{title}/grad_norm", torch.tensor(norms), torch.tensor(facts["grad_norm"]), limit=1e-6)
    for step, worst in differences.items():
        yield Row(f"{title}/after{step}, absolute", worst, worst, limit=_STEP_LIMIT)


def _rate(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> float:
    return next(g["lr"] for g in optimizer.param_groups if any(p is parameter for p in g["params"]))


def _facts(solver: Mapping, cfg: CfgNode) -> Iterable[Row]:
    """AdamW's constants, and what loss scaling does to clipping and to an infinite gradient."""
    weight = nn.Parameter(torch.linspace(-1, 1, 32))
    holder = nn.ParameterList([weight])
    optimizer = build_optimizer(cfg, holder)
    group = optimizer.param_groups[0]
    found = torch.tensor([*group["betas"], group["eps"], float(group["amsgrad"])], dtype=torch.float64)
    wanted = torch.tensor([*solver["betas"], solver["eps"], float(solver["amsgrad"])], dtype=torch.float64)
    yield compare("solver/betas, eps, amsgrad", found, wanted, limit=0.0)
    wanted = solver["amp_scaler"]
    gradient = torch.linspace(-3, 2, 32)
    ends = []
    for scale in (None, 1024.0):
        weight = nn.Parameter(torch.linspace(-1, 1, 32))
        optimizer = build_optimizer(cfg, nn.ParameterList([weight]))
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        weight.grad = gradient * (scale or 1.0)
        scaler.scale(torch.zeros(()))
        scaler.step(optimizer)
        scaler.update()
        ends.append(weight.detach().clone())
        if scale:
            weight.grad = torch.full_like(gradient, float("inf"))
            scaler.step(optimizer)
            skipped = bool((weight == ends[-1]).all())
    difference = (ends[0] - ends[1]).abs().max()
    yield compare(
        "solver/scaled against unscaled gradients",
        difference,
        torch.tensor(wanted["maxdiff_scaled_vs_unscaled"]),
        limit=0.0,
    )
    label = "solver/a step with an infinite gradient is left out"
    yield compare(label, skipped, torch.tensor(wanted["step_skipped_when_a_gradient_is_inf"]))
