"""Processes many files in threads; decoding, resizing and compressing release the GIL."""

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
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


def read_ahead(items: Generator[Item, None, None], *, depth: int = 1) -> Iterator[Item]:
    """The same items, made in a thread of their own, up to ``depth`` of them before they are asked for.

    The generator is closed when the iterator ends or is closed, in the thread that ran it.

    Raises:
        Whatever the generator raises.
    """
    waiting: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple) -> None:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    break
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))
        finally:
            items.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()
