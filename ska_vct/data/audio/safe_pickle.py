"""Read pickles that hold tensors, arrays and plain containers, and refuse others (docs/data.md, "Log-mel")."""

import os
from typing import Any

from ska_vct.utils.array_pickle import UnsafePickleError, load_arrays

__all__ = ["UnsafePickleError", "load_tensor_pickle"]


def load_tensor_pickle(path: str | os.PathLike) -> Any:
    """Load a pickle that holds tensors (also with ``requires_grad``), NumPy arrays and plain containers.

    Files written by ``torch.save`` are read too. Tensors are loaded to the CPU.

    Raises:
        UnsafePickleError: the file asks for another class or function, or is broken.
        OSError: the file cannot be opened.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        return load_arrays(data)
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"Pickle {path} {error}, but only tensors and arrays are loaded; it may be malicious: make it again "
            "or set INPUT.AUDIO.SOURCE to wav."
        ) from None
    # A broken pickle raises nearly anything; whatever it was, the file is at fault.
    except Exception as error:
        raise UnsafePickleError(
            f"Pickle {path} is broken ({type(error).__name__}: {error}); make it again or set INPUT.AUDIO.SOURCE "
            "to wav."
        ) from None
