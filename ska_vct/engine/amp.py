"""Training steps, also in mixed precision on any device; Detectron2's AMP trainer supports CUDA only."""

import time
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from .health import RemembersBatch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """The precision that ``cfg.SOLVER.AMP`` selects on ``cfg.MODEL.DEVICE``; None for full precision."""
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.SOLVER.AMP.DTYPE in DTYPES:
        return DTYPES[cfg.SOLVER.AMP.DTYPE]
    if torch.device(cfg.MODEL.DEVICE).type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


class PlainTrainer(RemembersBatch, SimpleTrainer):
    """Detectron2's step in full precision."""


class MixedPrecisionTrainer(RemembersBatch, AMPTrainer):
    """Runs the model under autocast; only fp16 scales the loss, since small gradients would underflow in it."""

    def __init__(
        self,
        model: nn.Module,
        data_loader,
        optimizer: torch.optim.Optimizer,
        *,
        device_type: str,
        dtype: torch.dtype,
    ):
        """
        Args:
            model, data_loader, optimizer: as Detectron2's trainers take them.
            device_type: of the model.
            dtype: bfloat16 or float16.
        """
        scaler = torch.amp.GradScaler(device_type, enabled=dtype == torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler, precision=dtype)
        self.device_type = device_type

    def run_step(self) -> None:
        """One iteration."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        waited = time.perf_counter() - start
        # Gradients are freed before the forward pass, at whose end memory peaks.
        self.optimizer.zero_grad()
        with torch.autocast(self.device_type, dtype=self.precision):
            losses = self.model(batch)
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self._write_metrics(losses, waited)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; the scaler starts anew from a checkpoint written at another precision."""
        scaler = state_dict.get("grad_scaler") or self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scaler})


def build_step(
    cfg: CfgNode, model: nn.Module, loader: Iterable, optimizer: torch.optim.Optimizer
) -> SimpleTrainer:
    """Builds the train-step runner.

    Args:
        cfg: the config.
        model: in training mode it returns losses; may be wrapped for distributed training.
        loader: batches of clips.
        optimizer: of the model's parameters.
    """
    dtype = amp_dtype(cfg)
    if dtype is None:
        # Otherwise the previous step's gradients would be held while activations are at their peak.
        return PlainTrainer(model, loader, optimizer, zero_grad_before_forward=True)
    device_type = torch.device(cfg.MODEL.DEVICE).type
    return MixedPrecisionTrainer(model, loader, optimizer, device_type=device_type, dtype=dtype)
