"""Constructed pair predictions with known truth, and with the errors that real ones have.

A furnished room is ray-cast exactly; cameras look at the objects on its floor. Predictions are
made from the true pointmaps by adding what pointmap networks are known to do wrong: a scale of its
own per pair, a smooth warp that differs from pair to pair, noise along the range, flying pixels at
depth edges, confidences that are only partly right, and pairs that are wrong altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.sim.cameras import look_at


@dataclass(frozen=True)
class PairErrors:
    """Sizes of the errors; all zero is an exact prediction.

    Attributes:
        scale: standard deviation of a pair's log scale.
        warp: amplitude of the smooth warp, share of the distance from the camera.
        noise: standard deviation along the ray, share of the range.
        flying: share of pixels at depth edges that lie between foreground and background.
        confidence_noise: standard deviation of the log confidence that has no cause.
        wrong_pairs: indices of pairs whose two views lie arbitrarily to each other.
    """

    scale: float = 0.0
    warp: float = 0.0
    noise: float = 0.0
    flying: float = 0.0
    confidence_noise: float = 0.0
    wrong_pairs: tuple[int, ...] = ()


NETWORK_LIKE = PairErrors(scale=0.3, warp=0.015, noise=0.004, flying=0.7, confidence_noise=0.3)
"""Errors of the size that published pointmap networks show on indoor scenes."""


@dataclass(frozen=True, eq=False)
class ConstructedPairs:
    """Views, their exact geometry, and predictions made from it.

    Attributes:
        views: with K and world_from_cam_prior (exact); images are flat grey.
        world_from_cam: (N, 4, 4) true poses.
        points: per view (H, W, 3) float64 true points in the world.
        objects: per view (H, W) bool, pixels on an object rather than on the room.
        edges: per view (H, W) bool, pixels at depth edges.
        predictions: one per asked pair.
        pair_scale: (E,) true scale that takes a prediction to the world.
    """

    views: tuple[View, ...]
    world_from_cam: NDArray[np.float64]
    points: tuple[NDArray[np.float64], ...]
    objects: tuple[NDArray[np.bool_], ...]
    edges: tuple[NDArray[np.bool_], ...]
    predictions: tuple[PairPrediction, ...]
    pair_scale: NDArray[np.float64]

    def without_priors(self) -> ConstructedPairs:
        """The same without given poses."""
        views = tuple(replace(view, world_from_cam_prior=None) for view in self.views)
        return replace(self, views=views)


def complete_pairs(count: int, both_ways: bool = True) -> list[tuple[int, int]]:
    """All pairs of ``count`` views, in both directions or a < b only."""
    return [(a, b) for a in range(count) for b in range(count) if (a != b if both_ways else a < b)]


def sequence_pairs(count: int, max_step: int = 2) -> list[tuple[int, int]]:
    """Pairs of views at most ``max_step`` apart, in both directions."""
    return [(a, b) for a, b in complete_pairs(count) if abs(a - b) <= max_step]


def construct_views(
    count: int, size: tuple[int, int] = (96, 128), seed: int = 0, sweep: float = 2.0
) -> ConstructedPairs:
    """Views on an arc of ``sweep`` radians around the objects, without predictions."""
    random = np.random.default_rng(seed)
    spheres, boxes = _furnish(random)
    height, width = size
    focal = 0.9 * width
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    poses = np.stack(
        [
            look_at(
                np.array([np.cos(angle), np.sin(angle), 0.0]) * random.uniform(1.3, 1.7)
                + np.array([0.0, 0.0, random.uniform(0.6, 1.1)]),
                np.array([0.0, 0.0, 0.15]) + random.normal(0.0, 0.05, 3),
            )
            for angle in np.linspace(-sweep / 2, sweep / 2, count)
        ]
    )
    views, points, objects, edges = [], [], [], []
    for index, pose in enumerate(poses):
        direction = rays(K, height, width).astype(np.float64) @ pose[:3, :3].T
        depth, on_object = _cast(pose[:3, 3], direction, spheres, boxes)
        points.append(pose[:3, 3] + depth[..., None] * direction)
        objects.append(on_object)
        edges.append(_depth_edges(depth))
        views.append(
            View(
                f"cam{index}",
                np.full((height, width, 3), 128, dtype=np.uint8),
                K=K,
                world_from_cam_prior=pose,
            )
        )
    return ConstructedPairs(
        tuple(views), poses, tuple(points), tuple(objects), tuple(edges), (), np.zeros(0)
    )


def predict_like_network(
    scene: ConstructedPairs,
    pairs: Sequence[tuple[int, int]],
    errors: PairErrors = NETWORK_LIKE,
    seed: int = 0,
) -> ConstructedPairs:
    """The scene with predictions as a pointmap network gives them: a frame and scale per pair."""
    random = np.random.default_rng(seed)
    predictions, scales = [], []
    for index, (a, b) in enumerate(pairs):
        cam_from_world = invert(scene.world_from_cam[a])
        scale = float(np.exp(random.normal(0.0, errors.scale)))
        maps, confidences = [], []
        for v in (a, b):
            points = apply(cam_from_world, scene.points[v])
            centre = apply(cam_from_world, scene.world_from_cam[v][:3, 3])
            points, confidence = _spoil(points, centre, scene.edges[v], errors, random)
            maps.append(points)
            confidences.append(confidence.astype(np.float32))
        if index in errors.wrong_pairs:
            # Draws of its own: all other pairs are as they would be without it.
            own = np.random.default_rng([seed, index])
            motion = make_transform(
                rotation_from_vector(own.normal(0.0, 1.0, 3)), own.normal(0.0, 0.7, 3)
            )
            maps[1] = apply(motion, maps[1]) * np.exp(own.normal(0.0, 0.3))
        predictions.append(
            PairPrediction(a, b, *((m / scale).astype(np.float32) for m in maps), *confidences)
        )
        scales.append(scale)
    return replace(scene, predictions=tuple(predictions), pair_scale=np.array(scales))


def predict_like_depth(
    scene: ConstructedPairs,
    pairs: Sequence[tuple[int, int]],
    rotation_error: float = 0.0,
    translation_error: float = 0.0,
    noise: float = 0.0,
    invalid: float = 0.0,
    wrong_pairs: Sequence[int] = (),
    seed: int = 0,
) -> ConstructedPairs:
    """The scene with predictions as an RGB-D back end gives them: one map per view, shared.

    Args:
        rotation_error, translation_error: standard deviations of the pairs' relative poses, rad
            and metres per axis.
        noise: standard deviation along the ray, share of the range.
        invalid: share of pixels without depth.
    """
    random = np.random.default_rng(seed)
    maps, confidences = [], []
    for v, pose in enumerate(scene.world_from_cam):
        points = apply(invert(pose), scene.points[v])
        points = points * (1.0 + random.normal(0.0, noise, (*points.shape[:2], 1)))
        confidence = 1.0 / (0.2 + points[..., 2] ** 2)
        missing = random.random(confidence.shape) < invalid
        points[missing], confidence[missing] = 0.0, 0.0
        maps.append(points.astype(np.float32))
        confidences.append(confidence.astype(np.float32))
    predictions = []
    for index, (a, b) in enumerate(pairs):
        a_from_b = invert(scene.world_from_cam[a]) @ scene.world_from_cam[b]
        sizes = (1.0, 0.5) if index in wrong_pairs else (rotation_error, translation_error)
        slip = make_transform(
            rotation_from_vector(random.normal(0.0, 1.0, 3) * sizes[0]),
            random.normal(0.0, 1.0, 3) * sizes[1],
        )
        predictions.append(
            PairPrediction(
                a,
                b,
                maps[a],
                maps[b],
                confidences[a],
                confidences[b],
                a_from_b @ slip,
                metric=True,
            )
        )
    return replace(scene, predictions=tuple(predictions), pair_scale=np.ones(len(pairs)))


def _spoil(
    points: NDArray[np.float64],
    centre: NDArray[np.float64],
    edges: NDArray[np.bool_],
    errors: PairErrors,
    random: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points with errors, and a confidence >= 1 that knows part of them."""
    height, width = edges.shape
    ray = points - centre
    distance = np.linalg.norm(ray, axis=-1)
    if errors.flying > 0:
        # A flying pixel lies on its ray between its own surface and a neighbour's.
        row, col = random.integers(-1, 2, (2, height, width))
        v, u = np.mgrid[:height, :width]
        neighbour = distance[np.clip(v + row, 0, height - 1), np.clip(u + col, 0, width - 1)]
        flies = edges & (random.random(edges.shape) < errors.flying)
        mixed = distance + random.random(edges.shape) * (neighbour - distance)
        ray = ray * np.where(flies, mixed / distance, 1.0)[..., None]
    sigma = errors.noise * np.exp(random.normal(0.0, 0.5, edges.shape)) * np.sqrt(distance)
    ray = ray * (1.0 + sigma * random.normal(0.0, 1.0, edges.shape))[..., None]
    warp = np.stack([_smooth(height, width, random) for _ in range(3)], -1)
    ray = ray + errors.warp * distance[..., None] * warp
    log_confidence = np.log(12.0 / (1.0 + distance)) - np.log1p(
        sigma / 0.004 if errors.noise else 0.0
    )
    log_confidence -= 0.8 * (edges & (errors.flying > 0))
    log_confidence += random.normal(0.0, 1.0, edges.shape) * errors.confidence_noise
    return centre + ray, 1.0 + np.exp(log_confidence)


