from .backbones import build_swin_backbone, build_timm_backbone
from .flow_magnitude import FlowMagnitude
from .meta_arch import SKAVCT
from .ska import SKA_REGISTRY
from .temporal_ska import TemporalSKA

__all__ = ["SKAVCT", "FlowMagnitude", "SKA_REGISTRY", "TemporalSKA", "build_swin_backbone", "build_timm_backbone"]
