"""Pointmap back ends: what they promise, and loading the chosen one (docs/how-to/extending.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pointmaps.config import AUTO, PointmapConfig


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
        """(N, N) similarity of the views, 0..1, symmetric, 0 on the diagonal.

        Raises:
            Cancelled: the caller asked to stop.
        """
        ...


@runtime_checkable
class NeedsPoses(Protocol):
    """A back end that works from given poses: it knows which pairs they make usable, and that the
    alignment must not give them up."""

    def with_deviations(self, views: Sequence[View]) -> list[View]:
        """The views, the deviations of their poses filled in where they do not say their own."""
        ...

    def choose_pairs(self, views: Sequence[View], config: PairingConfig) -> list[tuple[int, int]]:
        """Pairs (a, b), a < b, each once, sorted.

        Raises:
            InputError: no pairs that it can use connect the views (DISCONNECTED_VIEWS).
        """
        ...


def load_pointmaps(config: PointmapConfig) -> PointmapBackend:
    """The back end that the configuration names, ready to predict.

    Raises:
        ConfigError: there is none of that name, or something that it needs is missing.
        FileError: it has no weights.
    """
    return config.of(()).load()


def load_ahead(config: PointmapConfig) -> PointmapBackend | None:
    """The back end of many scenes; None where the views of each choose one, of those that have no
    weights to load. Errors as of :func:`load_pointmaps`."""
    backend = load_pointmaps(config)
    return None if config.backend == AUTO else backend


def load_for(views: Sequence[View], config: PointmapConfig, progress: Progress) -> PointmapBackend:
    """The back end that the configuration names, or that the views choose by its rule, which is
    said where it is not the usual one. Errors as of :func:`load_pointmaps`."""
    chosen = config.of(views)
    if config.backend == AUTO and chosen.backend != config.of(()).backend:
        progress.warn(
            f"no camera has depth: pointmaps.backend={chosen.backend} was taken, which needs "
            "texture and the given poses"
        )
    return load_pointmaps(chosen)