def _smooth(height: int, width: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random field of unit standard deviation: three cosines of low frequency."""
    v, u = np.mgrid[:height, :width]
    v, u = v / height - 0.5, u / width - 0.5
    field = np.zeros((height, width))
    for _ in range(3):
        fu, fv = random.normal(0.0, 4.0, 2)
        field += np.cos(fu * u + fv * v + random.uniform(0.0, 2.0 * np.pi))
    return field / np.sqrt(1.5)


def _depth_edges(depth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels with a neighbour at least 5 % nearer or farther."""
    edges = np.zeros(depth.shape, dtype=bool)
    for axis in (0, 1):
        jump = np.abs(np.diff(np.log(depth), axis=axis)) > 0.05
        before = [(0, 0), (0, 0)]
        after = [(0, 0), (0, 0)]
        before[axis], after[axis] = (1, 0), (0, 1)
        edges |= np.pad(jump, before) | np.pad(jump, after)
    return edges


def _furnish(random: np.random.Generator) -> tuple[list, list]:
    """Spheres (centre, radius) and boxes (low, high) on the floor near the origin."""
    spheres, boxes = [], []
    for _ in range(4):
        radius = random.uniform(0.06, 0.15)
        spheres.append((np.array([*random.uniform(-0.45, 0.45, 2), radius]), radius))
    for _ in range(4):
        half = random.uniform(0.05, 0.15, 3)
        centre = np.array([*random.uniform(-0.45, 0.45, 2), half[2]])
        boxes.append((centre - half, centre + half))
    return spheres, boxes


def _cast(
    eye: NDArray[np.float64], direction: NDArray[np.float64], spheres: list, boxes: list
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Lengths (H, W) of rays to the nearest surface, in ``direction``s; whether on an object."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.array([[-3.0, -3.0, 0.0], [3.0, 3.0, 2.5]])
        bounds = np.stack([(wall - eye) / direction for wall in room])
        nearest = np.nanmin(np.maximum(bounds[0], bounds[1]), axis=-1)
        on_object = np.zeros(nearest.shape, dtype=bool)
        for centre, radius in spheres:
            offset = eye - centre
            square = (direction**2).sum(-1)
            half = direction @ offset
            root = half**2 - square * (offset @ offset - radius**2)
            length = np.where(root > 0, (-half - np.sqrt(np.maximum(root, 0))) / square, np.inf)
            closer = (length > 0) & (length < nearest)
            nearest, on_object = np.where(closer, length, nearest), on_object | closer
        for low, high in boxes:
            hits = np.stack([(low - eye) / direction, (high - eye) / direction])
            enter, leave = hits.min(0).max(-1), hits.max(0).min(-1)
            closer = (enter < leave) & (enter > 0) & (enter < nearest)
            nearest, on_object = np.where(closer, enter, nearest), on_object | closer
    return nearest, on_object
