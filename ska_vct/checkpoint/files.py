"""Read weights as data: ``.pth`` files, pickles and safetensors, recognised by their first bytes."""

import argparse
import os
import pickle
import re
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ska_vct.utils.array_pickle import UnsafePickleError, load_arrays
from ska_vct.utils.errors import MissingFileError, SkaVctError
from ska_vct.utils.pickle_walk import check_names

from .seal import SEALED, is_sound
from .tensor_bundle import is_bundle, read_bundle

_PREFIX = "module."
_STATE_KEYS = ("model", "state_dict", "model_state_dict", "module")
# First bytes of what torch.save wrote before it wrote zip files.
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP = b"PK\x03\x04"
# Small tensors may be larger than their file: views of fewer numbers. Bytes.
_SPARE = 1 << 20
# Key for the text that safetensors stores beside the weights.
METADATA = "__metadata__"


class CheckpointError(SkaVctError, ValueError):
    """A checkpoint cannot be read or does not fit the model."""


def load_file(path: str | os.PathLike, *, lazily: bool = False) -> dict[str, Any]:
    """Read a file of weights onto the CPU: tensors, numbers, strings and containers of them.

    Args:
        path: a file of ``torch.save``, a pickle of arrays (Detectron2's ``.pkl``), safetensors, or the index of a
            TensorFlow checkpoint (``variables.index`` of a SavedModel), whose data lie beside it.
        lazily: leave the tensors of a file of ``torch.save`` in the file until they are used.

    Returns:
        its content; of safetensors ``{"model": weights, "__metadata__": {name: text}}``.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged (also when its hash says so), does not hold weights, or holds objects that
            would run code.
    """
    if not os.path.isfile(path):
        raise MissingFileError(f"There is no checkpoint '{path}'; check the path.")
    with open(path, "rb") as file:
        head = file.read(512)
    _check_head(head, path)
    sound = is_sound(path)
    if sound is False:
        raise _damaged(path)
    try:
        if is_bundle(path):
            return {"model": read_bundle(path)}
        # safetensors: the length of a JSON header, then the header.
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path):
            return _load_safetensors(path)
        if head.startswith(b"\x80") and not head.startswith(_OLD_TORCH):
            content = _load_pickle(path)
        else:
            check_names(path)
            with torch.serialization.safe_globals(_plain_globals()):
                mapped = lazily and head.startswith(_ZIP)
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    # A damaged file can raise almost any exception; whichever it is, the file is at fault.
    except Exception as error:
        raise CheckpointError(
            f"Checkpoint '{path}' cannot be read ({_reason(error)}); it is damaged or holds more than weights: "
            "download or save it again as a plain state dict."
        ) from None
    _check_tensors(content, path)
    if not isinstance(content, dict):
        raise CheckpointError(f"Checkpoint '{path}' holds a {type(content).__name__}, expected a dict of weights.")
    if content.pop(SEALED, None) is not None and sound is None:
        raise _damaged(path)
    return content


def load_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """Weights of a checkpoint, whether they are at its top level or under ``model``, ``state_dict`` or the like.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`load_file`; also if it holds anything other than weights.
    """
    return clean_state_dict(find_state_dict(load_file(path)), path=path)


def find_state_dict(content: dict[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint's content that holds its weights."""
    for key in _STATE_KEYS:
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def clean_state_dict(state: dict[str, Any], *, path: str | os.PathLike) -> dict[str, Tensor]:
    """``state`` with arrays as tensors and without the prefix that distributed training adds to every key.

    Raises:
        CheckpointError: a value is not an array of finite numbers, or there are no values.
    """
    if "blobs" in state and "__author__" not in state:
        raise CheckpointError(f"Checkpoint '{path}' is in Caffe2's format; convert it with Detectron2 first.")
    wrong = [key for key, value in state.items() if not _is_array(value)]
    if wrong:
        raise CheckpointError(
            f"Checkpoint '{path}': '{wrong[0]}' is a {type(state[wrong[0]]).__name__}, not an array."
        )
    if not state:
        raise CheckpointError(f"Checkpoint '{path}' holds no weights.")
    sick = [key for key, value in state.items() if not _is_finite(value)]
    if sick:
        raise CheckpointError(
            f"Checkpoint '{path}': {len(sick)} of {len(state)} weights hold NaN or infinity, first "
            f"'{sick[0][:100]}'; take an earlier checkpoint, or download the file again."
        )
    strip = all(key.startswith(_PREFIX) for key in state)
    return {key.removeprefix(_PREFIX) if strip else key: torch.as_tensor(value) for key, value in state.items()}


def _damaged(path: str | os.PathLike) -> CheckpointError:
    return CheckpointError(
        f"Checkpoint '{path}' is damaged: its bytes are not those that were written (its SHA-256 differs)."
    )


def _check_tensors(content: Any, path: str | os.PathLike) -> None:
    """Refuse tensors that would need more memory than the file has bytes, before anything is computed from them.

    A view of one number can have any shape; sparse, quantised and empty ("meta") tensors have no plain numbers.
    """
    most = os.path.getsize(path) + _SPARE
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise CheckpointError(
                    f"Checkpoint '{path}' holds a tensor that is sparse, quantised or without values; save it "
                    "again with plain tensors."
                )
            if value.numel() * value.element_size() > most:
                raise CheckpointError(
                    f"Checkpoint '{path}' holds a tensor of shape {tuple(value.shape)!s:.100}, for which the file "
                    "has too few bytes; save it again with contiguous tensors."
                )
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")


def _is_finite(value: Tensor | np.ndarray) -> bool:
    tensor = torch.as_tensor(value)
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _plain_globals() -> list:
    """Harmless types that checkpoints hold besides tensors: numpy scalars (scores), parsed arguments."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "bool")]
    # numpy 1 and 2 keep the function in modules of different names.
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    return [np.dtype, argparse.Namespace, *kinds, *((scalar, name) for name in names)]


def _check_head(head: bytes, path: str | os.PathLike) -> None:
    if not head:
        raise CheckpointError(f"Checkpoint '{path}' is empty: download or save it again.")
    kinds = {
        b"version https://git-lfs": "a pointer of Git LFS, not the weights: fetch them with 'git lfs pull'",
        b"<": "a web page, not weights: follow its download link",
        b"\x1f\x8b": "compressed: unpack it first",
    }
    for start, what in kinds.items():
        if head.lstrip().startswith(start):
            raise CheckpointError(f"Checkpoint '{path}' is {what}.")


def _load_safetensors(path: str | os.PathLike) -> dict[str, Any]:
    with safe_open(path, framework="pt", device="cpu") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
        return {"model": weights, METADATA: file.metadata() or {}}


def _load_pickle(path: str | os.PathLike) -> Any:
    with open(path, "rb") as file:
        return load_arrays(file.read())


def _reason(error: Exception) -> str:
    if isinstance(error, UnsafePickleError):
        return f"it {error}, and only arrays are loaded"
    code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return f"it holds {code[1][:100]}"
    text = " ".join(str(error).split()) if not isinstance(error, SafetensorError) else f"safetensors: {error}"
    return text.split(". ")[0][:300] or type(error).__name__
