"""Temporal SKA: motion in step with the sound lights up (spec: model.md, Temporal SKA; evidence.md).

One pooled audio vector and one flow picture have no time left in them. Here the S flow fields of a frame's second
are matched, place by place, with the sound of the same second as it unfolds; how much moves at all is the prior
that ties "attended" to "moving".

Shape legend: N frames, C width, S steps of a second, H heads, D width of a head, L = g*g places.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from .layers import at_least_float32
from .ska import (
    SKA_REGISTRY,
    MotionPrompt,
    add_energy,
    energy_parameter,
    energy_start,
    is_still,
    make_prompt,
    resize_map,
)

_MEL_BANDS = 64
# Motion that changes by less than this over the second goes with no sound; in the units of the flow.
_STEADY = 1e-3


@SKA_REGISTRY.register()
class TemporalSKA(nn.Module):
    """Cosine of motion and sound over the second, and the motion's energy, decide where to attend."""

    retrieves = True

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        grid: tuple[int, int],
        num_heads: int,
        series_dim: int,
        match_scale: float,
        energy_init: float | None,
    ):
        """
        Args:
            dim: width C.
            grid: rows and columns the flow is resized to.
            num_heads: heads, each with its own idea of what goes together.
            series_dim: width D of a head.
            match_scale: weight of the cosine in the logits.
            energy_init: start of the learnt weight of the log energy; None for no such prior.
        """
        super().__init__()
        self.grid = tuple(grid)
        self.num_heads = num_heads
        self.match_scale = match_scale
        width = num_heads * series_dim
        # Without a bias: what is added to a whole series is centred away.
        self.motion_encoder = nn.Conv1d(1, width, 3, padding=1, bias=False)
        self.audio_encoder = nn.Sequential(
            nn.Conv1d(_MEL_BANDS, width, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv1d(width, width, 5, padding=2),
        )
        self.energy_weight = energy_parameter(energy_init)
        self.v_proj = nn.Linear(width, dim, bias=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.SKA
        return {
            "dim": cfg.MODEL.HIDDEN_DIM,
            "grid": node.GRID,
            "num_heads": node.NUM_HEADS,
            "series_dim": node.SERIES_DIM,
            "match_scale": node.MATCH_SCALE,
            "energy_init": energy_start(cfg, default=True),
        }

    def forward(self, audio_grid: Tensor, log_mel: Tensor, flow: Tensor) -> MotionPrompt:
        """Find the motion in step with the sound.

        Args:
            audio_grid: (N, C, a, b); not read: no time is left in it.
            log_mel: (N, 1, 96, 64).
            flow: (N, S, 2, h', w') with S > 1, in the units of ``INPUT.FLOW.NORM``.

        Raises:
            ValueError: if S is 1.
        """
        steps = flow.shape[1]
        if steps < 2:
            raise ValueError(
                "TemporalSKA needs a series of flow fields: set INPUT.FLOW.SERIES to 2 or more, e.g. 10."
            )
        magnitude = at_least_float32(flow).square().sum(2).sqrt()
        magnitude = resize_map(magnitude, self.grid)  # N, S, g, g
        moving = ~is_still(magnitude)
        series = magnitude.flatten(2)  # N, S, L
        sound = F.adaptive_avg_pool1d(self.audio_encoder(log_mel[:, 0].transpose(1, 2)), steps)  # N, H*D, S

        logits = self.match_scale * self._match(series, sound)  # N, H, L
        attention = add_energy(logits, series.mean(1), self.energy_weight).softmax(-1)

        # The encoder is linear, so that attending before it gives the same at a place's cost.
        attended = attention @ series.transpose(1, 2)  # N, H, S
        motion = self.motion_encoder(attended.flatten(0, 1)[:, None]).unflatten(0, (-1, self.num_heads))
        own = motion.unflatten(2, (self.num_heads, -1)).diagonal(dim1=1, dim2=2)  # N, D, S, H
        retrieved = self.v_proj(own.abs().mean(2).transpose(1, 2).flatten(1))
        return make_prompt(attention, retrieved, moving, self.grid)

    def _match(self, series: Tensor, sound: Tensor) -> Tensor:
        """Cosine over time and width of encoded motion and sound, both centred over time.

        The motion encoder is linear in a series x of S numbers: with its response A to unit impulses, the product
        with the sound s is (A's)'x and the motion's norm x'(A'A)x. So nothing of H*D*S numbers a place is made.

        Args:
            series: (N, S, L).
            sound: (N, H*D, S).

        Returns:
            (N, H, L).
        """
        heads = (self.num_heads, -1)
        impulses = torch.eye(series.shape[1], device=series.device, dtype=series.dtype)[:, None]
        response = _centred(self.motion_encoder(impulses)).unflatten(1, heads).flatten(2)  # S, H, D*S
        sound = F.normalize(_centred(sound).unflatten(1, heads).flatten(2), dim=2)  # N, H, D*S
        product = torch.einsum("shx,nhx->nhs", response, sound) @ series
        gram = torch.einsum("shx,thx->hst", response, response)
        norm = (series[:, None] * (gram @ series[:, None])).sum(2).clamp(min=0)
        return product / (norm + _STEADY**2).sqrt()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)
