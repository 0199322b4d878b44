"""Temporal SKA: motion in step with the sound lights up (spec: model.md, Temporal SKA; evidence.md).

One pooled audio vector and one flow picture have no time left in them. Here the S flow fields of a frame's second
are matched, place by place, with the sound of the same second as it unfolds; how much moves at all is the prior
that ties "attended" to "moving".

Shape legend: N frames, C width, S flow fields of a second, c channels of a field, B steps at which motion and
sound are compared (S unless chosen), H heads, D width of a head, L = g*g places.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ska_vct.utils.errors import InputError

from ..layers import at_least_float32
from .ska import (
    SKA_REGISTRY,
    MotionPrompt,
    add_energy,
    channel_count,
    energy_parameter,
    energy_start,
    flow_channels,
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
    reads_audio_grid = False

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
        channels: str = "magnitude",
        centred: bool = True,
        steps: int = 0,
    ):
        """
        Args:
            dim: width C.
            grid: rows and columns the flow is resized to.
            num_heads: heads, each with its own idea of what goes together.
            series_dim: width D of a head.
            match_scale: weight of the cosine in the logits.
            energy_init: start of the learnt weight of the log energy; None for no such prior.
            channels: what is matched, ``magnitude`` or ``uvm``; the energy is the magnitude's either way.
            centred: whether motion and sound lose their mean over the second before they are compared.
            steps: B at which they are compared; 0 for as many as there are flow fields.

        Raises:
            ValueError: for other ``channels``, or a number of steps in which nothing unfolds.
        """
        super().__init__()
        if steps < 0 or steps == 1:
            raise InputError(f"MODEL.SKA.STEPS is {steps}; choose 2 or more, or 0 for as many as flow fields.")
        self.grid = tuple(grid)
        self.num_heads = num_heads
        self.match_scale = match_scale
        self.channels = channels
        self.centred = centred
        self.steps = steps
        width = num_heads * series_dim
        # Without a bias: what is added to a whole series is centred away.
        self.motion_encoder = nn.Conv1d(channel_count(channels), width, 3, padding=1, bias=False)
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
            "channels": node.CHANNELS,
            "centred": node.CENTRED,
            "steps": node.STEPS,
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
        if flow.shape[1] < 2:
            raise InputError(
                "TemporalSKA needs a series of flow fields: set INPUT.FLOW.SERIES to 2 or more, e.g. 10."
            )
        fields = flow_channels(at_least_float32(flow), self.channels)
        picture = resize_map(fields.flatten(1, 2), self.grid)  # N, S*c, g, g
        series = picture.flatten(2)  # N, S*c, L
        steps = self.steps or flow.shape[1]
        sound = _resample(self.audio_encoder(log_mel[:, 0].transpose(1, 2)), steps)  # N, H*D, B

        logits = self.match_scale * self._match(series, sound)  # N, H, L
        magnitude = series[:, fields.shape[2] - 1 :: fields.shape[2]].mean(1)
        attention = add_energy(logits, magnitude, self.energy_weight).softmax(-1)

        # The encoder is linear, so that attending before it gives the same at a place's cost.
        attended = attention @ series.transpose(1, 2)  # N, H, S*c
        motion = self._encode(attended.flatten(0, 1), steps).unflatten(0, (-1, self.num_heads))
        own = motion.unflatten(2, (self.num_heads, -1)).diagonal(dim1=1, dim2=2)  # N, D, B, H
        retrieved = self.v_proj(own.abs().mean(2).transpose(1, 2).flatten(1))
        return make_prompt(attention, retrieved, ~is_still(picture), self.grid)

    def _encode(self, series: Tensor, steps: int) -> Tensor:
        """Series (M, S*c) of M places -> (M, H*D, B)."""
        fields = series.unflatten(1, (-1, self.motion_encoder.in_channels)).transpose(1, 2)
        return self.motion_encoder(_resample(fields, steps))

    def _match(self, series: Tensor, sound: Tensor) -> Tensor:
        """Cosine over time and width of encoded motion and sound, both centred over time if chosen.

        The motion encoder is linear in a series x of S*c numbers: with its response A to unit impulses, the
        product with the sound s is (A's)'x and the motion's norm x'(A'A)x: no place needs H*D*B numbers.

        Args:
            series: (N, S*c, L).
            sound: (N, H*D, B).

        Returns:
            (N, H, L).
        """
        heads = (self.num_heads, -1)
        impulses = torch.eye(series.shape[1], device=series.device, dtype=series.dtype)
        response = self._encode(impulses, sound.shape[-1])  # S*c, H*D, B
        if self.centred:
            response, sound = (x - x.mean(-1, keepdim=True) for x in (response, sound))
        response = response.unflatten(1, heads).flatten(2)  # S*c, H, D*B
        sound = F.normalize(sound.unflatten(1, heads).flatten(2), dim=2)  # N, H, D*B
        product = torch.einsum("shx,nhx->nhs", response, sound) @ series
        gram = torch.einsum("shx,thx->hst", response, response)
        norm = (series[:, None] * (gram @ series[:, None])).sum(2).clamp(min=0)
        return product / (norm + _STEADY**2).sqrt()


def _resample(x: Tensor, steps: int) -> Tensor:
    """(M, k, t) -> (M, k, steps) over the same second: averaged down, interpolated up."""
    if steps == x.shape[-1]:
        return x
    if steps < x.shape[-1]:
        return F.adaptive_avg_pool1d(x, steps)
    return F.interpolate(x, size=steps, mode="linear", align_corners=False)
