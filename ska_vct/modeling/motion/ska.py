"""Spectral-Kinematic Alignment: audio queries the flow field, so that only motion matching it is activated.

Paper: "Listening to the Motion: Probing Physical Consistency for Audio-Visual Segmentation", SKA; docs/method.md.

Shape legend: N frames, C width, S flow fields per second, g x g flow grid.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from ska_vct.utils.errors import InputError
from ska_vct.utils.registry import find_registered

from ..layers import at_least_float32, small_batch_norm

SKA_REGISTRY = Registry("SKA")
SKA_REGISTRY.__doc__ = """Modules that map (audio grid, log-mel, flow) to a MotionPrompt; chosen by MODEL.SKA.NAME.

Class attributes declare what a module reads and returns. ``retrieves``: it fills ``MotionPrompt.retrieved``; the
layers that consume it are built only then. ``reads_audio_grid``: it needs the audio encoder.
``reads_audio_second`` (optional): its second argument is the log-mel of exactly the frame's second instead of
VGGish's patch."""

_FLOW_CHANNELS = {"magnitude": 1, "uvm": 3}
# A field whose values differ by less than this fraction of the largest is static or moves uniformly.
_STILL_SHARE = 1e-4
# Keeps the logarithm finite at static locations; fraction of the frame's largest motion.
_ENERGY_FLOOR = 0.03
# Attention that varies by less than this fraction of the uniform value is rounding noise.
_NOISE_SHARE = 1e-4
# Without an absolute speed floor, a location at this fraction of its frame's largest speed counts as half moving.
_MOVING_SHARE = 0.1


_ENERGY_PRIORS = ("auto", "on", "off")


@dataclass(frozen=True)
class MotionPrompt:
    """Result of a motion module.

    Attributes:
        motion_map: (N, 1, g, g) in [0, 1]; exactly zero for frames with uniform flow.
        retrieved: (N, C) values to which the audio attended; zero for the same frames, and always zero if the
            module does not retrieve.
        moving: (N, 1, g, g) in [0, 1], confidence that a location moves, regardless of the audio; None if unknown.
        region_match: maps regions (N, g*g), whose rows sum to 1, to the match (N, N) in [-1, 1] of region n's
            motion with the audio of frame m; None if the module does not compare motion and audio over time.
        attention: (N, heads, g, g), each head's weights, which sum to 1 over the locations; None if the module
            does not attend.
    """

    motion_map: Tensor
    retrieved: Tensor
    moving: Tensor | None = None
    region_match: Callable[[Tensor], Tensor] | None = None
    attention: Tensor | None = None


def energy_start(cfg: CfgNode, *, default: bool) -> float | None:
    """Initial value of the learnt weight of the energy prior, or None if the prior is off.

    Args:
        cfg: the configuration.
        default: whether ``MODEL.SKA.ENERGY_PRIOR: auto`` enables the prior.

    Raises:
        InputError: ``MODEL.SKA.ENERGY_PRIOR`` is not auto, on or off.
    """
    prior = cfg.MODEL.SKA.ENERGY_PRIOR
    if prior not in _ENERGY_PRIORS:
        raise InputError(f"MODEL.SKA.ENERGY_PRIOR is '{prior}'; choose one of {', '.join(_ENERGY_PRIORS)}.")
    return cfg.MODEL.SKA.ENERGY_INIT if prior == "on" or (prior == "auto" and default) else None


def energy_parameter(start: float | None) -> nn.Parameter | None:
    """The learnt weight of the energy prior; None, which registers no parameter, if the prior is off."""
    return None if start is None else nn.Parameter(torch.tensor(float(start)))


def add_energy(logits: Tensor, magnitude: Tensor, weight: Tensor | None) -> Tensor:
    """Add the energy prior: a location's log speed, which biases attention towards moving locations.

    Args:
        logits: (N, heads, L), at least float32.
        magnitude: (N, L), mean over the second.
        weight: scalar; None disables the prior.

    Returns:
        (N, heads, L).
    """
    if weight is None:
        return logits
    return logits + weight * (at_least_float32(magnitude)[:, None] + _ENERGY_FLOOR).log()


def channel_count(channels: str) -> int:
    """Channels of ``flow_channels``.

    Raises:
        InputError: ``channels`` is unknown.
    """
    if channels not in _FLOW_CHANNELS:
        raise InputError(f"MODEL.SKA.CHANNELS must be one of {', '.join(_FLOW_CHANNELS)}, got '{channels}'.")
    return _FLOW_CHANNELS[channels]


