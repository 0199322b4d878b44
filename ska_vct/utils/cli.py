"""How command-line tools end when the input is wrong: one sentence, no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_DEBUG_VARIABLE = "SKA_VCT_DEBUG"


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
