"""Writing weights: converted files, and slim ones for inference with their config inside."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import Tensor

from ska_vct import __version__
from ska_vct.utils.errors import InputError
from ska_vct.utils.files import atomic_write

from .convert import TARGETS
from .convert.formats import FORMATS, identify
from .convert.vct import to_vct
from .fetch.resolve import resolve
from .files import METADATA, CheckpointError, clean_state_dict, find_state_dict, load_file
from .loading import TRAINING_ONLY
from .seal import save_sealed

CONFIG = "config"
_ORIGIN = "converted_from"
_ENDINGS = (".pth", ".safetensors")


def save_weights(path: str | os.PathLike, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights with text beside them, whole or not at all.

    Args:
        path: ends in ``.pth`` or ``.safetensors``.
        state: weights.
        metadata: text by name.

    Raises:
        CheckpointError: another ending.
    """
    ending = Path(path).suffix
    if ending not in _ENDINGS:
        raise CheckpointError(f"'{path}' ends in '{ending}'; choose one of {', '.join(_ENDINGS)}.")
    if ending == ".pth":
        save_sealed(path, {"model": dict(state), METADATA: dict(metadata)})
        return
    # Own memory for each: safetensors refuses views of one another.
    own = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()
    }
    # Not save_file, whose files others may not read.
    with atomic_write(path) as file:
        file.write(safetensors.save(own, metadata=dict(metadata)))


def save_slim(
    path: str | os.PathLike, state: Mapping[str, Tensor], *, config: str, half: bool = False, **metadata: str
) -> int:
    """Write what inference needs, without what only losses read, as safetensors with the config inside.

    Args:
        path: ends in ``.safetensors``.
        state: of the model.
        config: YAML.
        half: store kernels and matrices in float16; norms, whose statistics it cannot hold, stay as they are.
        metadata: further text.

    Returns:
        number of entries written.

    Raises:
        CheckpointError: another ending.
    """
    if Path(path).suffix != ".safetensors":
        raise CheckpointError(f"'{path}' must end in '.safetensors'.")
    kept = {name: value for name, value in state.items() if not name.startswith(TRAINING_ONLY)}
    if half:
        kept = {name: value.half() if _is_matrix(value) else value for name, value in kept.items()}
    save_weights(path, kept, {"format": "ska_vct", "version": __version__, CONFIG: config, **metadata})
    return len(kept)


def _is_matrix(value: Tensor) -> bool:
    return value.is_floating_point() and value.dim() > 1


def read_config(path: str | os.PathLike) -> str | None:
    """The config inside a slim checkpoint as YAML; None where there is none.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`ska_vct.checkpoint.files.load_file`.
    """
    return load_file(path).get(METADATA, {}).get(CONFIG)


def lacks_of(content: Mapping) -> tuple[str, ...]:
    """Beginnings of our names that a converted file rightly lacks, from what it was converted from."""
    origin = content.get(METADATA, {}).get(_ORIGIN)
    return next((kind.lacks for kind in FORMATS if kind.name == origin), ())


def convert_file(source: str | os.PathLike, out: str | os.PathLike, *, to: str) -> list[str]:
    """Convert a checkpoint of any known kind.

    Args:
        source: a file or an address.
        out: file to write, ``.pth`` or ``.safetensors``.
        to: ``ska_vct`` or ``vct``.

    Returns:
        lines that say what became of the entries.

    Raises:
        FileNotFoundError, DownloadError: there is no such file.
        CheckpointError: it cannot be read, is of no known kind, or has entries that the target has no place for.
        ValueError: an unknown target.
    """
    if to not in TARGETS:
        raise InputError(f"Cannot convert to '{to}'; choose one of {', '.join(TARGETS)}.")
    if to == "vct" and Path(out).suffix != ".pth":
        raise CheckpointError(f"'{out}' must end in '.pth': VCT's program reads no other files.")
    content = load_file(resolve(source, key="the source"))
    state = clean_state_dict(find_state_dict(content), path=source)
    kind, converted = identify(state, path=str(source))
    lines = [f"{source} is a {kind.title}: {len(state)} entries, {len(converted.state)} in our names"]
    lines += [f"  not used: {name} ({why})" for name, why in converted.unused.items()]
    if to == "ska_vct":
        origin = content.get(METADATA, {}).get(_ORIGIN, kind.name)
        kept = content.get(METADATA, {})
        save_weights(out, converted.state, {**kept, "format": "ska_vct", "version": __version__, _ORIGIN: origin})
        return [*lines, f"{out}: {len(converted.state)} entries"]
    try:
        published, left_out = to_vct(converted.state)
    except KeyError as error:
        raise CheckpointError(f"Checkpoint '{source}': {error.args[0]}") from None
    with atomic_write(out) as file:
        torch.save({"model": published}, file)
    lines += [f"  left out: {name} ({why})" for name, why in left_out.items()]
    return [*lines, f"{out}: {len(published)} entries in VCT's names"]
