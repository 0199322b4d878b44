"""Optimiser and learning-rate schedule of VCT's published training (docs/recipe.md).

AdamW; no weight decay on norms, embeddings and position tables; a smaller learning rate for backbones; the
gradient norm of the whole model clipped in every step.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR as _WarmupPolyLR
from detectron2.solver import build_lr_scheduler as build_detectron2_lr_scheduler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ska_vct.utils.errors import InputError

from .health import SickStepError

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
# Position tables of backbones never decay, by the last part of their name.
_POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed", "pos_embed")
_BACKBONE, _AUDIO = "backbone", "audio_encoder"


class AdamW(torch.optim.AdamW):
    """AdamW that clips the gradient norm of all its parameters together before each step.

    Attributes:
        grad_norm: gradient norm before clipping in the last step.
    """

    def __init__(self, params, *, clip_norm: float, **kwargs):
        """
        Args:
            params: parameter groups.
            clip_norm: largest gradient norm of all parameters together; 0 turns clipping off.
            kwargs: arguments of ``torch.optim.AdamW``.
        """
        # The fused kernel reads each parameter once; the other implementations make several passes.
        super().__init__(params, fused=True, **kwargs)
        # A fused step can undo AMP's scaling itself, but then clipping would see scaled gradients.
        self._step_supports_amp_scaling = False
        self.clip_norm = clip_norm
        self.grad_norm: torch.Tensor | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the moments, by the parameters' names; learning rates and decay stay what the config says.

        Parameters that did not train before begin with moments of zero. Older checkpoints have no names and need
        the same groups.

        Raises:
            InputError: an older checkpoint has other groups.
        """
        own, saved = self.state_dict(), state_dict["param_groups"]
        if all("names" in group for group in saved):
            places = {name: place for g in saved for name, place in zip(g["names"], g["params"], strict=True)}
            own["state"] = {
                place: state_dict["state"][places[name]]
                for group in own["param_groups"]
                for name, place in zip(group["names"], group["params"], strict=True)
                if places.get(name) in state_dict["state"]
            }
        elif [len(group["params"]) for group in saved] == [len(group["params"]) for group in own["param_groups"]]:
            own["state"] = state_dict["state"]
        else:
            raise InputError(
                "The checkpoint is of an older version, and other parameters train than in its run: resume with "
                "the run's own SOLVER.FROZEN and learning rates, or start from its weights (MODEL.WEIGHTS)."
            )
        super().load_state_dict(own)

    @torch.no_grad()
    def step(self, closure=None):
        """One step.

        Raises:
            SickStepError: a gradient is infinite or not a number; nothing has been changed.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        self.grad_norm = nn.utils.clip_grad_norm_(params, self.clip_norm or math.inf)
        # What is not finite must not reach weights and moments.
        if not torch.isfinite(self.grad_norm):
            raise SickStepError(f"the gradient's norm is {self.grad_norm.item()}")
        return super().step(closure)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> AdamW:
    """Optimiser of ``cfg.SOLVER`` for the trainable parameters of ``model``.

    Raises:
        ValueError: unknown ``SOLVER.OPTIMIZER`` or nothing to train.
    """
    if cfg.SOLVER.OPTIMIZER != "ADAMW":
        raise InputError(f"SOLVER.OPTIMIZER is '{cfg.SOLVER.OPTIMIZER}'; only ADAMW is supported.")
    groups = get_parameter_groups(cfg, model)
    if not groups:
        raise InputError("The model has no parameter that trains.")
    return AdamW(groups, lr=cfg.SOLVER.BASE_LR, clip_norm=cfg.SOLVER.CLIP_FULL_MODEL_NORM)


def freeze_parameters(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Freeze the parameters whose names begin with one of ``prefixes``.

    Raises:
        InputError: a prefix matches no parameter.
    """
    for prefix in prefixes:
        found = [parameter for name, parameter in model.named_parameters() if name.startswith(prefix)]
        if not found:
            children = ", ".join(name for name, _ in model.named_children())
            raise InputError(
                f"SOLVER.FROZEN: no parameter's name starts with '{prefix}'; the parts are {children}."
            )
        for parameter in found:
            parameter.requires_grad_(False)


def get_parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters, grouped by learning rate and weight decay.

    A parameter belongs to a backbone when a part of its name is ``backbone``: ``audio_encoder.backbone.0.bias``.

    Returns:
        groups with ``params``, ``names``, ``lr`` and ``weight_decay``; their order depends only on the model, so
        a resumed run gets the same groups.
    """
    solver = cfg.SOLVER
    groups = defaultdict(list)
    for name, module, parameter in _training_parameters(model):
        lr = solver.BASE_LR * _multiplier(solver, name.split("."))
        decay = solver.WEIGHT_DECAY
        if isinstance(module, _NORMS):
            decay = solver.WEIGHT_DECAY_NORM
        elif isinstance(module, nn.Embedding):
            decay = solver.WEIGHT_DECAY_EMBED
        if name.rsplit(".", 1)[-1] in _POSITION_TABLES:
            decay = 0.0
        groups[lr, decay].append((name, parameter))
    return [
        {
            "params": [parameter for _, parameter in named],
            "names": [name for name, _ in named],
            "lr": lr,
            "weight_decay": decay,
        }
        for (lr, decay), named in groups.items()
    ]


def _multiplier(solver: CfgNode, parts: list[str]) -> float:
    """Learning rate factor of the parameter whose name has these parts."""
    if _BACKBONE not in parts:
        return 1.0
    own = solver.AUDIO_MULTIPLIER if parts[0] == _AUDIO else -1
    return own if own >= 0 else solver.BACKBONE_MULTIPLIER


def _training_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    seen = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield f"{module_name}.{name}" if module_name else name, module, parameter


class WarmupPolyLR(_WarmupPolyLR):
    """Detectron2's polynomial decay; its checkpoints do not store the number of iterations."""

    def state_dict(self) -> dict[str, Any]:
        """Base learning rates and position; the length comes from the config, so a run can be extended."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take base learning rates and position from ``state_dict``, whatever else it holds."""
        super().load_state_dict({key: state_dict[key] for key in ("base_lrs", "last_epoch")})

    def get_lr(self) -> list[float]:
        """Learning rate per group; stays at its last value after the end."""
        if self.last_epoch > self.max_iters:
            return [group["lr"] for group in self.optimizer.param_groups]
        return super().get_lr()


def apply_schedule(optimizer: torch.optim.Optimizer, scheduler: LRScheduler) -> None:
    """Set the learning rates of ``scheduler`` at its current iteration.

    The optimiser of an extended run still holds the last rate of the shorter schedule, which is zero.
    """
    for group, lr in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
        group["lr"] = lr


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Schedule of ``cfg.SOLVER.LR_SCHEDULER_NAME``: WarmupPolyLR or one of Detectron2's.

    Raises:
        ValueError: the name is unknown to Detectron2 too.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return build_detectron2_lr_scheduler(cfg, optimizer)
    return WarmupPolyLR(
        optimizer,
        solver.MAX_ITER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_method=solver.WARMUP_METHOD,
        power=solver.POLY_LR_POWER,
        constant_ending=solver.POLY_LR_CONSTANT_ENDING,
    )
