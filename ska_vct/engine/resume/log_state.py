"""The log's memory: what smoothing needs, and which lines of ``metrics.json`` belong to a checkpoint."""

import json
import os
from typing import Any

from detectron2.utils.events import EventStorage, JSONWriter

# Iterations over which the writers smooth.
_WINDOW = 20
# Measured in a process, so not continued by another one.
_MEASURED = ("time", "data_time", "rank_data_time", "data_share", "eta_seconds")


def get_log_state(storage: EventStorage, writer: JSONWriter | None) -> dict[str, Any]:
    """What later lines of the log depend on, as plain data.

    Args:
        storage: of the training.
        writer: of ``metrics.json``; None where this process has none.
    """
    histories = {}
    for name, history in storage.histories().items():
        if name in _MEASURED:
            continue
        values = history.values()
        recent = [[value, iteration] for value, iteration in values[-_WINDOW:]]
        histories[name] = [pair for pair in recent if pair[1] > values[-1][1] - _WINDOW]
    return {
        "histories": histories,
        "smoothing": {name: storage.smoothing_hints()[name] for name in histories},
        "written": writer._last_write if writer is not None else -1,
    }


def set_log_state(state: dict[str, Any], storage: EventStorage, writer: JSONWriter | None) -> None:
    """Restore what :func:`get_log_state` returned into a new storage and writer."""
    for name, pairs in state["histories"].items():
        for value, iteration in pairs:
            storage.put_scalar(name, value, smoothing_hint=state["smoothing"][name], cur_iter=iteration)
    if writer is not None:
        writer._last_write = state["written"]


def cut_metrics(path: str | os.PathLike, last: int) -> int:
    """Remove from ``metrics.json`` what was written after a checkpoint, so that each iteration occurs once.

    Args:
        path: the file; need not exist.
        last: iteration of the last line that was there when the checkpoint was written; -1: none was.

    Returns:
        number of lines removed.

    Raises:
        OSError: the file cannot be changed.
    """
    if not os.path.isfile(path):
        return 0
    end, removed = 0, 0
    with open(path, "r+b") as file:
        for line in file:
            # Lines are written in order, so the first that is too new begins what is to go.
            if removed or not line.endswith(b"\n") or _iteration(line) > last:
                removed += 1
            else:
                end += len(line)
        if removed:
            file.truncate(end)
            file.flush()
            os.fsync(file.fileno())
    return removed


def _iteration(line: bytes) -> int:
    try:
        value = json.loads(line)
    except ValueError:
        return -1
    iteration = value.get("iteration") if isinstance(value, dict) else None
    return iteration if isinstance(iteration, int) else -1
