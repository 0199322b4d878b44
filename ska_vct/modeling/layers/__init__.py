from .attention import Attention, CrossAttentionLayer, FeedForwardLayer, SelfAttentionLayer
from .checkpoint import checkpoint_blocks
from .mlp import MLP
from .ms_deform_attn import MSDeformAttn, ms_deform_attn_core
from .position_encoding import sine_position_embedding
from .precision import at_least_float32

__all__ = [
    "MLP",
    "Attention",
    "CrossAttentionLayer",
    "FeedForwardLayer",
    "MSDeformAttn",
    "SelfAttentionLayer",
    "at_least_float32",
    "checkpoint_blocks",
    "ms_deform_attn_core",
    "sine_position_embedding",
]
