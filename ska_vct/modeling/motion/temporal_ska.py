"""Temporal SKA: activates motion that is synchronous with the audio (ours; docs/method.md, Temporal SKA).

A pooled audio vector and a single flow field carry no temporal information. Temporal SKA correlates the S flow
fields of a frame's second, location by location, with the audio of exactly the same second. An energy prior (log
speed) biases attention towards moving locations. The softmax only locates; a separate confidence estimates whether
anything is audible and moving.

Shape legend: N frames, C width, S flow fields of a second, c channels of a field, B time steps at which
motion and audio are compared (default S), H heads, D width of a head, L = g*g locations, t log-mel hops.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

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
    make_prompt,
    resize_map,
    soft_gate,
)

AUDIO_CHOICES = ("second", "patch")
MAP_CHOICES = ("softmax", "sigmoid")
ENERGY_UNITS = ("flow", "frame")
_MEL_BANDS = 64
# Log-mel of digital silence, ln(0.01).
_SILENCE = math.log(0.01)
# Mean log-mel above silence at which the loudness gate is 1/2; the noise floor of a room is a few tenths.
_LEVEL_FLOOR = 0.05
# Motion that varies by less than this over the second matches no audio; in the units of the flow.
_STEADY = 1e-3


class _Audio(NamedTuple):
    """Audio features that are compared with motion.

    Attributes:
        embedded: (N, H, D, B), audio side of the cosine: normalised, centred if requested, times the weights.
        weight: (N, B) in [0, 1], fraction of each step for which audio exists.
        level: (N,), mean log-mel above silence.
    """

    embedded: Tensor
    weight: Tensor
    level: Tensor


@SKA_REGISTRY.register()
class TemporalSKA(nn.Module):
    """Attends by the cosine similarity of motion and audio over the second, plus the energy prior."""

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
        audio: str = "second",
        speed_floor: float = 0.0,
        confidence: bool = True,
        map_form: str = "softmax",
        energy_unit: str = "flow",
    ):
        """
        Args:
            dim: width C.
            grid: rows and columns to which the flow is resized.
            num_heads: attention heads, each with its own embedding of motion and audio.
            series_dim: width D of a head.
            match_scale: weight of the cosine in the logits.
            energy_init: initial value of the learnt weight of the log energy; None for no energy prior.
            channels: flow channels to match, ``magnitude`` or ``uvm``; the energy always uses the magnitude.
            centred: subtract the means of motion and audio over the second before comparing them.
            steps: B, time steps at which they are compared; 0 for the number of flow fields.
            audio: ``second``: the 100 log-mel hops of exactly the frame's second; ``patch``: VGGish's patch, which
                for frame k begins at 0.96 k seconds and runs ahead of the flow by up to 0.4 s in ten seconds.
            speed_floor: speed at which a location gets weight 1/2, in the units of the flow; 0 for no floor.
            confidence: scale the map by a learnt confidence that something is audible and moving; the map is then
                exactly zero in silence.
            map_form: ``softmax``: the map is the attention, stretched to [0, 1]; what matches best leaves little
                to the rest. ``sigmoid``: each location is judged on its own; two that sound may both be high.
            energy_unit: of the speed in the energy prior. ``flow``: that of the flow. ``frame``: the frame's
                largest speed, so that weakly moving scenes are judged like others; the floor stays absolute.

        Raises:
            InputError: ``channels``, ``audio``, ``map_form`` or ``energy_unit`` is unknown, or ``steps`` is 1 or
                negative.
        """
        super().__init__()
        if steps < 0 or steps == 1:
            raise InputError(f"MODEL.SKA.STEPS is {steps}; choose 2 or more, or 0 for as many as flow fields.")
        if audio not in AUDIO_CHOICES:
            raise InputError(f"MODEL.SKA.AUDIO is '{audio}'; choose {' or '.join(AUDIO_CHOICES)}.")
        if map_form not in MAP_CHOICES:
            raise InputError(f"MODEL.SKA.MAP is '{map_form}'; choose {' or '.join(MAP_CHOICES)}.")
        if energy_unit not in ENERGY_UNITS:
            raise InputError(f"MODEL.SKA.ENERGY_UNIT is '{energy_unit}'; choose {' or '.join(ENERGY_UNITS)}.")
        self.relative_energy = energy_unit == "frame"
        self.grid = tuple(grid)
        self.num_heads = num_heads
        self.match_scale = match_scale
        self.channels = channels
        self.centred = centred
        self.steps = steps
        self.reads_audio_second = audio == "second"
        self.speed_floor = speed_floor
        width = num_heads * series_dim
        # No bias: centring would remove a constant offset anyway.
        self.motion_encoder = nn.Conv1d(channel_count(channels), width, 3, padding=1, bias=False)
        # Zero padding would sound like a click at the edges, since silence is -4.6.
        padding = "replicate" if self.reads_audio_second else "zeros"
        self.audio_encoder = nn.Sequential(
            nn.Conv1d(_MEL_BANDS, width, 5, padding=2, padding_mode=padding),
            nn.ReLU(inplace=True),
            nn.Conv1d(width, width, 5, padding=2, padding_mode=padding),
        )
        self.energy_weight = energy_parameter(energy_init)
        sigmoid = map_form == "sigmoid"
        # A location's own probability says whether, too.
        self.confidence = _Confidence() if confidence and not sigmoid else None
        self.location_score = _LocationScore() if sigmoid else None
        self.v_proj = nn.Linear(width, dim, bias=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.SKA
        # Only this unit has a physical meaning, which an absolute floor needs.
        absolute = cfg.INPUT.FLOW.NORM == "diagonal"
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
            "audio": node.AUDIO,
            "speed_floor": node.SPEED_FLOOR / cfg.INPUT.FLOW.DIAGONAL_SHARE if absolute else 0.0,
            "confidence": node.CONFIDENCE,
            "map_form": node.MAP,
            "energy_unit": node.ENERGY_UNIT,
        }

    def forward(self, audio_grid: Tensor, audio: Tensor, flow: Tensor) -> MotionPrompt:
        """Find the motion that is synchronous with the audio.

        Args:
            audio_grid: (N, C, a, b); ignored, since it carries no temporal information.
            audio: log-mel, (N, 1, 100, 64) of exactly the frame's second, NaN in hops without audio data; with
                ``audio="patch"`` (N, 1, 96, 64).
            flow: (N, S, 2, h', w') with S > 1, in the units of ``INPUT.FLOW.NORM``.

        Raises:
            InputError: S is 1.
        """
        if flow.shape[1] < 2:
            raise InputError(
                "TemporalSKA needs a series of flow fields: set INPUT.FLOW.SERIES to 2 or more, e.g. 10."
            )
        fields = flow_channels(at_least_float32(flow), self.channels)
        motion_image = resize_map(fields.flatten(1, 2), self.grid)  # N, S*c, g, g
        series = motion_image.flatten(2)  # N, S*c, L
        steps = self.steps or flow.shape[1]
        heard = self._hear(audio, steps)
        response = self._response(series, steps)

        cosine = self._match(response, series[:, None], heard)  # N, H, L
        per_field = series.unflatten(1, (-1, fields.shape[2]))[:, :, -1]
        speed = per_field.mean(1)
        energy = speed
        if self.relative_energy:
            energy = speed / speed.amax(-1, keepdim=True).clamp(min=max(self.speed_floor, _STEADY))
        logits = add_energy(self.match_scale * cosine, energy, self.energy_weight)
        attention = logits.softmax(-1)

        # The encoder is linear: attending first gives the same result and encodes only one location.
        attended = attention @ series.transpose(1, 2)  # N, H, S*c
        motion = self._encode(attended.flatten(0, 1), steps).unflatten(0, (-1, self.num_heads))
        own = motion.unflatten(2, (self.num_heads, -1)).diagonal(dim1=1, dim2=2)  # N, D, B, H
        retrieved = self.v_proj(own.abs().mean(2).transpose(1, 2).flatten(1))

        prompt = make_prompt(
            attention,
            retrieved,
            torch.cat((motion_image, speed.unflatten(-1, self.grid)[:, None]), 1),
            speed_floor=self.speed_floor,
            confidence=self._confident(attention, cosine, speed, heard.level),
            motion_map=self._probability(logits, heard.level),
            region_match=self._region_match(response, series, heard),
        )
        return replace(prompt, attention=attention.unflatten(-1, self.grid))

    def _probability(self, logits: Tensor, level: Tensor) -> Tensor | None:
        """(N, L), each location's probability; None where the map is the attention."""
        if self.location_score is None:
            return None
        return self.location_score(logits.mean(1)) * soft_gate(level, _LEVEL_FLOOR)[:, None]

    def _hear(self, audio: Tensor, steps: int) -> _Audio:
        log_mel = at_least_float32(audio[:, 0]).transpose(1, 2)  # N, 64, t
        if self.reads_audio_second:
            known = ~log_mel[:, 0].isnan()  # N, t
            # Unknown hops repeat the last known one, so the edge is not an onset; without any, silence is assumed.
            hops = torch.arange(known.shape[1], device=known.device)
            last = torch.where(known, hops, 0).cummax(1).values
            log_mel = torch.where(log_mel.isnan(), _SILENCE, log_mel) - _SILENCE
            log_mel = log_mel.gather(2, last[:, None].expand_as(log_mel))
            share = known.to(log_mel.dtype)
            level = (log_mel.mean(1).clamp(min=0) * share).sum(1) / share.sum(1).clamp(min=1)
            weight = _resample(share[:, None], steps)[:, 0]
        else:
            level = (log_mel - _SILENCE).mean((1, 2)).clamp(min=0)
            weight = log_mel.new_ones(len(log_mel), steps)
        embedded = _resample(self.audio_encoder(log_mel), steps).unflatten(1, (self.num_heads, -1))  # N, H, D, B
        weights = weight[:, None, None]
        if self.centred:
            embedded = embedded - (embedded * weights).sum(-1, keepdim=True) / _sum(weights)
        embedded = F.normalize((embedded * weights.sqrt()).flatten(2), dim=2).view_as(embedded) * weights.sqrt()
        return _Audio(embedded, weight, level)

    def _encode(self, series: Tensor, steps: int) -> Tensor:
        """Series (M, S*c) of M locations -> (M, H*D, B)."""
        fields = series.unflatten(1, (-1, self.motion_encoder.in_channels)).transpose(1, 2)
        return self.motion_encoder(_resample(fields, steps))

    def _response(self, series: Tensor, steps: int) -> Tensor:
        """The motion encoder's response to unit impulses: (S*c, H, D, B)."""
        impulses = torch.eye(series.shape[1], device=series.device, dtype=series.dtype)
        return self._encode(impulses, steps).unflatten(1, (self.num_heads, -1))

    def _match(self, response: Tensor, series: Tensor, heard: _Audio) -> Tensor:
        """Cosine similarity of encoded motion and audio over time and width, both centred over time if requested.

        The motion encoder is linear in a series x of S*c numbers. With its impulse response A, the product with
        the audio s is (A's)'x and the motion's squared norm is x'(A'A)x, which avoids storing H*D*B numbers per
        location.

        Args:
            response: (S*c, H, D, B).
            series: (N or 1, 1 or N, S*c, L), broadcast against the audio's frames and heads.
            heard: audio of N frames.

        Returns:
            (N, H, L).
        """
        # The audio is centred already, so the motion's mean cancels in the product.
        product = torch.einsum("shdb,nhdb->nhs", response, heard.embedded)
        gram = torch.einsum("shdb,thdb,nb->nhst", response, response, heard.weight)
        if self.centred:
            mean = torch.einsum("shdb,nb->nhsd", response, heard.weight)
            gram = gram - mean @ mean.mT / _sum(heard.weight)[..., None, None]
        norm = (series * (gram @ series)).sum(-2).clamp(min=0)
        return (product[:, :, None] @ series)[:, :, 0] / (norm + _STEADY**2).sqrt()

    def _region_match(self, response: Tensor, series: Tensor, heard: _Audio) -> Callable[[Tensor], Tensor]:
        def match(regions: Tensor) -> Tensor:
            pooled = series @ at_least_float32(regions)[..., None]  # N, S*c, 1
            # Regions instead of locations: each region is compared with each frame's audio.
            columns = pooled[..., 0].T[None, None]  # 1, 1, S*c, N
            return self._match(response, columns, heard).mean(1).T

        return match

    def _confident(self, attention: Tensor, cosine: Tensor, speed: Tensor, level: Tensor) -> Tensor | None:
        if self.confidence is None:
            return None
        best = (attention * cosine).sum(-1).mean(1)
        moving = soft_gate(speed, self.speed_floor) if self.speed_floor > 0 else torch.ones_like(speed)
        attended = (attention.mean(1) * moving).sum(-1)
        return self.confidence(torch.stack((best, level.log1p(), attended), -1)) * soft_gate(level, _LEVEL_FLOOR)


