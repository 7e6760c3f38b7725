"""Where the pairs alone put the cameras, and how far that may be off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed, solve_cameras
from wildseg3d_ros.alignment.priors.factors import DATA_SIGMA
from wildseg3d_ros.core.geometry.transforms import rotation_angle
from wildseg3d_ros.core.types import View

_UNCHECKED_SIGMA = 0.018
"""By how much a pair deviates per axis [viewing distances or rad] where no other checks it, as a
network's do in constructed scenes."""


@dataclass(frozen=True, eq=False)
class PairCameras:
    """What the pairs alone say about the cameras.

    Attributes:
        poses: (N, 4, 4), graph units, NaN for a camera that cannot be located.
        distance: (N,) viewing distances, graph units.
        edges: (E, 2) pairs of views that the pairs connect, each once.
        sigmas: deviations per axis of a camera by one pair [viewing distances, rad].
    """

    poses: NDArray[np.float64]
    distance: NDArray[np.float64]
    edges: NDArray[np.int64]
    sigmas: tuple[float, float]

    @classmethod
    def of(
        cls, views: Sequence[View], edges: NDArray[np.int64], seen: Sequence[Observed]
    ) -> PairCameras:
        """By (E, 2) pairs, and what they say about each view."""
        poses = np.full((len(views), 4, 4), np.nan)
        for v, (view, s) in enumerate(zip(views, seen, strict=True)):
            pose = s.mean_pose()
            if pose is None and view.world_from_cam_prior is not None:
                no = np.zeros(1, dtype=bool)
                (found,), _, failed = solve_cameras([view], [s], no, no)
                pose = None if failed else found
            if pose is not None:
                poses[v] = pose
        distance = np.array([s.viewing_distance(c) for s, c in zip(seen, poses, strict=True)])
        links = np.unique(np.sort(edges, axis=1), axis=0)
        return cls(poses, distance, links, _pair_sigmas(len(links), seen, poses, distance))

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether a camera is located."""
        return np.asarray(np.isfinite(self.poses).all(axis=(1, 2)))


def _pair_sigmas(
    pairs: int,
    seen: Sequence[Observed],
    cameras: NDArray[np.float64],
    distance: NDArray[np.float64],
) -> tuple[float, float]:
    """From where the pairs of a view put its camera, pooled over the views; ``pairs``: both
    directions of one count once.

    Pairs that were fitted to each other agree better than they are right, the more so the fewer
    there are beyond a tree.
    """
    variances = []
    for s, camera, depth in zip(seen, cameras, distance, strict=True):
        count = len(s.own_poses)
        if count < 2:
            continue
        apart = s.own_poses[:, :3, 3] - camera[:3, 3]
        angle = np.array([rotation_angle(p[:3, :3] @ camera[:3, :3].T) for p in s.own_poses])
        squares = np.array([(apart**2).sum() / depth**2, (angle**2).sum()])
        variances.append(squares / (3.0 * (count - 1)))
    tree = len(seen) - 1
    if not variances or pairs <= tree:  # no pair is checked by another
        return _UNCHECKED_SIGMA, _UNCHECKED_SIGMA
    found = np.sqrt(pairs / (pairs - tree) * np.median(variances, axis=0))
    position, rotation = np.maximum(found, DATA_SIGMA).tolist()
    return position, rotation
