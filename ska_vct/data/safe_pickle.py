"""Read pickles that hold tensors, arrays and plain containers, and refuse all others (spec: data.md, "Log-mel").

A pickle is a program. AVSBench's log-mel is released as pickles, so they are run by an interpreter that knows no
other function than those that put a tensor together.
"""

import io
import os
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import torch


class UnsafePickleError(ValueError):
    """A pickle asks for something else than tensors, or is none; the sentence names the file."""


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
        if data[:2] == b"PK":
            return _load_storage(data)
        return _TensorUnpickler(data).load()
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


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafePickleError(f"asks for '{module}.{name}'") from None


def _load_storage(data: bytes) -> Any:
    # What torch puts here, torch.storage._load_from_bytes, would run any pickle inside the pickle.
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UnsafePickleError("holds more than a tensor's numbers") from None


def _encode(text: str, encoding: str) -> bytes:
    # Protocol 2 writes bytes as latin-1 text; no other codec is needed.
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError(f"asks for the codec '{encoding}'")
    return text.encode("latin1")


def _numpy_globals() -> dict[tuple[str, str], Any]:
    # The same functions under NumPy 1's and NumPy 2's module names.
    array = np.zeros(1, np.float32)
    reconstruct, scalar = array.__reduce__()[0], array[0].__reduce__()[0]
    buffered = array.__reduce_ex__(5)[0]
    found = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = reconstruct
        found[f"{core}.multiarray", "scalar"] = scalar
        found[f"{core}.numeric", "_frombuffer"] = buffered
    return found


_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("torch", "Size"): torch.Size,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    **_numpy_globals(),
}