class _Confidence(nn.Module):
    """Logistic regression on (match, loudness, motion), the first and last averaged over attention."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        # Initially high, and higher for a better match.
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[4.0, 0.0, 0.0]]))
            self.linear.bias.fill_(2.0)

    def forward(self, facts: Tensor) -> Tensor:
        """(N, 3) -> (N,) in (0, 1)."""
        return at_least_float32(self.linear(facts))[:, 0].sigmoid()


class _LocationScore(nn.Module):
    """Logistic regression on a location's logit."""

    def __init__(self):
        super().__init__()
        # A good match (a logit of 6) begins high, none (0) low.
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def forward(self, logits: Tensor) -> Tensor:
        """(N, L) -> (N, L) in (0, 1)."""
        return (self.weight * logits + self.bias).sigmoid()


def _sum(weight: Tensor) -> Tensor:
    """Sum over the last axis, which is kept; at least 1e-6."""
    total = weight.sum(-1, keepdim=True)
    return total.clamp(min=1e-6)


def _resample(x: Tensor, steps: int) -> Tensor:
    """(M, k, t) -> (M, k, steps) over the same second: averaging to fewer steps, interpolating to more."""
    if steps == x.shape[-1]:
        return x
    if steps < x.shape[-1]:
        return F.adaptive_avg_pool1d(x, steps)
    return F.interpolate(x, size=steps, mode="linear", align_corners=False)