def flow_channels(flow: Tensor, channels: str) -> Tensor:
    """Flow channels that an SKA module reads; the magnitude comes last.

    Args:
        flow: (N, S, 2, h, w), u and v.
        channels: ``magnitude`` or ``uvm`` (u, v and magnitude).

    Returns:
        (N, S, 1 or 3, h, w).
    """
    magnitude = flow.square().sum(2, keepdim=True).sqrt()
    return magnitude if channels == "magnitude" else torch.cat((flow, magnitude), 2)


def reduce_flow(flow: Tensor, channels: str) -> Tensor:
    """Flow series (N, S, 2, h, w) -> motion image of a frame (N, 1 or 3, h, w), the mean over its second."""
    return flow_channels(flow, channels).mean(1)


def resize_map(motion_image: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, c, h, w) -> (N, c, *size), bilinear."""
    return F.interpolate(motion_image, size=size, mode="bilinear", align_corners=False)


def is_still(motion_image: Tensor) -> Tensor:
    """Which frames have uniform flow: (N, c, h, w) -> bool (N,)."""
    flat = motion_image.flatten(2)
    spread = flat.amax(-1) - flat.amin(-1)
    return (spread <= _STILL_SHARE * flat.abs().amax(-1)).all(-1)


def min_max(attention: Tensor) -> Tensor:
    """Stretch each row of (N, L) to [0, 1]; rows that are constant up to rounding become zero."""
    low, high = attention.amin(-1, keepdim=True), attention.amax(-1, keepdim=True)
    spread = high - low
    noise = _NOISE_SHARE * attention.mean(-1, keepdim=True)
    return torch.where(spread > noise, (attention - low) / spread.clamp(min=torch.finfo(spread.dtype).tiny), 0.0)


def soft_gate(x: Tensor, floor: float | Tensor) -> Tensor:
    """Soft threshold x^2 / (x^2 + floor^2): 0 at x = 0, 1/2 at ``floor``, approaching 1."""
    square = x.square()
    return square / (square + floor**2).clamp(min=torch.finfo(x.dtype).tiny)


def make_prompt(
    attention: Tensor,
    retrieved: Tensor,
    motion_image: Tensor,
    *,
    speed_floor: float = 0.0,
    confidence: Tensor | None = None,
    motion_map: Tensor | None = None,
    region_match: Callable[[Tensor], Tensor] | None = None,
) -> MotionPrompt:
    """Build the prompt of any form of SKA: attention averaged over heads, stretched, and zero at static locations.

    Args:
        attention: (N, heads, L) over the g*g locations.
        retrieved: (N, C).
        motion_image: (N, c, g, g), the flow that was attended to, with the magnitude as its last channel.
        speed_floor: speed at which a location gets weight 1/2, in the units of the flow; 0: only frames with
            uniform flow count as static, and ``moving`` is relative to the frame's fastest location.
        confidence: (N,) in [0, 1], factor that scales the map; None: 1.
        motion_map: (N, L) in [0, 1], used instead of the stretched attention.
        region_match: see :class:`MotionPrompt`.
    """
    still = is_still(motion_image)[:, None]
    motion_map = min_max(attention.mean(1)) if motion_map is None else motion_map
    speed = motion_image[:, -1].flatten(1)
    if speed_floor > 0:
        moving = soft_gate(speed, speed_floor)
        motion_map = motion_map * moving
    else:
        moving = soft_gate(speed, _MOVING_SHARE * speed.amax(1, keepdim=True))
    if confidence is not None:
        motion_map, retrieved = (x * confidence[:, None] for x in (motion_map, retrieved))
    motion_map, moving = (
        torch.where(still, 0.0, x).unflatten(-1, motion_image.shape[-2:])[:, None] for x in (motion_map, moving)
    )
    return MotionPrompt(
        motion_map=motion_map,
        retrieved=torch.where(still, 0.0, retrieved),
        moving=moving,
        region_match=region_match,
    )


@SKA_REGISTRY.register()
class SKA(nn.Module):
    """The published form: a pooled audio vector queries one motion image per frame."""

    retrieves = True
    reads_audio_grid = True

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        flow_dim: int,
        grid: tuple[int, int],
        channels: str,
        num_heads: int,
        energy_init: float | None = None,
        norm: str = "BN",
    ):
        """
        Args:
            dim: width C.
            flow_dim: hidden channels of the flow encoder.
            grid: rows and columns to which the flow is resized.
            channels: ``magnitude`` or ``uvm``.
            num_heads: attention heads.
            energy_init: initial value of the learnt weight of the log energy; None for no energy prior, as
                published.
            norm: normalization in the flow encoder: ``BN`` as published, or ``GN``, which is independent of the
                batch.

        Raises:
            InputError: ``channels`` or ``norm`` is unknown, or ``num_heads`` does not divide ``dim``.
        """
        super().__init__()
        width = channel_count(channels)
        if dim % num_heads:
            raise InputError(f"MODEL.HIDDEN_DIM {dim} is not a multiple of MODEL.SKA.NUM_HEADS {num_heads}.")
        self.grid = tuple(grid)
        self.channels = channels
        self.num_heads = num_heads
        self.flow_encoder = nn.Sequential(
            nn.Conv2d(width, flow_dim, 3, padding=1),
            small_batch_norm(norm, flow_dim, key="MODEL.SKA.NORM"),
            nn.ReLU(inplace=True),
            nn.Conv2d(flow_dim, dim, 1),
            small_batch_norm(norm, dim, key="MODEL.SKA.NORM"),
        )
        self.audio_proj = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        # Stored as a logarithm to keep the temperature positive; initially 1.
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_load_state_dict_pre_hook(_read_temperature)
        self.energy_weight = energy_parameter(energy_init)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.SKA
        return {
            "dim": cfg.MODEL.HIDDEN_DIM,
            "flow_dim": node.FLOW_DIM,
            "grid": node.GRID,
            "channels": node.CHANNELS,
            "num_heads": node.NUM_HEADS,
            "energy_init": energy_start(cfg, default=False),
            "norm": node.NORM,
        }

    def forward(self, audio_grid: Tensor, log_mel: Tensor, flow: Tensor) -> MotionPrompt:
        """Find the motion that matches the audio.

        Args:
            audio_grid: (N, C, a, b).
            log_mel: (N, 1, 96, 64); ignored by the published form.
            flow: (N, S, 2, h', w'), in the units of ``INPUT.FLOW.NORM``.
        """
        motion_image = resize_map(reduce_flow(flow, self.channels), self.grid)
        tokens = self.flow_encoder(motion_image).flatten(2).transpose(1, 2)  # N, L, C
        audio = self.audio_proj(audio_grid.mean((2, 3)))  # N, C

        heads = (self.num_heads, -1)
        q = self.q_proj(audio).unflatten(-1, heads)
        k = self.k_proj(tokens).unflatten(-1, heads)
        v = self.v_proj(tokens).unflatten(-1, heads)
        logits = torch.einsum("nhd,nlhd->nhl", q, k) / (q.shape[-1] ** 0.5 * self.log_temperature.exp())
        # The magnitude is the last channel with either setting of ``channels``.
        logits = add_energy(at_least_float32(logits), motion_image[:, -1].flatten(1), self.energy_weight)
        attention = logits.softmax(-1)
        retrieved = torch.einsum("nhl,nlhd->nhd", attention.to(v.dtype), v).flatten(1)
        prompt = self._prompt(attention, retrieved, motion_image)
        return replace(prompt, attention=attention.unflatten(-1, self.grid))

    def _prompt(self, attention: Tensor, retrieved: Tensor, motion_image: Tensor) -> MotionPrompt:
        return make_prompt(attention, retrieved, motion_image)


@SKA_REGISTRY.register()
class FlowGatedSKA(SKA):
    """Multiplies the affinity by the motion (the authors' later notes, KEVA), so static regions stay at zero.

    The published form does not couple attention to motion, so its map may be inverted; this form rules that out.
    """

    def _prompt(self, attention: Tensor, retrieved: Tensor, motion_image: Tensor) -> MotionPrompt:
        speed = motion_image[:, -1].flatten(1)
        affinity = min_max(attention.mean(1)) * min_max(speed)
        return make_prompt(affinity[:, None], retrieved, motion_image)


def _read_temperature(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Convert the temperature of checkpoints from before 0.2, which store it without the logarithm."""
    old = state_dict.pop(f"{prefix}temperature", None)
    if old is not None:
        state_dict[f"{prefix}log_temperature"] = old.abs().clamp(min=1e-4).log()


def build_ska(cfg) -> nn.Module | None:
    """The motion module named by the config, or None if it is disabled."""
    if not cfg.MODEL.SKA.ENABLED:
        return None
    return find_registered(SKA_REGISTRY, cfg.MODEL.SKA.NAME, key="MODEL.SKA.NAME")(cfg)
