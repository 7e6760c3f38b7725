"""The cameras of a rig as somebody says they are, and evidence about pairs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View

NEIGHBOURS = 4
"""Pairs that each of many views takes part in by what it shares with others as given, and as many
by its place in the row of views: those are there whatever the poses are."""


@dataclass(frozen=True, eq=False)
class Cameras:
    """N cameras, as given or as a hypothesis has them; NaN where something is not known.

    Attributes:
        world_from_cam: (N, 4, 4) float64; of a mirrored image a reflection.
        K: (N, 3, 3) float64 intrinsics, pixels.
        depth_scale: (N,) what the cameras' depth is multiplied with.
    """

    world_from_cam: NDArray[np.float64]
    K: NDArray[np.float64]
    depth_scale: NDArray[np.float64]

    @classmethod
    def of(cls, views: Sequence[View]) -> Cameras:
        """As given; all views have a pose and intrinsics."""
        poses = [np.asarray(view.world_from_cam_prior) for view in views]
        return cls(
            np.stack(poses), np.stack([np.asarray(v.K) for v in views]), np.ones(len(views))
        )

    @classmethod
    def of_any(cls, views: Sequence[View]) -> Cameras:
        """As given; of views without pose or intrinsics NaN."""
        poses = [view.world_from_cam_prior for view in views]
        return cls(
            np.stack([np.full((4, 4), np.nan) if pose is None else pose for pose in poses]),
            np.stack([np.full((3, 3), np.nan) if view.K is None else view.K for view in views]),
            np.ones(len(views)),
        )

    @property
    def posed(self) -> NDArray[np.bool_]:
        """(N,) cameras whose pose is known."""
        return np.asarray(np.isfinite(self.world_from_cam).all(axis=(1, 2)))

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) cameras whose pose and intrinsics are known."""
        return self.posed & np.asarray(np.isfinite(self.K).all(axis=(1, 2)))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What P pairs of views say about cameras.

    Attributes:
        log_ratio: (P,) natural logarithm of the likelihood of what is seen, over that with cameras
            that have nothing to do with each other.
        sure: (P,) the same without depth on a plane, along which cameras may slide.
        solid: (P,) the same without matches on a plane as well: tiles match the next tiles.
        agreeing, compared: (P,) observations that agree, and those that agree or contradict.
    """

    log_ratio: NDArray[np.float64]
    sure: NDArray[np.float64]
    solid: NDArray[np.float64]
    agreeing: NDArray[np.float64]
    compared: NDArray[np.float64]

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.log_ratio + other.log_ratio,
            self.sure + other.sure,
            self.solid + other.solid,
            self.agreeing + other.agreeing,
            self.compared + other.compared,
        )

    def select(self, which: NDArray[np.bool_]) -> Evidence:
        """The pairs chosen by (P,) ``which``."""
        return Evidence(
            self.log_ratio[which],
            self.sure[which],
            self.solid[which],
            self.agreeing[which],
            self.compared[which],
        )

    @property
    def total(self) -> float:
        """Log ratio of all pairs together."""
        return float(self.log_ratio.sum())

    @property
    def share(self) -> float:
        """Share of what is compared that agrees; NaN where nothing is compared."""
        compared = float(self.compared.sum())
        return float(self.agreeing.sum()) / compared if compared else float("nan")


class Source(Protocol):
    """One kind of evidence about a fixed set of views."""

    def evidence(self, cameras: Cameras, pairs: NDArray[np.int64], thinned: int = 1) -> Evidence:
        """Evidence of unordered pairs (P, 2) of view indices.

        Args:
            thinned: each so-manieth observation is used, and stands for the others.
        """
        ...


def all_pairs(count: int) -> NDArray[np.int64]:
    """(P, 2) every pair of views."""
    return np.stack(np.triu_indices(count, 1), axis=1)


def chosen_pairs(cameras: Cameras, source: Source) -> NDArray[np.int64]:
    """(P, 2) the pairs that are compared: of few views all, of many those that have something in
    common as given, and others that do not depend on what is given."""
    count = len(cameras.K)
    pairs = all_pairs(count)
    if count <= 2 * NEIGHBOURS + 1:
        return pairs
    apart = pairs[:, 1] - pairs[:, 0]
    # The views of a moving camera overlap with the next ones, those of a ring with the first, too.
    in_row = np.minimum(apart, count - apart) <= NEIGHBOURS // 2
    common = source.evidence(cameras, pairs, thinned=8).compared
    chosen, degree = in_row.copy(), np.zeros(count, dtype=np.int64)
    for e in np.argsort(-common, kind="stable"):
        if common[e] > 0 and not chosen[e] and degree[pairs[e]].max() < NEIGHBOURS:
            chosen[e] = True
            degree[pairs[e]] += 1
    return pairs[chosen]
