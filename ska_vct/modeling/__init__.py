"""The model and the registries of its exchangeable parts (docs/extending.md)."""

from .audio.registry import AUDIO_ENCODER_REGISTRY
from .audio.vggish import VGGishEncoder
from .audio.yamnet import YAMNetEncoder
from .backbones import build_swin_backbone, build_timm_backbone
from .losses.auxiliary import LOSS_REGISTRY, LossInputs
from .losses.map_losses import ContrastLoss, MapLoss
from .meta_arch import SKAVCT
from .motion.flow_magnitude import FlowMagnitude
from .motion.ska import SKA_REGISTRY, FlowGatedSKA, MotionPrompt
from .motion.temporal_ska import TemporalSKA
from .outputs import FrameOutputs

__all__ = [
    "AUDIO_ENCODER_REGISTRY",
    "ContrastLoss",
    "FlowGatedSKA",
    "FlowMagnitude",
    "FrameOutputs",
    "LOSS_REGISTRY",
    "LossInputs",
    "MapLoss",
    "MotionPrompt",
    "SKAVCT",
    "SKA_REGISTRY",
    "TemporalSKA",
    "VGGishEncoder",
    "YAMNetEncoder",
    "build_swin_backbone",
    "build_timm_backbone",
]
