"""Motion-Prompted Query Generation; with the motion prompt off it equals VCT's PPQG.

Papers: "Listening to the Motion" (the motion prompt); Huang et al., "Revisiting Audio-Visual Segmentation with
Vision-Centric Transformer", CVPR 2025 (PPQG); Xu et al., "GroupViT", CVPR 2022 (pixel grouping); docs/method.md.

Shape legend: N frames, C width, p width before the last projection, Q queries, h x w mask-feature grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ska_vct.utils.errors import InputError

from ..layers import MLP, CrossAttentionLayer, at_least_float32
from ..motion.ska import SKA_REGISTRY, MotionPrompt
from .anchors import best_locations, sample_locations, seed_queries


def sample_gumbel(shape: torch.Size, like: Tensor) -> Tensor:
    """Standard Gumbel noise of ``shape``, on the device of ``like``, in fp32."""
    return -torch.empty(shape, device=like.device, dtype=torch.float32).exponential_().log()


def sample_gumbel_of_clips(shape: torch.Size, like: Tensor, clips: Sequence[tuple[int, int]]) -> Tensor:
    """As :func:`sample_gumbel`, but what a clip gets depends on its seed alone, not on its batch or process.

    Args:
        shape: N first.
        like: see there.
        clips: seed and number of frames of each clip, N frames together.
    """
    noise = torch.empty(shape, device=like.device, dtype=torch.float32)
    generator = torch.Generator(like.device)
    for part, (seed, _) in zip(noise.split([frames for _, frames in clips]), clips, strict=True):
        part.exponential_(generator=generator.manual_seed(seed))
    return -noise.log()


@dataclass(frozen=True)
class Pixels:
    """Lazy pixel features W (s * y) + b * s; every consumer is linear, so they are never materialised.

    Attributes:
        hidden: (N, p, h, w), s * y: features before the last projection, multiplied by the motion prompt s.
        scale: (N, 1, h, w), the motion prompt s; ones without a prompt.
        weight: (C, p), W.
        bias: (C,), b.
    """

    hidden: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def dot(self, vectors: Tensor) -> Tensor:
        """Dot products of (N, Q, C) vectors with all pixels: (N, Q, h*w)."""
        offset = vectors @ self.bias[:, None] * self.scale.flatten(2)
        return (vectors @ self.weight) @ self.hidden.flatten(2) + offset

    def sum(self, shares: Tensor) -> Tensor:
        """Sums of pixels weighted by (N, Q, h*w) shares: (N, Q, C)."""
        hidden, scale = (shares @ maps.flatten(2).mT for maps in (self.hidden, self.scale))
        return F.linear(hidden, self.weight) + scale * self.bias

    def mix(self, mixer: nn.Linear) -> Tensor:
        """``mixer`` applied to the h*w pixels of each channel: (N, C, out)."""
        # A linear layer would copy channels-last features and keep the copy for the backward pass.
        weight = mixer.weight.expand(self.hidden.shape[0], -1, -1)
        hidden, scale = (torch.bmm(weight, maps.flatten(2).mT).mT for maps in (self.hidden, self.scale))
        return self.weight @ hidden + self.bias[:, None] * scale + mixer.bias

    def at(self, locations: Tensor, grid: tuple[int, int]) -> Tensor:
        """Pixels at the centres of grid cells, see ``sample_locations``: (N, k, C)."""
        hidden, scale = (sample_locations(maps, locations, grid) for maps in (self.hidden, self.scale))
        return F.linear(hidden, self.weight) + scale * self.bias

    def resized(self, size: tuple[int, int]) -> "Pixels":
        """The same pixels interpolated to another grid size."""
        hidden, scale = (
            F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
            for maps in (self.hidden, self.scale)
        )
        return replace(self, hidden=hidden, scale=scale)


class PixelGrouping(nn.Module):
    """Assigns each pixel to one query and adds the projected mean of its pixels to the query."""

    def __init__(self, *, dim: int, tau: float):
        """
        Args:
            dim: width C.
            tau: temperature of the Gumbel-softmax in training.
        """
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.scale = dim**-0.5
        self.tau = tau

    def assign(self, queries: Tensor, pixels: Pixels, noise: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """One-hot assignment of each pixel to a query, with a straight-through gradient: (N, Q, h*w)."""
        # q . (K x + k) = (K'q) . x + q . k: project the few queries instead of all pixels.
        projected = self.q_proj(queries) * self.scale
        logits = pixels.dot(projected @ self.k_proj.weight) + projected @ self.k_proj.bias[:, None]
        logits = at_least_float32(logits)
        if self.training:
            shape = logits.shape
            drawn = sample_gumbel_of_clips(shape, logits, noise) if noise else sample_gumbel(shape, logits)
            logits = (logits + drawn) / self.tau
        winner = logits.argmax(1, keepdim=True)
        hard = torch.zeros_like(logits).scatter_(1, winner, 1.0)
        if not torch.is_grad_enabled():
            return hard
        soft = logits.softmax(1)
        return hard - soft.detach() + soft

    def forward(self, queries: Tensor, pixels: Pixels, noise: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """(N, Q, C) -> (N, Q, C); ``noise``, see ``sample_gumbel_of_clips``."""
        assignment = self.assign(queries, pixels, noise).to(pixels.hidden.dtype)
        count = assignment.sum(-1, keepdim=True)
        # The values V x + v of a query's pixels sum to V (sum of x) + v (number of pixels).
        values = F.linear(pixels.sum(assignment), self.v_proj.weight) + count * self.v_proj.bias
        return queries + self.out_proj(values / (count + 1))


class MPQG(nn.Module):
    """Generates queries from the mask features, reweighted by the motion map of SKA."""

    @configurable
    def __init__(
        self,
        *,
        mask_dim: int,
        dim: int,
        num_queries: int,
        mixer_grid: tuple[int, int],
        pre_dim: int,
        mixer_dim: int,
        num_prototypes: int,
        num_heads: int,
        tau: float,
        motion: bool,
        gate_init: float,
        retrieves: bool = True,
        anchors: int = 0,
        plain_anchors: bool = False,
    ):
        """
        Args:
            mask_dim: width of the mask features.
            dim: width C of the queries.
            num_queries: Q.
            mixer_grid: rows and columns expected by the query mixer; other grids are resized to it.
            pre_dim: width of the convolutions before the mixer.
            mixer_dim: hidden width of the mixer.
            num_prototypes: learnt class prototypes to which the queries attend; 0 for none.
            num_heads: heads of that attention.
            tau: see ``PixelGrouping``.
            motion: whether to use a motion prompt; without it the module equals VCT's PPQG.
            gate_init: initial value of the learnt weight of the motion map.
            retrieves: whether prompts contain retrieved motion, which is then added to the queries.
            anchors: number of queries initialised with the features at the maxima of the motion map; 0 for none.
            plain_anchors: whether those features are sampled before the motion map reweights them.

        Raises:
            InputError: ``anchors`` is set without ``motion``, or exceeds ``num_queries``.
        """
        super().__init__()
        if anchors and not motion:
            raise InputError(
                "MODEL.MPQG.ANCHORS needs a motion map: set MODEL.MPQG.MOTION and MODEL.SKA.ENABLED True."
            )
        if not 0 <= anchors <= num_queries:
            raise InputError(f"MODEL.MPQG.ANCHORS is {anchors}, but there are {num_queries} queries.")
        self.anchors = anchors
        self.plain_anchors = plain_anchors
        self.mixer_grid = tuple(mixer_grid)
        self.pre_proj = nn.Sequential(
            nn.Conv2d(mask_dim, pre_dim, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(pre_dim, pre_dim, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(pre_dim, dim, 1),
        )
        self.query_mixer = MLP([self.mixer_grid[0] * self.mixer_grid[1], mixer_dim, mixer_dim, num_queries])
        self.prototypes = None
        if num_prototypes:
            self.prototypes = nn.Embedding(num_prototypes, dim)
            self.prototype_attention = CrossAttentionLayer(dim=dim, num_heads=num_heads)
        self.grouping = PixelGrouping(dim=dim, tau=tau)
        self.query_feat = nn.Embedding(num_queries, dim)
        self.motion = motion
        if motion:
            self.motion_gate = nn.Parameter(torch.tensor(float(gate_init)))
        self.retrieved_proj = None
        if motion and retrieves:
            self.retrieved_proj = nn.Linear(dim, dim)
            # Initially zero, which equals the published model (it discards the retrieved motion), but trainable.
            nn.init.zeros_(self.retrieved_proj.weight)
            nn.init.zeros_(self.retrieved_proj.bias)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.MPQG
        motion = node.MOTION and cfg.MODEL.SKA.ENABLED
        locations = cfg.MODEL.SKA.GRID[0] * cfg.MODEL.SKA.GRID[1]
        if node.ANCHORS > locations:
            raise InputError(
                f"MODEL.MPQG.ANCHORS is {node.ANCHORS}, but MODEL.SKA.GRID has only {locations} locations."
            )
        grid = node.MIXER_GRID if any(node.MIXER_GRID) else [-(-side // 4) for side in cfg.INPUT.SIZE]
        return {
            "mask_dim": cfg.MODEL.PIXEL_DECODER.MASK_DIM or cfg.MODEL.HIDDEN_DIM,
            "dim": cfg.MODEL.HIDDEN_DIM,
            "num_queries": cfg.MODEL.DECODER.NUM_QUERIES,
            "mixer_grid": grid,
            "pre_dim": node.PRE_DIM,
            "mixer_dim": node.MIXER_DIM,
            "num_prototypes": node.NUM_PROTOTYPES,
            "num_heads": node.NUM_HEADS,
            "tau": node.GUMBEL_TAU,
            "motion": motion,
            "gate_init": node.GATE_INIT,
            "anchors": node.ANCHORS,
            "plain_anchors": _plain_anchors(node.ANCHOR_FEATURES),
            # A projection of zeros would have parameters without a gradient.
            "retrieves": motion and SKA_REGISTRY.get(cfg.MODEL.SKA.NAME).retrieves,
        }

    def forward(
        self,
        mask_features: Tensor,
        prompt: MotionPrompt | None = None,
        noise: Sequence[tuple[int, int]] | None = None,
    ) -> Tensor:
        """Generate the queries.

        Args:
            mask_features: (N, mask_dim, h, w).
            prompt: result of SKA; None if motion is off.
            noise: seed and number of frames of each clip, for the noise of training; None: PyTorch's own.

        Returns:
            (N, Q, C).
        """
        plain, pixels = self._pixels(mask_features, prompt)
        mixed, size = pixels, pixels.hidden.shape[-2:]
        # A graph exported for any size always resizes; resizing to the same size is the identity.
        if isinstance(size[-1], torch.SymInt) or size != self.mixer_grid:
            mixed = pixels.resized(self.mixer_grid)
        first, *rest = self.query_mixer
        queries = mixed.mix(first)
        for layer in rest:
            queries = layer(queries)
        queries = queries.transpose(1, 2)
        if prompt is not None and self.anchors:
            locations, found = best_locations(prompt.motion_map, self.anchors)
            source = plain if self.plain_anchors else pixels
            queries = seed_queries(queries, source.at(locations, prompt.motion_map.shape[-2:]), found)
        if prompt is not None and self.retrieved_proj is not None:
            queries = queries + self.retrieved_proj(prompt.retrieved)[:, None]
        if self.prototypes is not None:
            memory = self.prototypes.weight.expand(queries.shape[0], -1, -1)
            queries = self.prototype_attention(queries, memory)
        return self.grouping(queries, pixels, noise) + self.query_feat.weight

    def _pixels(self, mask_features: Tensor, prompt: MotionPrompt | None) -> tuple[Pixels, Pixels]:
        """Pixels before and after the motion map reweights them."""
        hidden, last = self.pre_proj[:-1](mask_features), self.pre_proj[-1]
        plain = Pixels(
            hidden=hidden, scale=torch.ones_like(hidden[:, :1]), weight=last.weight.flatten(1), bias=last.bias
        )
        if prompt is None or not self.motion:
            return plain, plain
        size = hidden.shape[-2:]
        motion_map = F.interpolate(prompt.motion_map, size=size, mode="bilinear", align_corners=False)
        scale = 1 + self.motion_gate * motion_map
        return plain, replace(plain, hidden=hidden * scale, scale=scale)


def _plain_anchors(name: str) -> bool:
    if name not in ("modulated", "plain"):
        raise InputError(f"MODEL.MPQG.ANCHOR_FEATURES is '{name}'; choose modulated or plain.")
    return name == "plain"
