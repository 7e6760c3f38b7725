"""Work on several threads, with progress and cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from wildseg3d_ros.core.progress import Progress

_T = TypeVar("_T")
_Item = TypeVar("_Item")

THREADS = 2
"""NumPy, OpenCV and torch release the interpreter's lock in most of the work."""


def run_all(
    work: Callable[[_Item], _T], items: Iterable[_Item], threads: int = THREADS
) -> list[_T]:
    """Results of ``work`` over ``items``, in their order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def completed(
    pool: ThreadPoolExecutor,
    work: Callable[[_Item], _T],
    items: Sequence[_Item],
    progress: Progress,
    offset: int,
    steps: int,
) -> Iterator[_T]:
    """Results of ``work`` over ``items`` as they come; work not begun is dropped on
    cancellation."""
    futures = [pool.submit(work, item) for item in items]
    try:
        for number, future in enumerate(as_completed(futures), start=1):
            yield future.result()
            progress.update((offset + number) / max(steps, 1))
    finally:
        for future in futures:
            future.cancel()
