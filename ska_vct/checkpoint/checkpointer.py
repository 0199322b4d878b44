"""Checkpoints that fit or stop, are written whole or not at all, and are read as data, never as code."""

import os
import pickle
import re
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor

from ska_vct.utils.files import atomic_write

_PREFIX = "module."
_KEYS_SHOWN = 20


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit the model."""


def _numpy_globals() -> list:
    """What numpy scalars in a checkpoint (scores, learning rates) need; they hold numbers and run nothing."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "bool")]
    # numpy 1 and 2 keep the function in modules of different names.
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    return [np.dtype, *kinds, *((scalar, name) for name in names)]


def load_file(path: str | os.PathLike) -> dict[str, Any]:
    """Read a ``.pth`` file: tensors, numbers, strings and containers of them, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is broken, or holds objects that would run code.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint '{path}'; check the path.")
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {code[1]}" if code else (str(error) or type(error).__name__).split(". ")[0]
        raise CheckpointError(
            f"Checkpoint '{path}' cannot be read ({reason}); it is damaged or holds more than weights: "
            "download or save it again as a plain state dict."
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"Checkpoint '{path}' holds a {type(content).__name__}, expected a dict of weights.")
    return content


def load_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """Weights of a checkpoint, whether they lie at its top or under ``model`` or ``state_dict``.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`load_file`; also when something else than weights is found.
    """
    content = load_file(path)
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    return clean_state_dict(content, path=path)


def clean_state_dict(state: dict[str, Any], *, path: str | os.PathLike) -> dict[str, Tensor]:
    """``state`` with arrays as tensors and without the prefix that distributed training adds to every key.

    Raises:
        CheckpointError: a value is no array of numbers.
    """
    wrong = [key for key, value in state.items() if not isinstance(value, Tensor | np.ndarray)]
    if wrong:
        raise CheckpointError(
            f"Checkpoint '{path}': '{wrong[0]}' is a {type(state[wrong[0]]).__name__}, no weights."
        )
    strip = bool(state) and all(key.startswith(_PREFIX) for key in state)
    return {key.removeprefix(_PREFIX) if strip else key: torch.as_tensor(value) for key, value in state.items()}


def load_strictly(module: torch.nn.Module, state: dict[str, Tensor], *, path: str | os.PathLike) -> None:
    """Load ``state`` into ``module`` when every key and shape fits; otherwise leave ``module`` as it is.

    Raises:
        CheckpointError: listing the keys that do not fit; all of them are in its ``details`` attribute.
    """
    own = module.state_dict()
    shapes = [
        f"{key} {tuple(value.shape)} in the file, {tuple(own[key].shape)} in the model"
        for key, value in state.items()
        if key in own and own[key].shape != value.shape
    ]
    details = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": shapes,
    }
    if any(details.values()):
        found = "; ".join(f"{len(keys)} {what} ({_listed(keys)})" for what, keys in details.items() if keys)
        error = CheckpointError(
            f"Checkpoint '{path}' does not fit the model, nothing was loaded: {found}. Use the config it was "
            "trained with (config.yaml beside it), or convert it first if it comes from other code."
        )
        error.details = details
        raise error
    module.load_state_dict(state, strict=True)


def _listed(keys: list[str]) -> str:
    more = len(keys) - _KEYS_SHOWN
    return ", ".join(keys[:_KEYS_SHOWN]) + (f", and {more} more" if more > 0 else "")


class StrictCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, strict on loading and atomic on saving."""

    def save(self, name: str, *, tag_last: bool = True, **kwargs: Any) -> None:
        """Write ``<save_dir>/<name>.pth``.

        Args:
            name: file name without its ending.
            tag_last: whether ``--resume`` continues from this file.
            kwargs: further plain data to keep.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data |= {key: item.state_dict() for key, item in self.checkpointables.items()} | kwargs
        basename = f"{name}.pth"
        with atomic_write(os.path.join(self.save_dir, basename)) as file:
            torch.save(data, file)
        self.logger.info(f"Saved {os.path.join(self.save_dir, basename)}")
        if tag_last:
            self.tag_last_checkpoint(basename)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make ``--resume`` continue from this file of ``save_dir``."""
        with atomic_write(os.path.join(self.save_dir, "last_checkpoint"), "w") as file:
            file.write(last_filename_basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load weights, and the state of ``checkpointables`` (default: of all), from ``path``.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it cannot be read or does not fit.
        """
        if not path:
            self.logger.info("No checkpoint to load: starting from the initial weights")
            return {}
        if "://" not in path and not os.path.isfile(path):
            raise FileNotFoundError(f"There is no checkpoint '{path}'; check MODEL.WEIGHTS or {self.save_dir}.")
        self._path = path
        return super().load(path, checkpointables=checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = load_file(filename)
        return content if "model" in content else {"model": content.get("state_dict", content)}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        load_strictly(self.model, clean_state_dict(checkpoint.pop("model"), path=self._path), path=self._path)
