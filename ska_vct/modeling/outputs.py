"""What one pass of the model makes, stage by stage; inference, losses and export read the same structure.

Shape legend: N frames, M of them with images of their own, C width, h x w mask-feature grid.
"""

from dataclasses import dataclass

from torch import Tensor

from .motion.ska import MotionPrompt
from .predictions import Predictions


@dataclass(frozen=True)
class FrameOutputs:
    """Results of the stages of :meth:`ska_vct.modeling.meta_arch.SKAVCT.predict`.

    Attributes:
        features: visual features res2..res5, (M, channels, H / stride, W / stride).
        audio_grid: (N, C, a, b).
        mask_features: (N, mask_dim, h, w).
        scales: three of (N, C, ., .), coarse to fine.
        prompt: of the motion module; None without one.
        predictions: of every decoder layer, or only of the last.
    """

    features: dict[str, Tensor]
    audio_grid: Tensor
    mask_features: Tensor
    scales: list[Tensor]
    prompt: MotionPrompt | None
    predictions: Predictions
