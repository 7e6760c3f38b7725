"""Cameras as given, to within the error that honest poses have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.rig.cameras import Cameras, Source

TRANSLATION, ROTATION = 0.01, np.radians(1.0)
"""Steps [m, rad] of the search; halved twice, so that no camera moves by more than 1.75 of them
along an axis."""

_ROUNDS = 3


def most_likely_nearby(
    cameras: Cameras, source: Source, pairs: NDArray[np.int64], thinned: int = 2
) -> Cameras:
    """The cameras that the evidence favours among those that differ by an honest error.

    Kinematics and hand-eye calibration are off by millimetres and tenths of degrees, which costs
    surfaces a good part of their agreement and is no mistake. Cameras are moved one after the
    other, along and about one axis at a time.

    Args:
        pairs: (P, 2) that are compared. thinned: as of :class:`Source`.
    """
    for step in 0.5 ** np.arange(_ROUNDS):
        moves = [np.eye(4)]
        for axis in np.concatenate([np.eye(3), -np.eye(3)]):
            moves.append(make_transform(rotation_from_vector(step * ROTATION * axis), np.zeros(3)))
            moves.append(make_transform(np.eye(3), step * TRANSLATION * axis))
        for v in range(len(cameras.K)):
            own = pairs[(pairs == v).any(axis=1)]
            if len(own):
                tried = [_moved(cameras, v, move) for move in moves]
                totals = [source.evidence(each, own, thinned).total for each in tried]
                cameras = tried[int(np.argmax(totals))]
    return cameras


def _moved(cameras: Cameras, v: int, move: NDArray) -> Cameras:
    poses = cameras.world_from_cam.copy()
    poses[v] = poses[v] @ move
    return replace(cameras, world_from_cam=poses)
