from .backbones import build_swin_backbone, build_timm_backbone
from .meta_arch import SKAVCT
from .motion.flow_magnitude import FlowMagnitude
from .motion.ska import SKA_REGISTRY
from .motion.temporal_ska import TemporalSKA

__all__ = ["SKAVCT", "FlowMagnitude", "SKA_REGISTRY", "TemporalSKA", "build_swin_backbone", "build_timm_backbone"]
