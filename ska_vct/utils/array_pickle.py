"""Arrays and tensors from pickles, without unpickling.

A pickle is a program, and released data and weights come as pickles. ``pickle_walk.py`` carries out its opcodes on
inert values; here they are compared with the few forms that ``pickle.dumps`` and ``torch.save`` give arrays and
tensors, and built from the bytes in the file: no function that a name asks for is called, and no array is larger
than its bytes.
"""

import math
import struct
from collections import OrderedDict
from typing import Any, NoReturn

import numpy as np
import torch

from ska_vct.utils.pickle_walk import (
    Call,
    Name,
    Persistent,
    PickledDict,
    PickleFile,
    UnsafePickleError,
    open_pickle,
)

__all__ = ["UnsafePickleError", "load_arrays"]

_MAX_DIMS = 8
_MAX_DEPTH = 20
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}
_STORAGES = {
    "HalfStorage": "f2", "FloatStorage": "f4", "DoubleStorage": "f8", "BFloat16Storage": "bf16",
    "CharStorage": "i1", "ShortStorage": "i2", "IntStorage": "i4", "LongStorage": "i8", "ByteStorage": "u1",
    "BoolStorage": "b1",
}  # fmt: skip
_NUMPY = ("numpy.core.", "numpy._core.")  # the same functions under NumPy 1's and NumPy 2's module names


def load_arrays(data: bytes) -> Any:
    """Load a pickle, or a file of ``torch.save``, that holds arrays, tensors and plain containers.

    Args:
        data: the file's bytes; text written by Python 2 is taken for latin-1.

    Returns:
        what the pickle holds; tensors are on the CPU.

    Raises:
        UnsafePickleError: it asks for another class or function, is broken, or asks for more memory than its size
            justifies.
    """
    try:
        return _Builder(open_pickle(data)).build()
    except UnsafePickleError:
        raise
    # Of damaged bytes pickletools raises nearly anything; whatever it is, the file is at fault.
    except Exception as error:
        said = " ".join(str(error).split())[:120]
        raise UnsafePickleError(f"is broken ({type(error).__name__}: {said})") from None


