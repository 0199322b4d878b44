"""Normalisation for modules that see few frames at once."""

from torch import nn

from ska_vct.utils.errors import InputError

# Channels of a group, as in Mask2Former's pixel decoder at width 256.
_GROUP = 8


def small_batch_norm(name: str, channels: int, *, key: str) -> nn.Module:
    """``BN``, as published, or ``GN``: on S4 a GPU may see two annotated frames, too few for batch statistics.

    Args:
        name: ``BN`` or ``GN``.
        channels: of the feature map.
        key: config key the name comes from, for the message.

    Raises:
        InputError: another name.
    """
    if name == "BN":
        return nn.BatchNorm2d(channels)
    if name == "GN":
        groups = max(1, channels // _GROUP)
        return nn.GroupNorm(groups if channels % groups == 0 else 1, channels)
    raise InputError(f"{key} is '{name}'; choose BN or GN.")
