"""Draws point clouds: z-buffered splats with shading from the drawn surface itself."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)

BACKGROUND = (28, 31, 36)
"""RGB of what shows nothing."""
_NOTHING = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class DrawingCamera:
    """From where a cloud is drawn.

    Attributes:
        K: (3, 3) intrinsics in pixels.
        world_from_cam: (4, 4).
        size: (height, width) in pixels.
    """

    K: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]
    size: tuple[int, int]

    @classmethod
    def beside(
        cls,
        points: NDArray[np.float32],
        world_from_cam: NDArray[np.float64],
        size: tuple[int, int],
    ) -> DrawingCamera:
        """As :meth:`around`, from above and the side that more of the cloud is seen from."""
        some = points[:: max(1, len(points) // 5000)].astype(np.float64)

        def covered(camera: DrawingCamera) -> float:
            """Number of 8-pixel cells that the points fall into, for a focal length of one."""
            uv, z = project(apply(invert(camera.world_from_cam), some), camera.K)
            cells = np.unique(np.floor(uv[z > 0] / 8).astype(np.int64), axis=0)
            return len(cells) / camera.K[0, 0] ** 2

        angles = np.radians([25, -25])
        sides = [cls.around(points, world_from_cam, size, a, np.radians(20)) for a in angles]
        return max(sides, key=covered)

    @classmethod
    def around(
        cls,
        points: NDArray[np.float32],
        world_from_cam: NDArray[np.float64],
        size: tuple[int, int],
        azimuth: float = 0.0,
        elevation: float = 0.0,
    ) -> DrawingCamera:
        """A camera that looks at a cloud as another one does, rotated about it, filled by it.

        Args:
            points: (M, 3) world points, M > 0.
            world_from_cam: the camera to start from.
            size: (height, width) of the picture.
            azimuth, elevation: angles [rad] about the cloud, to the right and upwards, in that
                camera's axes.
        """
        points = points[:: max(1, len(points) // 20_000)]
        # Single strays must not decide the zoom.
        low, high = np.percentile(points, [1, 99], axis=0)
        centre = (low + high) / 2
        start = apply(invert(world_from_cam), centre.astype(np.float64))
        rotation = rotation_from_vector([0, -azimuth, 0]) @ rotation_from_vector(
            [-elevation, 0, 0]
        )
        pose = world_from_cam @ make_transform(rotation, start - rotation @ start)
        camera_points = apply(invert(pose), points)
        depth = max(float(np.median(camera_points[:, 2])), 1e-6)
        slopes = camera_points[:, :2] / np.maximum(camera_points[:, 2:], 0.2 * depth)
        low, high = np.percentile(slopes, [0.5, 99.5], axis=0)
        height, width = size
        focal = 0.84 * float(np.min([width, height] / np.maximum(high - low, 1e-6)))
        u, v = np.array([width - 1, height - 1]) / 2 - focal * (low + high) / 2
        return cls(np.array([[focal, 0, u], [0, focal, v], [0, 0, 1.0]]), pose, size)


def render_cloud(
    points: NDArray,
    colors: NDArray[np.uint8],
    camera: DrawingCamera,
    background: tuple[int, int, int] = BACKGROUND,
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB picture of a cloud.

    Nearer points hide farther ones. Each point is a spot large enough to close the gaps to its
    neighbours; light comes from the upper left, and depth steps are darkened.

    Args:
        points: (M, 3) world points.
        colors: (M, 3) uint8 RGB.
        camera: from where.
        background: RGB where there is no point.
    """
    # Drawn at twice the size and reduced: smooth edges.
    height, width = (2 * edge for edge in camera.size)
    K = np.diag([2.0, 2.0, 1.0]) @ camera.K
    in_camera = apply(invert(camera.world_from_cam), np.asarray(points, np.float64))
    uv, z = project(in_camera, K)
    with np.errstate(invalid="ignore"):
        shown = (z > 0) & (uv > -0.5).all(axis=1) & (uv < [width - 0.5, height - 0.5]).all(axis=1)
    uv, z, colors = np.rint(uv[shown]).astype(np.intp), z[shown], colors[shown]
    # Depth and point in one number: the smallest of several is the nearest point. Bits of positive
    # floats are in the order of their values.
    keys = z.astype(np.float32).view(np.int32).astype(np.int64) << 32
    keys += np.arange(len(keys))
    drawn = np.full((height, width), _NOTHING)
    np.minimum.at(drawn, (uv[:, 1], uv[:, 0]), keys)
    drawn = _splat(drawn)
    filled = drawn != _NOTHING
    winner = drawn[filled] & 0xFFFFFFFF
    depth = np.full((height, width), np.inf, np.float32)
    depth[filled] = z[winner]
    picture = np.zeros((height, width, 3), np.float32)
    picture[filled] = colors[winner]
    if filled.any():
        picture = _smooth_within(picture, depth, filled)
        picture *= _shade(depth, filled, K[0, 0])[..., None]
    picture[~filled] = background
    small = cv2.resize(picture, camera.size[::-1], interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _splat(drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Grows every drawn point to an octagon that closes most gaps; the nearest one stays."""
    for step in range(_splat_radius(drawn != _NOTHING)):
        grown = drawn.copy()
        for axis in (0, 1):
            # A cross and a square by turns make an octagon.
            source = grown.copy() if step % 2 else drawn
            to, fro = (np.s_[1:], np.s_[:-1]) if axis == 0 else (np.s_[:, 1:], np.s_[:, :-1])
            np.minimum(grown[to], source[fro], out=grown[to])
            np.minimum(grown[fro], source[to], out=grown[fro])
        drawn = grown
    return drawn


def _splat_radius(drawn: NDArray[np.bool_]) -> int:
    """Radius, at most 4 px, of the octagons that close most gaps between drawn points."""
    for radius in range(1, 4):
        square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
        grown = cv2.dilate(drawn.astype(np.uint8), square)
        closed = cv2.morphologyEx(grown, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
        if grown.sum() > 0.97 * closed.sum():
            return radius
    return 4


def _smooth_within(
    picture: NDArray[np.float32], depth: NDArray[np.float32], filled: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Mean colour of the neighbours on the same surface: views differ in exposure."""
    scale = float(np.median(depth[filled]))
    near = 0.01 * scale
    z = np.where(filled, depth, -scale).astype(np.float32)
    total, weight = np.zeros_like(picture), np.zeros(z.shape, np.float32)
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            same = np.abs(np.roll(z, (dv, du), (0, 1)) - z) < near
            total += np.where(same[..., None], np.roll(picture, (dv, du), (0, 1)), 0)
            weight += same
    return (total / np.maximum(weight, 1)[..., None]).astype(np.float32)


def _shade(
    depth: NDArray[np.float32], filled: NDArray[np.bool_], focal: float
) -> NDArray[np.float32]:
    """(H, W) brightness from 0 to about 1.1."""
    z = np.where(filled, depth, 0).astype(np.float32)
    # Measured depth is rough; light falls on its mean over a few pixels.
    weight = cv2.GaussianBlur(filled.astype(np.float32), (0, 0), 3.0)
    smooth = cv2.GaussianBlur(z, (0, 0), 3.0) / np.maximum(weight, 1e-6)
    slope_u = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8) * focal / np.maximum(smooth, 1e-6)
    slope_v = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8) * focal / np.maximum(smooth, 1e-6)
    normal = np.stack([slope_u, slope_v, -np.ones_like(z)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array([-0.35, -0.55, -0.76], np.float32)
    lambert = np.clip(normal @ light, 0, 1)
    # Eye-dome lighting (Boucheny 2009): darker where the surroundings are nearer.
    ring = cv2.erode(np.where(filled, depth, np.inf).astype(np.float32), np.ones((7, 7), np.uint8))
    behind = np.where(filled, np.log2(np.maximum(z, 1e-9)) - np.log2(ring), 0)
    dome = np.exp(-6.0 * np.clip(behind - 0.02, 0, 0.25))
    return ((0.55 + 0.55 * lambert) * dome).astype(np.float32)
