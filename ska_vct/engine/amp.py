"""Mixed-precision steps on every device that has them; Detectron2's trainer knows CUDA alone."""

import time
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer
from torch import nn

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """The precision ``cfg.SOLVER.AMP`` asks for on ``cfg.MODEL.DEVICE``; None for full precision."""
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.SOLVER.AMP.DTYPE in DTYPES:
        return DTYPES[cfg.SOLVER.AMP.DTYPE]
    if torch.device(cfg.MODEL.DEVICE).type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


class MixedPrecisionTrainer(AMPTrainer):
    """Runs the model under autocast; losses are scaled in fp16 alone, whose small numbers would vanish."""

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
        # First, since memory is at its peak at the end of the forward pass.
        self.optimizer.zero_grad()
        with torch.autocast(self.device_type, dtype=self.precision):
            losses = self.model(batch)
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self._write_metrics(losses, waited)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue; a checkpoint of another precision has no state of the scaler, which then starts anew."""
        scaler = state_dict.get("grad_scaler") or self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scaler})
