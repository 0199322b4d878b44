from .choice import DEFORM_IMPLEMENTATIONS, choose, deform_attn, require

__all__ = ["DEFORM_IMPLEMENTATIONS", "choose", "deform_attn", "require"]
