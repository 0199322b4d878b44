"""An unpickler that knows nothing but arrays, tensors and plain containers.

A pickle is a program: whoever loads it runs it. Released data and weights come as pickles, so they are run by an
interpreter that knows no other function than those that put an array together.
"""

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import torch

from ska_vct.utils.errors import SkaVctError


class UnsafePickleError(SkaVctError, ValueError):
    """A pickle asks for something else than arrays, or is none; the message says for what."""


def load_arrays(data: bytes, *, encoding: str = "ASCII") -> Any:
    """Load a pickle, or a file of ``torch.save``, that holds arrays, tensors and plain containers.

    Args:
        data: the file's bytes.
        encoding: of strings written by Python 2, see ``pickle.Unpickler``.

    Returns:
        what the pickle holds; tensors are on the CPU.

    Raises:
        UnsafePickleError: it asks for another class or function.
        Exception: of nearly any kind when the pickle is broken.
    """
    if data[:2] == b"PK":
        return _load_storage(data)
    return _ArrayUnpickler(data, encoding).load()


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, encoding: str):
        super().__init__(io.BytesIO(data), encoding=encoding)

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
    found: dict[tuple[str, str], Any] = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
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
