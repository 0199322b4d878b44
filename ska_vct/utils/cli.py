"""Shared by all commands: splitting config overrides from options, and one-sentence errors."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from ska_vct.utils.errors import SkaVctError

_PACKAGE = "ska_vct"
_REPORT = (
    "This is a defect of SKA-VCT, not of your input. Please report it with this traceback, the command, and the "
    "environment.txt of the output folder if there is one."
)
_DEBUG_VARIABLE = "SKA_VCT_DEBUG"
_CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)+")


def split_overrides(words: Sequence[str], *, keys_of: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Split a command line into options, which may take several values, and ``KEY VALUE`` pairs.

    Pairs begin at the first word that looks like a full config key and end at the next option.

    Args:
        words: the command line, e.g. ``--workers 0 2 MODEL.HIDDEN_DIM 64``.
        keys_of: options whose first value is itself a config key.
    """
    for index, word in enumerate(words):
        if _CONFIG_KEY.fullmatch(word) and (index == 0 or words[index - 1] not in keys_of):
            end = next((i for i in range(index, len(words)) if words[i].startswith("--")), len(words))
            return [*words[:index], *words[end:]], list(words[index:end])
    return list(words), []


@contextmanager
def one_sentence_errors(
    *, interrupted: str = "a training continues from its last checkpoint with --resume"
) -> Iterator[None]:
    """Turn errors that the input causes into ``error: <sentence>``, without a traceback.

    The exit status is 2 for most :class:`SkaVctError`, as for options that ``argparse`` refuses, and 1 for an
    ``OSError`` (a full disk, a folder that cannot be written) and packages that are not installed. Any other
    exception is a defect: it keeps its traceback, asks for a report, and ends the program with status 1. With
    ``SKA_VCT_DEBUG=1`` every error keeps its traceback.

    Args:
        interrupted: what to do after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
        sys.exit(f"interrupted; {interrupted}")
    except (SkaVctError, OSError) as error:
        _end(error, str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == _PACKAGE:
            _ask_for_report(error)
            raise
        _end(error, missing_module(error))
    except Exception as error:
        _ask_for_report(error)
        raise


def missing_module(error: ModuleNotFoundError) -> str:
    """What to do about a package that is not installed."""
    name = (error.name or str(error)).partition(".")[0]
    if name == "detectron2":
        return (
            f"{sys.executable} has no Detectron2, which PyPI does not offer under that name; from a checkout run "
            "'python scripts/install_detectron2.py', or anywhere: pip install --no-build-isolation "
            "'git+https://github.com/facebookresearch/detectron2.git'."
        )
    return (
        f"{sys.executable} has no module '{name}'; run 'bash scripts/quickstart.sh --setup-only' once and use "
        ".venv/bin/python, or add --no-venv to set up the Python environment you are in."
    )


def _end(error: Exception, message: str) -> NoReturn:
    if os.environ.get(_DEBUG_VARIABLE):
        raise error
    # A data loader's worker passes its whole traceback as the message; the last line is the sentence.
    if "Original Traceback" in message:
        message = message.strip().splitlines()[-1].split(": ", 1)[-1]
    sys.stdout.flush()
    text = f"error: {message or type(error).__name__} (traceback with {_DEBUG_VARIABLE}=1)"
    print(text, file=sys.stderr, flush=True)
    ended = SystemExit(text)
    ended.code = error.exit_status if isinstance(error, SkaVctError) else 1
    raise ended from None


def _ask_for_report(error: Exception) -> None:
    if getattr(error, "_ska_vct_reported", False):
        return
    error._ska_vct_reported = True  # type: ignore[attr-defined]
    if hasattr(error, "add_note"):
        error.add_note(_REPORT)
    else:
        # Python 3.10
        print(_REPORT, file=sys.stderr)
