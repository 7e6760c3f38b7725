"""Progress and cancellation of long steps, without a dependency on who is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wildseg3d_ros.core.errors import Cancelled


class Progress:
    """Reports stage and fraction, times stages, keeps warnings, and raises when cancelled.

    Args:
        report: called as ``report(stage, fraction)`` with the fraction of that stage in [0, 1].
        cancelled: polled at every update; when it returns True, :class:`Cancelled` is raised.
    """

    def __init__(
        self,
        report: Callable[[str, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._report = report
        self._cancelled = cancelled
        self._stage = ""
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keeps a sentence that the user should read although the step goes on."""
        if text not in self.warnings:
            self.warnings.append(text)

    def withdraw(self, text: str) -> None:
        """Takes a sentence back that a later step has made untrue."""
        if text in self.warnings:
            self.warnings.remove(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Names the step that runs inside the ``with`` block and adds up its wall time."""
        outer, self._stage = self._stage, name
        start = time.perf_counter()
        self.update(0.0)
        try:
            yield self
            self.update(1.0)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self._stage = outer

    def update(self, fraction: float) -> None:
        """Reports that ``fraction`` of the current stage is done.

        Raises:
            Cancelled: when the caller has asked to stop.
        """
        if self._cancelled is not None and self._cancelled():
            raise Cancelled(f"cancelled by the caller during stage '{self._stage}'")
        if self._report is not None:
            self._report(self._stage, min(max(fraction, 0.0), 1.0))
