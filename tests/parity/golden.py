"""Reading golden files, and the table of differences."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-4
# Shipped with the repository; the folder of all golden files may lie beside it.
EXCERPTS = Path(__file__).resolve().parents[1] / "data" / "goldens"
SHARED_GOLDENS = Path(__file__).resolve().parents[3] / "shared" / "goldens"


class Golden:
    """One golden file: arrays by name, weights as float32 tensors."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._arrays = np.load(self.path, allow_pickle=False)

    @property
    def cfg(self) -> dict:
        """Sizes the file was made with."""
        return json.loads(str(self._arrays["cfg"])) if "cfg" in self._arrays.files else {}

    def names(self, prefix: str = "") -> list[str]:
        """Names of the arrays that begin with ``prefix``, in the file's order."""
        return [name for name in self._arrays.files if name.startswith(prefix)]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays.files

    def __getitem__(self, name: str) -> Tensor:
        """A numeric array as a tensor; half precision becomes float32."""
        array = self._arrays[name]
        tensor = torch.from_numpy(np.ascontiguousarray(array)).reshape(array.shape)
        return tensor.float() if tensor.dtype == torch.float16 else tensor

    def text(self, name: str) -> str:
        """A string."""
        return str(self._arrays[name])

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Arrays below ``prefix``, by the rest of their name."""
        return {name[len(prefix) :]: self[name] for name in self.names(prefix)}

    def state(self, prefix: str = "state/") -> dict[str, Tensor]:
        """Weights."""
        return self.under(prefix)

    def beside(self, name: str) -> "Golden":
        """Another golden file: beside this one, else among the shared ones.

        Raises:
            FileNotFoundError: naming both places.
        """
        for folder in (self.path.parent, SHARED_GOLDENS):
            if (folder / name).is_file():
                return Golden(folder / name)
        raise FileNotFoundError(
            f"{self.path.name} needs {name}, which is neither beside it nor in {SHARED_GOLDENS}."
        )


@dataclass(frozen=True)
class Row:
    """Difference of one output."""

    name: str
    absolute: float
    relative: float
    limit: float = TOLERANCE

    @property
    def share(self) -> float:
        """Of what is allowed; above 1 it differs."""
        if not self.limit:
            return float("inf") if self.relative else 0.0
        return self.relative / self.limit

    @property
    def ok(self) -> bool:
        """Within tolerance; NaN is not."""
        return self.relative <= self.limit


def compare(
    name: str, ours: Tensor | float, wanted: Tensor, *, floor: float = 0.0, limit: float = TOLERANCE
) -> Row:
    """Largest difference, absolute and relative to the wanted output's largest magnitude.

    Whole numbers and flags must be equal: any difference counts as relative 1.

    Args:
        name: of the output.
        ours, wanted: of equal shape.
        floor: magnitudes below this count as this; for outputs that are part of a larger one.
        limit: largest relative difference that agrees.
    """
    ours = torch.as_tensor(ours).detach()
    if tuple(ours.shape) != tuple(wanted.shape):
        return Row(f"{name} (shape {tuple(ours.shape)}, wanted {tuple(wanted.shape)})", float("inf"), float("inf"))
    if wanted.numel() == 0:
        return Row(name, 0.0, 0.0, limit)
    if not wanted.is_floating_point():
        wrong = (ours.to(wanted.dtype) != wanted).float().mean().item()
        return Row(name, wrong, float(wrong > 0))
    ours, wanted = ours.double(), wanted.double()
    both_nan = ours.isnan() & wanted.isnan()
    absolute = (ours - wanted).abs().masked_fill(both_nan, 0.0).max().item()
    magnitude = max(wanted.nan_to_num().abs().max().item(), floor)
    return Row(name, absolute, absolute / magnitude if magnitude else absolute, limit)


def compare_all(ours: Mapping[str, Tensor], golden: Golden, prefix: str = "") -> Iterable[Row]:
    """Compare every output of ours with the golden array ``prefix + name``."""
    for name, value in ours.items():
        yield compare(prefix + name, value, golden[prefix + name])


def load_all(module: torch.nn.Module, state: Mapping[str, Tensor], *, absent: tuple[str, ...] = ()) -> None:
    """Load weights with every key accounted for.

    Args:
        module: ours.
        state: in our names.
        absent: our entries that this golden file does not hold.

    Raises:
        KeyError: listing entries that are missing or left over.
    """
    result = module.load_state_dict(dict(state), strict=False)
    missing = sorted(set(result.missing_keys) - set(absent))
    if missing or result.unexpected_keys:
        raise KeyError(f"Weights do not fit: missing {missing}, left over {result.unexpected_keys}.")
