from .backbones import build_swin_backbone, build_timm_backbone
from .meta_arch import SKAVCT
from .ska import SKA_REGISTRY

__all__ = ["SKAVCT", "SKA_REGISTRY", "build_swin_backbone", "build_timm_backbone"]
