from .attention import Attention, CrossAttentionLayer, FeedForwardLayer, SelfAttentionLayer
from .checkpoint import checkpoint_blocks, compute_again
from .deform_attn import DEFORM_IMPLEMENTATIONS, deform_attn
from .mlp import MLP
from .ms_deform_attn import MSDeformAttn
from .norm import small_batch_norm
from .position_encoding import sine_position_embedding
from .precision import at_least_float32, without_autocast

__all__ = [
    "DEFORM_IMPLEMENTATIONS",
    "MLP",
    "Attention",
    "CrossAttentionLayer",
    "FeedForwardLayer",
    "MSDeformAttn",
    "SelfAttentionLayer",
    "at_least_float32",
    "checkpoint_blocks",
    "compute_again",
    "deform_attn",
    "small_batch_norm",
    "sine_position_embedding",
    "without_autocast",
]
