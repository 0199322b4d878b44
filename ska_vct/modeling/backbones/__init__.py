from .swin import SwinBackbone, build_swin_backbone
from .timm_backbone import TimmBackbone, build_timm_backbone

__all__ = ["SwinBackbone", "TimmBackbone", "build_swin_backbone", "build_timm_backbone"]
