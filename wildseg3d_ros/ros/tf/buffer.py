"""What a transform buffer is, whoever implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.ros.tf.links import Link

BUFFER_SECONDS = 10.0
"""How much of the past a buffer keeps: the default of tf2."""
TF_TOLERANCE = 0.003
"""Metres and, for what is 1 m away, radians by which poses of TF may differ and be the same."""


class Transforms(Protocol):
    """Poses of frames over time."""

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        ...

    def lookup(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """(4, 4) ``target_from_source`` at a time; 0 means the newest time that both have.

        Raises:
            WildSeg3DError: UNKNOWN_FRAME when no transform names the target or the source;
                MISSING_TF when they are not connected, or not known at that time.
        """
        ...


class TransformBuffer(Transforms, Protocol):
    """Transforms as they are published, and the poses that they give."""

    def add(self, message: TransformStamped, static: bool = False) -> None:
        """Takes one transform, as if it had come from /tf or /tf_static.

        Raises:
            ValueError: numbers that make no pose.
        """
        ...

    def clear(self) -> None:
        """Forgets what moves; static transforms stay, as nobody sends them again."""
        ...

    def links(self) -> Mapping[str, Link]:
        """The transforms by child frame."""
        ...


def poses_at(transforms: Transforms, root: str, stamp_ns: int) -> dict[str, NDArray[np.float64]]:
    """``root_from_frame`` of every frame that is connected with the root at a time.

    A scene keeps these, so that a cloud can be asked for in a frame of a moving robot at the time
    of the images long after the buffer has forgotten it.
    """
    poses = {}
    for frame in transforms.frames():
        try:
            poses[frame] = transforms.lookup(root, frame, stamp_ns)
        except WildSeg3DError:
            continue
    return poses


def differ(
    pose: NDArray[np.float64], other: NDArray[np.float64], tolerance: float = TF_TOLERANCE
) -> bool:
    """Whether rigid (4, 4) poses differ by more than metres and, 1 m away, radians."""
    motion = invert(pose) @ other
    return max(np.linalg.norm(motion[:3, 3]), rotation_angle(motion[:3, :3])) > tolerance


def rebased(
    root_from: Mapping[str, NDArray[np.float64]], root: str, frame: str
) -> dict[str, NDArray[np.float64]]:
    """Poses in ``frame`` from those in ``root``, by frame; none if ``frame`` is not among them."""
    if frame == root:
        return dict(root_from)
    if frame not in root_from:
        return {}
    frame_from_root = invert(root_from[frame])
    return {name: frame_from_root @ pose for name, pose in root_from.items()}
