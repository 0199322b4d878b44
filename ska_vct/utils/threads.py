"""Processes many files in threads; decoding, resizing and compressing release the GIL."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    task: Callable[[Item], Result], items: Sequence[Item], *, jobs: int = 0, title: str = "", progress: bool = True
) -> Iterator[Result]:
    """Results of ``task`` in the order of ``items``, with a progress bar if it takes more than a second.

    Args:
        jobs: threads; 0 for one per core, at most 8.
        title: of the progress bar.
        progress: whether to show one.

    Raises:
        Whatever ``task`` raises; tasks not started by then are cancelled.
    """
    with ThreadPoolExecutor(jobs or min(8, os.cpu_count() or 1)) as pool:
        try:
            results = pool.map(task, items)
            yield from tqdm(results, total=len(items), desc=title, unit="clip", delay=1, disable=not progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
