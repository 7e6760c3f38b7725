"""Which views see a point, and which look through the place where it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.types import WorldPointmaps

_BLOCK = 1 << 15  # points per pass; the work arrays of one pass stay in the cache
_SAMPLE = 20_000  # points that sigma and spacing are measured on


@dataclass(frozen=True, eq=False)
class Visibility:
    """Depth images of all views, drawn from the world points, and their uncertainty.

    Attributes:
        cameras: per view (3, 4) float32, world point to (u z, v z, z).
        depth: per view (H, W) float32, 0 = none.
        nearest: per view (H, W) float32, smallest depth in a window about each pixel, inf = none.
            Edges of objects are off by a few pixels; only where a whole window is farther does a
            view look through a point.
        focal: (N,) focal lengths [px].
        centres: (N, 3) camera positions.
        depth_sigma: standard deviation of depth over depth, between views of the same surface.
    """

    cameras: tuple[NDArray[np.float32], ...]
    depth: tuple[NDArray[np.float32], ...]
    nearest: tuple[NDArray[np.float32], ...]
    focal: NDArray[np.float64]
    centres: NDArray[np.float64]
    depth_sigma: float

    @classmethod
    def create(
        cls, K: NDArray[np.float64], world_from_cam: NDArray[np.float64], world: WorldPointmaps
    ) -> Visibility:
        """Draws each view's depth and measures how well the views agree."""
        cameras = tuple(
            (k @ invert(pose)[:3]).astype(np.float32)
            for k, pose in zip(K, world_from_cam, strict=True)
        )
        depth = []
        for view, camera in enumerate(cameras):
            z = world.points[view] @ camera[2, :3] + camera[2, 3]
            depth.append(np.where(world.valid(view) & (z > 0), z, np.float32(0)))
        focal = np.array([k[0, 0] for k in K])
        draft = cls(cameras, tuple(depth), (), focal, world_from_cam[:, :3, 3], 0.0)
        sigma = draft._measure_sigma(world)
        radius = int(np.clip(np.ceil(sigma * np.median(focal)), 1, 4))
        kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
        nearest = tuple(
            np.asarray(cv2.erode(np.where(z > 0, z, np.float32(np.inf)), kernel), np.float32)
            for z in depth
        )
        return cls(cameras, draft.depth, nearest, focal, draft.centres, sigma)

    def votes(
        self, points: NDArray[np.float32], view: NDArray[np.uint16]
    ) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """For each point, how many other views see it, and how many look through it.

        A view sees a point when its depth there, or the nearest depth about there, is the point's
        within the tolerance (3 standard deviations, and the slope of a surface over a pixel). It
        looks through it when all depths about the pixel are farther by 3 tolerances. Occluded
        views and views without depth there do not vote.

        Args:
            points: (M, 3) float32 world points.
            view: (M,) view that each point comes from; it does not vote.

        Returns:
            (M,) int16 counts seen and pierced.
        """
        seen, pierced = np.zeros(len(points), np.int16), np.zeros(len(points), np.int16)
        for block, _, row, here, beyond in self._looks(points, view):
            seen[block][row] += here
            pierced[block][row] += beyond
        return seen, pierced

    def seen_by(self, points: NDArray[np.float32], view: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """(M, N) bool: which of the N views see each point; its own view always does.

        Arguments and the meaning of seeing are those of :meth:`votes`.
        """
        seen = np.zeros((len(points), len(self.cameras)), np.bool_)
        for block, other, row, here, _ in self._looks(points, view):
            seen[block, other][row] = here
        seen[np.arange(len(points)), view] = True
        return seen

    def _looks(
        self, points: NDArray[np.float32], view: NDArray[np.uint16]
    ) -> Iterator[tuple[slice, int, NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Block by block and view by view: the block, the view, rows of the block's points that
        fall into the view, whether it sees them, and whether it looks through them."""
        for start in range(0, len(points), _BLOCK):
            block = slice(start, start + _BLOCK)
            for other in range(len(self.cameras)):
                row, z, pixel = self.look(other, points[block], view[block])
                tolerance = self.tolerance(other, z)
                measured = self.depth[other].ravel()[pixel]
                front = self.nearest[other].ravel()[pixel]
                # The nearest surface about the pixel bridges holes and silhouettes.
                here = (measured > 0) & (np.abs(measured - z) < tolerance)
                here |= np.abs(front - z) < tolerance
                beyond = (measured > 0) & (front > z + np.float32(3.0) * tolerance)
                yield block, other, row, here, beyond

    def pixels_of(
        self, other: int, points: NDArray[np.float32], view: NDArray[np.uint16]
    ) -> NDArray[np.intp]:
        """Flat pixels of a view that show the points; arguments as of :meth:`look`."""
        _, z, pixel = self.look(other, points, view)
        measured = self.depth[other].ravel()[pixel]
        return pixel[(measured > 0) & (np.abs(measured - z) < self.tolerance(other, z))]

    def tolerance(self, view: int, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far depths of one surface lie apart: 3 deviations and the slant over two pixels."""
        return z * np.float32(3 * self.depth_sigma + 2 / self.focal[view])

    def point_spacing(self, points: NDArray[np.float32], view: NDArray[np.uint16]) -> float:
        """Edge [scene units] of a voxel that a noisy surface fills with several points."""
        some = slice(None, None, max(1, len(points) // _SAMPLE))
        distance = np.linalg.norm(points[some] - self.centres[view[some]], axis=1)
        footprint = distance / self.focal[view[some]]
        return float(np.median(np.maximum(4 * footprint, 3 * self.depth_sigma * distance)))

    def look(
        self, other: int, points: NDArray[np.float32], view: NDArray[np.uint16]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
        """Rows of the points that fall into a view other than their own, their depth and pixel.

        Args:
            other: the view that the points are projected into.
            points, view: as of :meth:`votes`.
        """
        camera = self.cameras[other]
        height, width = self.depth[other].shape
        uvz = camera[:, :3] @ points.T + camera[:, 3:]
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = uvz[0] / uvz[2], uvz[1] / uvz[2]
        inside = (uvz[2] > 0) & (view != other)
        inside &= (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
        row = np.flatnonzero(inside)
        column = np.rint(u[row]).astype(np.intp)
        return row, uvz[2][row], np.rint(v[row]).astype(np.intp) * width + column

    def _measure_sigma(self, world: WorldPointmaps) -> float:
        """Robust standard deviation of (depth seen - depth of the point) / depth over all views.

        A surface that faces away from a view is not the one that the view shows there: opposite
        cameras see two sides of a body, whose thickness is no error. Of the points that face it,
        most that fall on a surface of another view are that surface; those that are occluded are
        far off. So the median is taken again among differences of a few deviations until it
        converges, which needs no threshold in metres. Zero where no view faces what another one
        shows.
        """
        points, normals, views = [], [], []
        for view, pointmap in enumerate(world.points):
            pixels = np.flatnonzero(world.valid(view))
            pixels = pixels[:: max(1, len(pixels) * len(world.points) // _SAMPLE)]
            points.append(pointmap.reshape(-1, 3)[pixels])
            normals.append(_coarse_normals(pointmap, pixels, self.centres[view]))
            views.append(np.full(len(pixels), view, np.uint16))
        every, normal, origin = (np.concatenate(parts) for parts in (points, normals, views))
        off = []
        for other in range(len(self.cameras)):
            row, z, pixel = self.look(other, every, origin)
            towards = self.centres[other] - every[row]
            facing = np.einsum("ij,ij->i", normal[row], towards)
            measured = self.depth[other].ravel()[pixel]
            # Surfaces steeper than 78 degrees are not compared.
            known = (measured > 0) & (facing > 0.2 * np.linalg.norm(towards, axis=1))
            off.append((np.abs(measured - z) / z)[known])
        differences = np.concatenate(off)
        if not len(differences):
            return 0.0
        sigma = np.inf
        for _ in range(20):
            near = differences[differences < 4 * sigma]
            previous, sigma = sigma, 1.4826 * float(np.median(near))
            if sigma > 0.99 * previous or sigma == 0.0:
                break
        return sigma


def _coarse_normals(
    pointmap: NDArray[np.float32], pixels: NDArray[np.intp], centre: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(M, 3) directions of the surface at some pixels of a (H, W, 3) pointmap, towards its camera,
    from points a few pixels apart; NaN at the border and beside holes."""
    height, width = pointmap.shape[:2]
    v, u = np.divmod(pixels, width)
    below, above = np.minimum(v + 4, height - 1), np.maximum(v - 4, 0)
    right, left = np.minimum(u + 4, width - 1), np.maximum(u - 4, 0)
    normal = np.cross(
        pointmap[v, right] - pointmap[v, left], pointmap[below, u] - pointmap[above, u]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        behind = np.einsum("ij,ij->i", normal, centre - pointmap[v, u]) < 0
    normal[behind] *= -1
    return normal.astype(np.float32)
