"""Work on several threads, with progress and cancellation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from wildseg3d_ros.core.progress import Progress

_T = TypeVar("_T")
_Item = TypeVar("_Item")

_GIVEN = os.environ.get("WILDSEG3D_THREADS", "")
THREADS = int(_GIVEN) if _GIVEN.isdecimal() and int(_GIVEN) else 2
"""NumPy, OpenCV and torch release the interpreter's lock in most of the work. A batch gives each
of its processes its share by the environment."""


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
) -> dict[_Item, _T]:
    """Results of ``work`` by item, in the items' order; on cancellation or an error, work not
    begun is dropped."""
    futures = {item: pool.submit(work, item) for item in items}
    try:
        for number, future in enumerate(as_completed(futures.values()), start=1):
            future.result()
            progress.update((offset + number) / max(steps, 1))
    finally:
        for future in futures.values():
            future.cancel()
    return {item: future.result() for item, future in futures.items()}
