"""Warnings that libraries raise about one another, and that a user of this package can do nothing about."""

import warnings

# Detectron2 and timm are written for older releases of PyTorch; category and beginning of the message.
_HARMLESS: tuple[tuple[type[Warning], str], ...] = (
    (FutureWarning, r"`torch\.jit\.\w+` is deprecated"),
    (DeprecationWarning, r"`torch\.jit\.\w+` is deprecated"),
    (FutureWarning, r"`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated"),
    (FutureWarning, r"Importing from timm\.models"),
    (UserWarning, r"torch\.meshgrid: in an upcoming release"),
)


def ignore_library_warnings() -> None:
    """Ignore exactly these warnings in this process; filters that are set later come first."""
    for category, message in _HARMLESS:
        warnings.filterwarnings("ignore", message=message, category=category)
