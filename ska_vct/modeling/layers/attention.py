"""Post-norm attention and feed-forward blocks (Vaswani et al., 2017; Mask2Former, Cheng et al., CVPR 2022).

Shape legend: N batch, Q queries, L keys, C width, h heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ska_vct.utils.errors import InputError


class Attention(nn.Module):
    """Multi-head attention through PyTorch's scaled-dot-product kernel; never materialises its weights.

    Query, key and value are projected apart, so that each may read its own input.
    """

    def __init__(self, *, dim: int, num_heads: int):
        super().__init__()
        if dim % num_heads:
            raise InputError(f"The attention width {dim} is not a multiple of its number of heads {num_heads}.")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        # One (3C, C) matrix in the published networks: the same initial scale as there.
        bound = (6 / (4 * dim)) ** 0.5
        for proj in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.uniform_(proj.weight, -bound, bound)
            nn.init.zeros_(proj.bias)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query: (N, Q, C).
            key: (N, L, C).
            value: (N, L, C).
            allowed: bool (N, Q, L); True where a query may read. None: everywhere.

        Returns:
            (N, Q, C).
        """
        q, k, v = (
            proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for proj, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        mask = None if allowed is None else allowed[:, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class CrossAttentionLayer(nn.Module):
    """Post-norm cross-attention: queries read a memory."""

    def __init__(self, *, dim: int, num_heads: int):
        super().__init__()
        self.attention = Attention(dim=dim, num_heads=num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        *,
        query_pos: Tensor | None = None,
        memory_pos: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Read ``memory`` (N, L, C) into ``queries`` (N, Q, C); positions are added to query and key only."""
        query = queries if query_pos is None else queries + query_pos
        key = memory if memory_pos is None else memory + memory_pos
        return self.norm(queries + self.attention(query, key, memory, allowed))


class SelfAttentionLayer(nn.Module):
    """Post-norm self-attention among queries."""

    def __init__(self, *, dim: int, num_heads: int):
        super().__init__()
        self.attention = Attention(dim=dim, num_heads=num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, *, query_pos: Tensor) -> Tensor:
        """(N, Q, C) -> (N, Q, C)."""
        positioned = queries + query_pos
        return self.norm(queries + self.attention(positioned, positioned, queries))


class FeedForwardLayer(nn.Module):
    """Post-norm two-layer feed-forward block with ReLU."""

    def __init__(self, *, dim: int, hidden_dim: int):
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.norm(x + self.linear2(torch.relu(self.linear1(x))))
