"""Solids that stand for links, and where rays pass through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply, invert

_PARALLEL = 1e-12
"""Keeps the quotients of rays that run along a face finite."""


@dataclass(frozen=True, eq=False)
class PlacedSolid:
    """A solid that stands for a link of the robot, or a part of one, where it is.

    Attributes:
        kind, half: as of :class:`LinkSolid`.
        pose: (4, 4) of its centre, in the frame that was asked for.
    """

    kind: Literal["box", "cylinder", "sphere"]
    half: NDArray[np.float64]
    pose: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinkSolid:
    """A convex solid that is fixed to a link.

    Attributes:
        link: name of the link.
        kind: "box", "cylinder" (about its z axis) or "sphere".
        link_from_solid: (4, 4) pose of its centre.
        half: (3,) half extents [m]; of a cylinder radius, radius and half of its length, of a
            sphere its radius three times.
    """

    link: str
    kind: Literal["box", "cylinder", "sphere"]
    link_from_solid: NDArray[np.float64]
    half: NDArray[np.float64]

    def padded(self, padding: float) -> LinkSolid:
        """The same kind of solid that holds all points within ``padding`` [m] of this one."""
        return LinkSolid(self.link, self.kind, self.link_from_solid, self.half + padding)

    def corners(self, frame_from_link: NDArray[np.float64]) -> NDArray[np.float64]:
        """(8, 3) corners of the box about it."""
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
        return apply(frame_from_link @ self.link_from_solid, signs * self.half)

    def intervals(
        self, directions: NDArray[np.float64], cam_from_link: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where rays from the camera's centre enter and leave the solid.

        Args:
            directions: (R, 3) in the camera's frame.
            cam_from_link: (4, 4) pose of the link.

        Returns:
            (R,) how often each direction fits until there; the first is the larger one where the
            ray misses the solid.
        """
        solid_from_cam = invert(cam_from_link @ self.link_from_solid)
        start, along = solid_from_cam[:3, 3], directions @ solid_from_cam[:3, :3].T
        flat = {"box": (0, 1, 2), "cylinder": (2,), "sphere": ()}[self.kind]
        round_axes = [axis for axis in range(3) if axis not in flat]
        near, far = np.full(len(along), -np.inf), np.full(len(along), np.inf)
        if round_axes:
            near, far = _quadric(start[round_axes], along[:, round_axes], float(self.half[0]))
        for axis in flat:
            step = along[:, axis]
            step = np.where(np.abs(step) < _PARALLEL, _PARALLEL, step)
            low = (-self.half[axis] - start[axis]) / step
            high = (self.half[axis] - start[axis]) / step
            near = np.maximum(near, np.minimum(low, high))
            far = np.minimum(far, np.maximum(low, high))
        return near, far


def _quadric(
    start: NDArray[np.float64], along: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Roots of ``|start + t * along| = radius`` for (R, k) directions; (inf, -inf) without any."""
    a = np.maximum((along**2).sum(axis=1), _PARALLEL)
    b = along @ start
    inside = b**2 - a * (start @ start - radius**2)
    hits = inside >= 0
    root = np.sqrt(np.where(hits, inside, 0.0))
    return np.where(hits, (-b - root) / a, np.inf), np.where(hits, (-b + root) / a, -np.inf)
