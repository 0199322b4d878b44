"""Prototype alignment: audio is pulled towards the prototypes of its classes (Huang et al., "VCT", CVPR 2025)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .over_processes import shared_denominator


class PrototypeAlignment(nn.Module):
    """Compares the audio of a frame with the learnt prototypes in a shared embedding space."""

    def __init__(self, *, dim: int):
        """
        Args:
            dim: width C.
        """
        super().__init__()
        self.audio_proj = nn.Linear(dim, dim, bias=False)
        self.prototype_proj = nn.Linear(dim, dim, bias=False)
        for proj in (self.audio_proj, self.prototype_proj):
            nn.init.normal_(proj.weight, std=dim**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed(self, audio_grid: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of the audio (N, C) and of the prototypes (T, C).

        Args:
            audio_grid: (N, C, a, b).
            prototypes: (T, C).
        """
        audio = F.normalize(self.audio_proj(audio_grid.mean((2, 3))), dim=-1)
        return audio, F.normalize(self.prototype_proj(prototypes), dim=-1)

    def loss(self, audio: Tensor, prototypes: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy of the scaled similarities.

        Args:
            audio: unit vectors (N, C).
            prototypes: unit vectors (T, C), or (N, T, C) if each frame has its own.
            target: float (N, T); 1 for audible classes. Rows with negative values are excluded.

        Returns:
            scalar.
        """
        similarity = self.logit_scale.exp() * (prototypes.float() @ audio.float()[..., None])[..., 0]
        known = (target >= 0).all(-1, keepdim=True).float()
        per_class = F.binary_cross_entropy_with_logits(similarity, target.clamp(min=0), reduction="none")
        return (per_class * known).sum() / shared_denominator(known.sum() * target.shape[1], at_least=1)
