"""What command-line tools share: where changes to the config begin, and how wrong input ends: in one sentence."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_DEBUG_VARIABLE = "SKA_VCT_DEBUG"
_CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)+")


def split_overrides(words: Sequence[str], *, keys_of: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Options, and the ``KEY VALUE`` pairs among them, of a command line whose options may take several values.

    Pairs begin at the first word that looks like a key with its parents and end at the next option.

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
def one_sentence_errors() -> Iterator[None]:
    """Turn errors that the input causes into ``error: <sentence>`` and exit status 1.

    Errors of the program itself (TypeError, RuntimeError, ...) keep their traceback; with ``SKA_VCT_DEBUG=1``
    all do.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
        sys.exit("interrupted; a training continues from its last checkpoint with --resume")
    except (ValueError, KeyError, OSError) as error:
        if os.environ.get(_DEBUG_VARIABLE):
            raise
        # str(KeyError) is the repr of its message.
        is_plain_key_error = type(error) is KeyError and error.args
        message = str(error.args[0]) if is_plain_key_error else str(error)
        # A data loader's worker hands on its whole traceback as the message; the last line is the sentence.
        if "Original Traceback" in message:
            message = message.strip().splitlines()[-1].split(": ", 1)[-1]
        sys.stdout.flush()
        sys.exit(f"error: {message or type(error).__name__} (traceback with {_DEBUG_VARIABLE}=1)")
