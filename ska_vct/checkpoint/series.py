"""The checkpoints in a run's folder: which there are, and the newest of them that can be used."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ska_vct.utils.errors import MissingFileError

from .files import METADATA, CheckpointError, load_file
from .writing import CONFIG

BEST_NAME, FINAL_NAME = "model_best", "model_final"
LAST_NAME = "last_checkpoint"
_NUMBERED = re.compile(r"model_(\d{7,})\.pth")


@dataclass(frozen=True)
class Newest:
    """The checkpoint to continue from.

    Attributes:
        path: the file.
        iteration: the last one it has seen, from 0.
        config: the run's config, as ``portable_config`` writes it; empty where the file has none.
        run: identity of the run; empty in checkpoints of older versions.
        unusable: newer files that are damaged, and why.
        missing: name of the file that ``last_checkpoint`` names, if it is gone.
    """

    path: str
    iteration: int
    config: str
    run: str
    unusable: tuple[tuple[str, str], ...] = ()
    missing: str = ""


def numbered_checkpoints(folder: str | Path) -> dict[int, Path]:
    """Periodic checkpoints of a folder by iteration, oldest first."""
    folder = Path(folder)
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NUMBERED.fullmatch(path.name)
        if match and path.is_file():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def has_checkpoint(folder: str | Path) -> bool:
    """Whether a folder holds a checkpoint of a training, damaged or not."""
    return bool(_candidates(Path(folder)))


def read_state(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors left in the file.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`ska_vct.checkpoint.files.load_file`.
    """
    return load_file(path, lazily=True)


def run_of(content: dict[str, Any]) -> str:
    """Identity of the run that wrote a checkpoint; empty in those of older versions."""
    trainer = content.get("trainer")
    run = trainer.get("run") if isinstance(trainer, dict) else None
    return str(run.get("id", "")) if isinstance(run, dict) else ""


def find_newest(folder: str | Path, *, needs: Collection[str] = ()) -> Newest | None:
    """The newest checkpoint in ``folder`` that is whole.

    Args:
        folder: of a run.
        needs: entries without which a checkpoint does not do, e.g. ``trainer``.

    Returns:
        None where there is no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    folder = Path(folder)
    paths = _candidates(folder)
    numbers = {path: number for number, path in numbered_checkpoints(folder).items()}
    contents, reasons = {}, {}
    for path in paths:
        # Numbered ones need not be read to be put in order.
        if path not in numbers:
            _read(path, needs, contents, reasons)
    order = {path: numbers.get(path, _iteration(contents.get(path))) for path in paths}
    # Of one iteration, the periodic checkpoint first and the best last, as listed.
    for path in sorted(paths, key=lambda path: (-order[path], paths.index(path))):
        if path in numbers:
            _read(path, needs, contents, reasons)
        if path in contents:
            tagged = _tagged(folder)
            return Newest(
                path=str(path),
                iteration=_iteration(contents[path]),
                config=str(contents[path].get(METADATA, {}).get(CONFIG, "")),
                run=run_of(contents[path]),
                unusable=tuple((str(bad), why) for bad, why in reasons.items()),
                missing=tagged.name if tagged is not None and not tagged.is_file() else "",
            )
    if not paths:
        return None
    raise CheckpointError(
        f"Folder '{folder}' has {len(paths)} checkpoints and none can be used: {' '.join(reasons.values())} Train "
        "in another folder, or move them away."
    )


def _candidates(folder: Path) -> list[Path]:
    paths = list(numbered_checkpoints(folder).values())[::-1]
    tagged = _tagged(folder)
    others = [folder / f"{FINAL_NAME}.pth", *([tagged] if tagged else []), folder / f"{BEST_NAME}.pth"]
    return paths + [path for path in dict.fromkeys(others) if path.is_file() and path not in paths]


def _tagged(folder: Path) -> Path | None:
    try:
        name = (folder / LAST_NAME).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    # A name, not a path: the file may come from a stranger.
    return folder / name if name and "\0" not in name and Path(name).name == name else None


def _iteration(content: dict[str, Any] | None) -> int:
    value = (content or {}).get("iteration", -1)
    return value if isinstance(value, int) else -1


def _read(path: Path, needs: Collection[str], contents: dict, reasons: dict) -> None:
    try:
        content = read_state(path)
    except (CheckpointError, MissingFileError) as error:
        reasons[path] = str(error)
        return
    lacking = [name for name in needs if name not in content]
    if lacking:
        reasons[path] = f"Checkpoint '{path}' holds weights only, no state of a training."
    else:
        contents[path] = content
