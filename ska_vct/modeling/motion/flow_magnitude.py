"""The baseline motion map: everything that moves lights up, whatever the audio (docs/method.md, Temporal SKA).

Shape legend: N frames, C width, S flow fields per second, g x g flow grid.
"""

from detectron2.config import configurable
from torch import Tensor, nn

from ..layers import at_least_float32
from .ska import SKA_REGISTRY, MotionPrompt, make_prompt, reduce_flow, resize_map


@SKA_REGISTRY.register()
class FlowMagnitude(nn.Module):
    """Mean flow magnitude as the map. It reads no sound, has no parameters and retrieves nothing."""

    retrieves = False
    reads_audio_grid = False

    @configurable
    def __init__(self, *, grid: tuple[int, int]):
        """
        Args:
            grid: rows and columns the flow is resized to.
        """
        super().__init__()
        self.grid = tuple(grid)

    @classmethod
    def from_config(cls, cfg):
        return {"grid": cfg.MODEL.SKA.GRID}

    def forward(self, audio_grid: Tensor, log_mel: Tensor, flow: Tensor) -> MotionPrompt:
        """Show what moves.

        Args:
            audio_grid: (N, C, a, b); only its shape is used.
            log_mel: (N, 1, 96, 64); not read.
            flow: (N, S, 2, h', w'), in the units of ``INPUT.FLOW.NORM``.
        """
        picture = resize_map(reduce_flow(at_least_float32(flow), "magnitude"), self.grid)
        retrieved = audio_grid.new_zeros(audio_grid.shape[:2])
        return make_prompt(picture.flatten(2), retrieved, picture)
