"""Motion-Prompted Query Generation, and VCT's PPQG as its off state.

Papers: "Listening to the Motion" (the motion prompt); Huang et al., "Revisiting Audio-Visual Segmentation with
Vision-Centric Transformer", CVPR 2025 (PPQG); Xu et al., "GroupViT", CVPR 2022 (pixel grouping); spec: model.md.

Shape legend: N frames, C width, Q queries, h x w mask-feature grid.
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from .anchors import seed_queries
from .layers import MLP, CrossAttentionLayer, at_least_float32
from .ska import SKA_REGISTRY, MotionPrompt


def sample_gumbel(shape: torch.Size, like: Tensor) -> Tensor:
    """Standard Gumbel noise of ``shape``, on the device of ``like``, in fp32."""
    return -torch.empty(shape, device=like.device, dtype=torch.float32).exponential_().log()


class PixelGrouping(nn.Module):
    """Gives each pixel to one query and adds the pixels' sum to it."""

    def __init__(self, *, dim: int, tau: float):
        """
        Args:
            dim: width C.
            tau: temperature of the Gumbel-softmax while training.
        """
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.scale = dim**-0.5
        self.tau = tau

    def assign(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """One-hot assignment of each pixel to a query, with a straight-through gradient: (N, Q, h*w)."""
        logits = torch.einsum("nqc,npc->nqp", self.q_proj(queries), self.k_proj(pixels))
        logits = at_least_float32(logits) * self.scale
        if self.training:
            logits = (logits + sample_gumbel(logits.shape, logits)) / self.tau
        winner = logits.argmax(1, keepdim=True)
        hard = torch.zeros_like(logits).scatter_(1, winner, 1.0)
        if not torch.is_grad_enabled():
            return hard
        soft = logits.softmax(1)
        return hard - soft.detach() + soft

    def forward(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """Queries (N, Q, C) and pixels (N, h*w, C) -> queries (N, Q, C)."""
        assignment = self.assign(queries, pixels)
        assignment = assignment / (assignment.sum(-1, keepdim=True) + 1)
        values = self.v_proj(pixels)
        return queries + self.out_proj(assignment.to(values.dtype) @ values)


class MPQG(nn.Module):
    """Queries made from the mask features, reweighted by the motion that SKA found."""

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
    ):
        """
        Args:
            mask_dim: width of the mask features.
            dim: width C of the queries.
            num_queries: Q.
            mixer_grid: rows and columns the query mixer is made for; other grids are resized to it.
            pre_dim: width of the convolutions before the mixer.
            mixer_dim: hidden width of the mixer.
            num_prototypes: learnt class prototypes the queries may read; 0 for none.
            num_heads: heads of that reading.
            tau: see ``PixelGrouping``.
            motion: whether a motion prompt is used; without it this is VCT's PPQG.
            gate_init: start of the learnt weight of the motion map.
            retrieves: whether prompts hold retrieved motion, so that the queries get it.
            anchors: queries that start as the features at the best places of the motion map; 0 for none.

        Raises:
            ValueError: for anchors without motion, or more than there are queries.
        """
        super().__init__()
        if anchors and not motion:
            raise ValueError(
                "MODEL.MPQG.ANCHORS needs a motion map: set MODEL.MPQG.MOTION and MODEL.SKA.ENABLED True."
            )
        if not 0 <= anchors <= num_queries:
            raise ValueError(f"MODEL.MPQG.ANCHORS is {anchors}, but there are {num_queries} queries.")
        self.anchors = anchors
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
            # Starts as published, where the retrieved motion is thrown away, yet lets it train.
            nn.init.zeros_(self.retrieved_proj.weight)
            nn.init.zeros_(self.retrieved_proj.bias)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.MPQG
        motion = node.MOTION and cfg.MODEL.SKA.ENABLED
        places = cfg.MODEL.SKA.GRID[0] * cfg.MODEL.SKA.GRID[1]
        if node.ANCHORS > places:
            raise ValueError(f"MODEL.MPQG.ANCHORS is {node.ANCHORS}, but MODEL.SKA.GRID has {places} places.")
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
            # A projection that reads zeros would leave parameters without a gradient.
            "retrieves": motion and SKA_REGISTRY.get(cfg.MODEL.SKA.NAME).retrieves,
        }

    def forward(self, mask_features: Tensor, prompt: MotionPrompt | None = None) -> Tensor:
        """Make the queries.

        Args:
            mask_features: (N, mask_dim, h, w).
            prompt: what SKA found; None where motion is off.

        Returns:
            (N, Q, C).
        """
        x = self.pre_proj(mask_features)
        if prompt is not None and self.motion:
            motion_map = F.interpolate(prompt.motion_map, size=x.shape[-2:], mode="bilinear", align_corners=False)
            x = x * (1 + self.motion_gate * motion_map)
        mixed = x
        # An exported graph for any size always resizes: to the same size it changes nothing.
        if isinstance(x.shape[-1], torch.SymInt) or x.shape[-2:] != self.mixer_grid:
            mixed = F.interpolate(x, size=self.mixer_grid, mode="bilinear", align_corners=False)
        queries = self.query_mixer(mixed.flatten(2)).transpose(1, 2)
        if prompt is not None and self.anchors:
            queries = seed_queries(queries, x, prompt.motion_map, self.anchors)
        if prompt is not None and self.retrieved_proj is not None:
            queries = queries + self.retrieved_proj(prompt.retrieved)[:, None]
        if self.prototypes is not None:
            memory = self.prototypes.weight.expand(queries.shape[0], -1, -1)
            queries = self.prototype_attention(queries, memory)
        queries = self.grouping(queries, x.flatten(2).transpose(1, 2))
        return queries + self.query_feat.weight