class _Builder:
    """Builds what a walked pickle describes; every value once, and no more bytes than the file justifies."""

    def __init__(self, file: PickleFile):
        self._file = file
        self._budget = 8 * file.size + (1 << 16)
        self._made: dict[int, Any] = {}
        self._opened: dict[int, tuple[str, memoryview]] = {}
        self._old: dict[str, memoryview] | None = None

    def build(self) -> Any:
        return self._value(self._file.top, 0)

    def _value(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise UnsafePickleError(f"nests its containers more than {_MAX_DEPTH} deep")
        if id(value) in self._made:
            return self._made[id(value)]
        result: Any
        if isinstance(value, Call):
            result = self._call(value, depth)
        elif isinstance(value, PickledDict):
            result = self._dict(value, depth)
        elif isinstance(value, list | tuple):
            self._spend(8 * len(value))
            result = type(value)(self._value(item, depth + 1) for item in value)
        elif value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        elif isinstance(value, Name):
            raise UnsafePickleError(f"asks for {value}")
        else:
            raise UnsafePickleError(f"holds a {type(value).__name__.strip('_').lower()}")
        self._made[id(value)] = result
        return result

    def _dict(self, value: PickledDict, depth: int) -> dict:
        self._spend(64 * len(value.items))
        for key, _ in value.items:
            if not isinstance(key, str | int):
                raise UnsafePickleError("has a dict whose keys are neither text nor numbers")
        return {key: self._value(item, depth + 1) for key, item in value.items}

    def _call(self, call: Call, depth: int) -> Any:
        function = call.function
        if not isinstance(function, Name):
            raise UnsafePickleError("calls what is not a function")
        module, name, args = function.module, function.name, call.args
        if module == "torch._utils":
            if name in ("_rebuild_tensor", "_rebuild_tensor_v2") and len(args) >= 4:
                return self._tensor(*args[:4])
            if name == "_rebuild_parameter" and args:
                return self._value(args[0], depth + 1)
        elif (module, name) == ("torch", "Size") and len(args) == 1 and isinstance(args[0], tuple):
            return torch.Size(_whole(args[0]))
        elif (module, name) == ("collections", "OrderedDict") and args in ((), ([],)):
            state = call.state if isinstance(call.state, PickledDict) else PickledDict()
            return OrderedDict(self._dict(state, depth))
        elif module in [f"{core}multiarray" for core in _NUMPY] and name == "_reconstruct":
            return self._numpy(call.state)
        elif module in [f"{core}multiarray" for core in _NUMPY] and name == "scalar" and len(args) == 2:
            return self._array(self._data(args[1]), self._dtype(args[0]), ())[()]
        elif module in [f"{core}numeric" for core in _NUMPY] and name == "_frombuffer" and len(args) == 4:
            buffer, dtype, shape, order = args
            return self._array(self._data(buffer), self._dtype(dtype), shape, fortran=order == "F")
        elif (module, name) == ("_codecs", "encode"):
            return self._data(call)
        raise UnsafePickleError(f"asks for {function}")

    def _numpy(self, state: Any) -> np.ndarray:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafePickleError("is broken (an array without its state)")
        _, shape, kind, fortran, data = state
        dtype = self._dtype(kind)
        return self._array(self._data(data), dtype, shape, fortran=bool(fortran))

    def _array(self, data: bytes, dtype: np.dtype, shape: Any, *, fortran: bool = False) -> np.ndarray:
        shape = _whole(shape)
        if math.prod(shape) * dtype.itemsize != len(data):
            raise UnsafePickleError(f"has an array of shape {shape} in {len(data)} bytes")
        self._spend(len(data))
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()

    def _dtype(self, call: Any) -> np.dtype:
        if not isinstance(call, Call) or call.function != Name("numpy", "dtype") or not call.args:
            raise UnsafePickleError("has an array without a type")
        name = call.args[0] if isinstance(call.args[0], str) else "?"
        order = call.state[1] if isinstance(call.state, tuple) and len(call.state) > 1 else "|"
        if name not in _KINDS or order not in ("<", "|", "=", ">"):
            raise UnsafePickleError(f"has an array of type '{name[:20]}', which is not read")
        return np.dtype(f"{order}{name}")

    def _data(self, value: Any) -> bytes:
        """Bytes, which protocol 2 writes as latin-1 text."""
        if isinstance(value, Call) and value.function == Name("_codecs", "encode") and len(value.args) == 2:
            text, codec = value.args
            if codec not in ("latin1", "latin-1"):
                raise UnsafePickleError("asks for a codec that arrays do not need")
            value = text
        if isinstance(value, str):
            self._spend(len(value))
            return value.encode("latin-1")
        if not isinstance(value, bytes | bytearray):
            raise UnsafePickleError("has an array without its bytes")
        return bytes(value)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> torch.Tensor:
        kind, data = self._storage(storage)
        width = _width(kind)
        size, stride, (offset,) = _whole(size), _whole(stride), _whole((offset,))
        count = math.prod(size)
        last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
        if count and (count * width > len(data) or (last + 1) * width > len(data)):
            raise UnsafePickleError(f"has a tensor of shape {size} in {len(data)} bytes")
        self._spend(count * width)
        flat = np.frombuffer(data, "i2" if kind == "bf16" else kind)[offset:]
        steps = tuple(step * width for step in stride)
        view = np.lib.stride_tricks.as_strided(flat, size, steps) if count else np.zeros(size, flat.dtype)
        tensor = torch.from_numpy(np.array(view, order="C"))
        return tensor.view(torch.bfloat16) if kind == "bf16" else tensor

    def _storage(self, value: Any) -> tuple[str, memoryview]:
        """Kind of the numbers and bytes of a storage."""
        if id(value) in self._opened:
            return self._opened[id(value)]
        if isinstance(value, Call) and value.function == Name("torch.storage", "_load_from_bytes"):
            # A file of torch.save inside the pickle, whose top value is the storage itself.
            if len(value.args) != 1:
                raise UnsafePickleError("is broken (a storage without bytes)")
            inner = open_pickle(self._data(value.args[0]))
            if not isinstance(inner.top, Persistent):
                raise UnsafePickleError("holds more than a tensor's numbers")
            found = _Builder(inner)._storage(inner.top)
        else:
            kind, key, count = _storage_facts(value)
            (count,), data = _whole((count,)), self._find(key)
            if data is None or count * _width(kind) > len(data):
                raise UnsafePickleError("has a tensor whose numbers are not all there")
            found = kind, data[: count * _width(kind)]
        self._opened[id(value)] = found
        return found

    def _find(self, key: str) -> memoryview | None:
        if self._file.keys is None:
            part = self._file.parts.get(f"data/{key}")
            return None if part is None else memoryview(part)
        if self._old is None:
            self._old = _old_storages(self._file)
        return self._old.get(key)

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise UnsafePickleError("asks for more memory than its size justifies")


def _width(kind: str) -> int:
    return 2 if kind == "bf16" else int(kind[1:])


def _storage_facts(value: Any) -> tuple[str, str, Any]:
    """Kind, key and length of a storage that is referred to."""
    if not isinstance(value, Persistent) or not isinstance(value.key, tuple) or len(value.key) < 5:
        raise UnsafePickleError("has a tensor without its numbers")
    word, kind, key, _, count = value.key[:5]
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str):
        raise UnsafePickleError("has a tensor without its numbers")
    if kind.module not in ("torch", "torch.cuda") or kind.name not in _STORAGES:
        raise UnsafePickleError(
            f"has a tensor of {kind.name[:40].removesuffix('Storage')} numbers, which are not read"
        )
    return _STORAGES[kind.name], key, count


def _old_storages(file: PickleFile) -> dict[str, memoryview]:
    """In the order of their keys: how many values, then the values, whose kind the references to them give."""
    kinds: dict[str, str] = {}
    todo, seen = [file.top], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Persistent):
            kind, key, _ = _storage_facts(value)
            kinds[key] = kind
        elif isinstance(value, Call):
            todo += [value.args, value.state]
        elif isinstance(value, PickledDict):
            todo += [item for pair in value.items for item in pair]
        elif isinstance(value, list | tuple):
            todo += value
    data, found, at = memoryview(file.tail), {}, 0
    for key in file.keys or ():
        if not isinstance(key, str) or key not in kinds or at + 8 > len(data):
            _broken()
        (count,) = struct.unpack_from("<q", data, at)
        end = at + 8 + count * _width(kinds[key])
        if count < 0 or end > len(data):
            _broken()
        found[key] = data[at + 8 : end]
        at = end
    return found


def _broken() -> NoReturn:
    raise UnsafePickleError("is broken (its storages are not whole)")


def _whole(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > _MAX_DIMS:
        raise UnsafePickleError("has an array whose shape is not one")
    if any(type(value) is not int or not 0 <= value < 1 << 40 for value in values):
        raise UnsafePickleError("has an array whose shape is not one")
    return tuple(values)
