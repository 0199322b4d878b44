"""Errors that the input causes: wrong values, missing files, unknown names.

Their messages are sentences for the user: what is wrong, where, and what to do. Command lines print only the
message (:mod:`ska_vct.utils.cli`). Every other exception is a defect of the program and keeps its traceback.
"""


class SkaVctError(Exception):
    """Base of all errors that this package raises because of its input.

    Attributes:
        exit_status: with which a command ends.
    """

    exit_status = 2


class InputError(SkaVctError, ValueError):
    """A value, or the content of a file, cannot be used."""


class ConfigError(InputError):
    """A config file or override is wrong; the message names the file or the key."""


class UnknownNameError(SkaVctError, KeyError):
    """There is nothing of that name; the message lists the names there are."""

    def __str__(self) -> str:
        # KeyError shows the repr of its message.
        return str(self.args[0]) if self.args else ""


class FileSystemError(SkaVctError, OSError):
    """A file or folder cannot be read or written."""


class MissingFileError(FileSystemError, FileNotFoundError):
    """A file or folder does not exist."""
