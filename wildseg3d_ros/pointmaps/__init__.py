"""Geometry back ends: a pointmap per image pair. The table is read lazily."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import PointmapConfig
from wildseg3d_ros.progress import Progress
from wildseg3d_ros.types import PairPrediction, View


class PointmapBackend(Protocol):
    """Predicts pointmaps of pairs of views."""

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError when a view lacks what this back end needs, naming view and remedy."""
        ...

    def predict(
        self, views: Sequence[View], pairs: Sequence[tuple[int, int]], progress: Progress
    ) -> list[PairPrediction]:
        """One prediction per pair that could be compared; pairs that share nothing are left out.

        Raises:
            Cancelled: the caller asked to stop.
        """
        ...


@runtime_checkable
class ComparesViews(Protocol):
    """A back end that can tell which views look alike, before pairs are chosen."""

    def similarity(self, views: Sequence[View], progress: Progress) -> NDArray[np.float64]:
        """(N, N) likeness of the views, 0..1, symmetric, 0 on the diagonal.

        Raises:
            Cancelled: the caller asked to stop.
        """
        ...


_BACKENDS = {
    "depth": ("wildseg3d_ros.pointmaps.depth", "DepthPointmaps"),
    "mast3r": ("wildseg3d_ros.pointmaps.mast3r.backend", "Mast3rPointmaps"),
}


def load_pointmaps(config: PointmapConfig) -> PointmapBackend:
    """The back end that the configuration names, ready to predict."""
    module, name = _BACKENDS[config.backend]
    return getattr(importlib.import_module(module), name)(config)
