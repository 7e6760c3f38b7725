"""What a transform buffer is, whoever implements it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.streams.messages import TransformMessage
from wildseg3d_ros.streams.tf.links import Link, chain

BUFFER_SECONDS = 10.0
"""How much of the past a buffer keeps: the default of tf2."""
TF_TOLERANCE = 0.003
"""Metres and, for what is 1 m away, radians by which poses of TF may differ and be the same."""


class Transforms(Protocol):
    """Poses of frames over time."""

    def frames(self) -> list[str]:
        """Names of all known frames, sorted."""
        ...

    def links(self) -> Mapping[str, Link]:
        """The transforms by child frame."""
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

    def add(self, message: TransformMessage, static: bool = False) -> None:
        """Takes one transform, as if it had come from /tf or /tf_static.

        Raises:
            ValueError: numbers that make no pose.
        """
        ...

    def clear(self) -> None:
        """Forgets what moves; static transforms stay, as nobody sends them again."""
        ...

    def drop(self, frames: Collection[str]) -> None:
        """Forgets the transforms of child frames that nobody publishes any more."""
        ...


def poses_at(transforms: Transforms, root: str, stamp_ns: int) -> dict[str, NDArray[np.float64]]:
    """``root_from_frame`` of every frame that is connected with the root at a time.

    A scene keeps these, so that a cloud can be asked for in a frame of a moving robot at the time
    of the images long after the buffer has forgotten it.
    """
    if root not in transforms.frames():
        return {}
    links = transforms.links()
    poses = {root: np.eye(4)}
    # Step by step, so that the work grows with the frames and not with the length of their chains.
    up = chain(links, root)
    for child, parent in itertools.pairwise(up):
        step = _step(transforms, parent, child, stamp_ns)
        if step is None:
            break
        poses[parent] = poses[child] @ invert(step)
    lost = {frame for frame in up if frame not in poses}
    for frame in links:
        branch = {}
        while frame in links and frame not in poses and frame not in lost and frame not in branch:
            branch[frame] = links[frame].parent
            frame = branch[frame]
        for child, parent in reversed(branch.items()):
            step = _step(transforms, parent, child, stamp_ns) if parent in poses else None
            if step is None:
                lost.add(child)
            else:
                poses[child] = poses[parent] @ step
    return poses


def differ(
    pose: NDArray[np.float64], other: NDArray[np.float64], tolerance: float = TF_TOLERANCE
) -> bool:
    """Whether rigid (4, 4) poses differ by more than metres and, 1 m away, radians."""
    motion = invert(pose) @ other
    moved = float(np.linalg.norm(motion[:3, 3]))
    return max(moved, rotation_angle(motion[:3, :3])) > tolerance


def _step(
    transforms: Transforms, parent: str, child: str, stamp_ns: int
) -> NDArray[np.float64] | None:
    try:
        return transforms.lookup(parent, child, stamp_ns)
    except WildSeg3DError:
        return None


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
