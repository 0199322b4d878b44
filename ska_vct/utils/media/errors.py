"""Errors of media files; the sentence names the file and what to do."""

from ska_vct.utils.errors import SkaVctError


class ImageError(SkaVctError, ValueError):
    """An image or mask cannot be used."""


class AudioError(SkaVctError, ValueError):
    """Audio cannot be used."""


class NoAudioError(AudioError):
    """A video has no audio track."""


class VideoError(SkaVctError, ValueError):
    """A video cannot be used."""
