"""What makes the losses of several processes those of one: denominators of means, and random points of clips.

Shape legend: N frames.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

# Sets these draws apart from the noise of the queries, which has the same seed.
_STREAM = 0x5EED


def shared_denominator(amount: Tensor, *, at_least: float = 0.0) -> Tensor:
    """What each process divides its sum by, so that the average over processes is the mean over all their clips.

    Mask2Former does so for the number of masks. To be called by all processes, in the same order.

    Args:
        amount: what this process has, such as a number of masks or a sum of weights.
        at_least: lower limit of what all processes have together.

    Returns:
        without gradient, the amount of all processes divided by their number; the amount itself in one process.
    """
    amount = amount.detach()
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if ranks > 1:
        amount = amount.float().clone()
        dist.all_reduce(amount)
    return amount.clamp(min=at_least) / ranks


class ClipDraws:
    """Uniform random numbers of which a clip gets the same in any batch and process."""

    def __init__(self, clips: Sequence[tuple[int, int]], device: torch.device) -> None:
        """
        Args:
            clips: seed and number of frames of each clip, N frames together.
            device: where numbers are drawn.
        """
        self.frames = [frames for _, frames in clips]
        self._generators = [torch.Generator(device).manual_seed(seed ^ _STREAM) for seed, _ in clips]

    def uniform(self, rows: Sequence[int], shape: tuple[int, ...]) -> Tensor:
        """The next numbers in 0..1 of every clip.

        Args:
            rows: how many of each clip; their sum is the first dimension.
            shape: all dimensions.
        """
        result = torch.empty(shape, device=self._generators[0].device)
        for part, generator in zip(result.split(list(rows)), self._generators, strict=True):
            part.uniform_(generator=generator)
        return result
