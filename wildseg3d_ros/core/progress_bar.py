"""Progress on a terminal: one bar per stage."""

from __future__ import annotations

import sys

from tqdm import tqdm


class ProgressBar:
    """Draws what :class:`wildseg3d_ros.core.progress.Progress` reports.

    Where standard error is not a terminal it prints one line per stage instead of a bar.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stage: str | None = None
        self._bar: tqdm | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def report(self, stage: str, fraction: float) -> None:
        """Takes the fraction of a stage that is done; a new stage begins a new bar."""
        if self._quiet:
            return
        if stage != self._stage:
            self._close()
            self._stage = stage
            if sys.stderr.isatty():
                layout = "{desc:<10} {percentage:3.0f}% |{bar:30}| {elapsed}"
                self._bar = tqdm(total=1.0, desc=stage, bar_format=layout, file=sys.stderr)
            else:
                print(f"{stage} ...", file=sys.stderr, flush=True)
        if self._bar is not None and fraction > self._bar.n:
            self._bar.update(fraction - self._bar.n)
        if fraction >= 1.0:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
