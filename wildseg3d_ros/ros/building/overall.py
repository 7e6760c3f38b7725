"""How far a build or an edit is as a whole, from the stages that it reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

BUILD_STAGES = (
    ("starting", 0.0),
    ("images", 2.0),
    ("rig", 4.0),
    ("pairs", 1.0),
    ("pointmaps", 25.0),
    ("alignment", 3.0),
    ("masks", 50.0),
    ("alignment", 5.0),
    ("index", 10.0),
)
"""Stages in their order, with their usual shares of the time with the default back ends."""
EDIT_STAGES = (("starting", 0.0), ("masks", 90.0), ("boxes", 10.0))
"""The same of an edit."""
_KNOWN = 0.1
"""Share of the whole from which the time that it took tells how long the rest takes."""


class OverallProgress:
    """Share of the work that is done, and how long the rest takes; it never goes back.

    A stage that it does not know, of somebody else's back end, counts as part of the one before.

    Args:
        stages: in their order, each with its usual share of the time.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        stages: Sequence[tuple[str, float]] = BUILD_STAGES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._total = sum(share for _, share in stages)
        self._clock, self._began = clock, clock()
        self._at, self._share = 0, 0.0

    def update(self, stage: str, fraction: float) -> tuple[float, float]:
        """Takes a report; returns the share of all, and the seconds that are left, NaN where
        nothing tells yet."""
        names = [name for name, _ in self._stages]
        if stage != names[self._at] and stage in names[self._at :]:
            self._at = names.index(stage, self._at)
        if stage == names[self._at]:
            done = sum(share for _, share in self._stages[: self._at])
            done += self._stages[self._at][1] * min(max(fraction, 0.0), 1.0)
            self._share = max(self._share, done / self._total)
        if self._share < _KNOWN:
            return self._share, math.nan
        elapsed = self._clock() - self._began
        return self._share, elapsed * (1.0 - self._share) / self._share
