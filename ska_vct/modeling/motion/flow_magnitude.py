"""Baseline motion map: every moving region is activated, regardless of the audio (docs/method.md, Temporal SKA).

Shape legend: N frames, C width, S flow fields per second, g x g flow grid.
"""

from detectron2.config import configurable
from torch import Tensor, nn

from ..layers import at_least_float32
from .ska import SKA_REGISTRY, MotionPrompt, make_prompt, reduce_flow, resize_map


@SKA_REGISTRY.register()
class FlowMagnitude(nn.Module):
    """Uses the mean flow magnitude as the map. Ignores the audio, has no parameters and retrieves nothing."""

    retrieves = False
    reads_audio_grid = False

    @configurable
    def __init__(self, *, grid: tuple[int, int]):
        """
        Args:
            grid: rows and columns to which the flow is resized.
        """
        super().__init__()
        self.grid = tuple(grid)

    @classmethod
    def from_config(cls, cfg):
        return {"grid": cfg.MODEL.SKA.GRID}

    def forward(self, audio_grid: Tensor, log_mel: Tensor, flow: Tensor) -> MotionPrompt:
        """Compute the map.

        Args:
            audio_grid: (N, C, a, b); only its shape is used.
            log_mel: (N, 1, 96, 64); ignored.
            flow: (N, S, 2, h', w'), in the units of ``INPUT.FLOW.NORM``.
        """
        motion_image = resize_map(reduce_flow(at_least_float32(flow), "magnitude"), self.grid)
        retrieved = audio_grid.new_zeros(audio_grid.shape[:2])
        return make_prompt(motion_image.flatten(2), retrieved, motion_image)
