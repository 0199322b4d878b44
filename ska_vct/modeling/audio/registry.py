"""Audio encoders are exchangeable: one class, registered, named by MODEL.AUDIO.NAME (docs/extending.md)."""

from detectron2.utils.registry import Registry
from torch import nn

from ska_vct.utils.registry import find_registered

AUDIO_ENCODER_REGISTRY = Registry("AUDIO_ENCODER")
AUDIO_ENCODER_REGISTRY.__doc__ = """Modules that map log-mel (N, 1, 96, 64) to an audio grid (N, C, a, b).

One with ``reads_audio_second = True`` gets the log-mel of exactly the frame's second, (N, 1, 100, 64), instead.
C is MODEL.HIDDEN_DIM; a and b are the encoder's choice. What an encoder calls ``backbone`` is its pretrained
network: MODEL.AUDIO.WEIGHTS fills it and SOLVER.BACKBONE_MULTIPLIER lowers its learning rate."""


def build_audio_encoder(cfg) -> nn.Module:
    """The audio encoder of ``MODEL.AUDIO.NAME``.

    Raises:
        UnknownNameError: nothing is registered under that name.
    """
    return find_registered(AUDIO_ENCODER_REGISTRY, cfg.MODEL.AUDIO.NAME, key="MODEL.AUDIO.NAME")(cfg)
