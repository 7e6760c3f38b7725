"""Constructed scenes: solids on a table, ray cast to exact depth, labels, poses and points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording
from wildseg3d_ros.sim.cameras import bearing, look_at
from wildseg3d_ros.sim.noise import DepthNoise, kinematic_pose, sense_depth
from wildseg3d_testing.solids import Solid

_TABLE_HALF = np.array([0.6, 0.45, 0.02])
_FLOOR_BELOW = 0.75
_LIGHT = np.array([-0.4, -0.3, 0.87])

_COLORS = np.array(
    [
        [[190, 60, 45], [240, 190, 90]],
        [[40, 90, 170], [200, 220, 235]],
        [[60, 140, 70], [220, 210, 120]],
        [[130, 60, 130], [235, 180, 210]],
        [[215, 130, 40], [90, 50, 30]],
        [[50, 150, 155], [235, 240, 235]],
        [[225, 205, 60], [150, 40, 40]],
        [[90, 90, 95], [230, 120, 60]],
        [[235, 225, 210], [60, 70, 140]],
        [[160, 40, 90], [250, 225, 160]],
        [[100, 175, 70], [35, 60, 60]],
        [[245, 150, 160], [120, 80, 40]],
    ],
    dtype=np.float64,
)


@dataclass(frozen=True, eq=False)
class ConstructedScene:
    """Views and the truth about them.

    Attributes:
        views: what a program gets: noisy depth and perturbed priors if they were asked for.
        world_from_cam: (N, 4, 4) exact poses.
        depths: per view (H, W) float32 exact metres, 0 = nothing.
        labels: per view (H, W) int32, 0 = support and background, else an object's id.
        points: per view (H, W, 3) float32 exact world points, NaN where there is nothing.
        solids: everything in the scene; objects have labels 1 .. objects.
    """

    views: tuple[View, ...]
    world_from_cam: NDArray[np.float64]
    depths: tuple[NDArray[np.float32], ...]
    labels: tuple[NDArray[np.int32], ...]
    points: tuple[NDArray[np.float32], ...]
    solids: tuple[Solid, ...]

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Sorted ids of the objects."""
        return tuple(sorted(solid.label for solid in self.solids if solid.label))

    @property
    def object_names(self) -> dict[int, str]:
        """Name by id."""
        return {s.label: f"{s.kind}_{s.label}" for s in self.solids if s.label}

    def recording(self) -> Recording:
        """The views and their object masks as a recording."""
        masks = tuple(labels.astype(np.uint8) for labels in self.labels)
        return Recording(self.views, masks, self.object_names)

    def distance_to_object(self, label: int, points: NDArray) -> NDArray[np.float64]:
        """(M,) distance [m] of world points (M, 3) to the surface of an object, never negative."""
        solid = next(solid for solid in self.solids if solid.label == label)
        return np.abs(solid.distance(points))


def construct_scene(
    views: int = 4,
    width: int = 160,
    height: int = 120,
    objects: int = 6,
    seed: int = 0,
    arc_degrees: float = 240.0,
    depth_noise: DepthNoise | None = None,
    translation_sigma: float = 0.0,
    rotation_sigma: float = 0.0,
    with_depth: bool = True,
    with_priors: bool = True,
    identical: int = 0,
    poses: Sequence[NDArray[np.float64]] | None = None,
) -> ConstructedScene:
    """Casts a scene.

    Object 2 touches object 1 side by side, object 4 stands on object 1; the others stand apart.

    Args:
        views: cameras on a ring about the table, looking down at its middle.
        width, height: of the images [px].
        objects: 1 to 12.
        seed: of layout, cameras and noise.
        arc_degrees: angle between the first and the last camera, seen from above.
        depth_noise: the depth camera's noise; None for exact depth.
        translation_sigma, rotation_sigma: error of the given poses per axis [m], [rad].
        with_depth: False gives RGB views.
        with_priors: False gives views without poses.
        identical: that many of the objects, the last ones, are alike in shape and colours.
        poses: ``world_from_cam`` of the cameras, in place of the ring.

    Raises:
        ValueError: a number out of range.
    """
    if views < 1 or not 1 <= objects <= len(_COLORS) or not 0 <= identical <= max(objects - 4, 0):
        raise ValueError(
            f"expected 1 or more views, 1 to {len(_COLORS)} objects and all but 4 of them "
            f"identical at most, got {views}, {objects} and {identical}"
        )
    rng = np.random.default_rng(seed)
    solids = (*_background(), *_objects(objects, rng, identical))
    poses = list(poses) if poses is not None else ring_poses(views, arc_degrees, rng)
    return photograph(
        solids,
        poses,
        width,
        height,
        seed,
        depth_noise,
        translation_sigma,
        rotation_sigma,
        with_depth,
        with_priors,
    )


def photograph(
    solids: Sequence[Solid],
    poses: Sequence[NDArray[np.float64]],
    width: int,
    height: int,
    seed: int = 0,
    depth_noise: DepthNoise | None = None,
    translation_sigma: float = 0.0,
    rotation_sigma: float = 0.0,
    with_depth: bool = True,
    with_priors: bool = True,
) -> ConstructedScene:
    """Casts given solids from given cameras (4, 4) ``world_from_cam``; see construct_scene."""
    focal = 0.95 * width
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    noise_rng = np.random.default_rng([seed, 1])
    made, depths, labels, points = [], [], [], []
    for k, pose in enumerate(poses):
        image, depth, label, world = cast(tuple(solids), pose, K, height, width)
        sensed: NDArray[np.float32] | None = depth
        if depth_noise is not None:
            sensed = sense_depth(depth, K, noise_rng, depth_noise)
        prior = kinematic_pose(pose, noise_rng, translation_sigma, rotation_sigma)
        made.append(
            View(
                f"cam_{k}",
                image,
                K=K,
                depth=sensed if with_depth else None,
                world_from_cam_prior=prior if with_priors else None,
                stamp_ns=1_000_000_000 + k,
                frame_id=f"cam_{k}_optical_frame",
            )
        )
        depths.append(depth)
        labels.append(label)
        points.append(world)
    return ConstructedScene(
        tuple(made), np.stack(poses), tuple(depths), tuple(labels), tuple(points), tuple(solids)
    )


def ring_poses(
    views: int, arc_degrees: float, rng: np.random.Generator, distance: float = 0.66
) -> list[NDArray[np.float64]]:
    """(4, 4) ``world_from_cam`` of cameras on a ring that look at the table's middle."""
    poses = []
    for azimuth in np.radians(np.linspace(-0.5, 0.5, views) * arc_degrees if views > 1 else [0]):
        elevation = np.radians(rng.uniform(35.0, 48.0))
        target = np.array([0.0, 0.0, 0.03]) + rng.uniform(-0.02, 0.02, 3)
        eye = target + rng.uniform(0.95, 1.05) * distance * bearing(azimuth, elevation)
        poses.append(look_at(eye, target))
    return poses


def fan_poses(
    views: int, degrees_apart: float, distance: float = 0.66
) -> list[NDArray[np.float64]]:
    """``world_from_cam`` of cameras on a great circle above the table's middle, which they look at
    from ``distance`` [m]: neighbours are exactly so many degrees apart there."""
    target = np.array([0.0, 0.0, 0.03])
    middle = np.array([0.0, -np.cos(np.radians(42.0)), np.sin(np.radians(42.0))])
    angles = np.radians((np.arange(views) - (views - 1) / 2) * degrees_apart)
    return [
        look_at(target + distance * (np.cos(t) * middle + np.sin(t) * np.eye(3)[0]), target)
        for t in angles
    ]


def cast(
    solids: tuple[Solid, ...], world_from_cam: NDArray, K: NDArray, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Image, exact depth, labels and world points of one view, one ray per pixel centre."""
    # Directions have length 1 along the optical axis: the hit's parameter is the depth.
    directions = rays(K, height, width).reshape(-1, 3).astype(np.float64)
    directions = directions @ world_from_cam[:3, :3].T
    origin = world_from_cam[:3, 3]
    depth = np.full(len(directions), np.inf)
    nearest = np.full(len(directions), -1)
    for k, solid in enumerate(solids):
        hit = solid.hit(origin, directions)
        closer = hit < depth
        depth[closer], nearest[closer] = hit[closer], k
    seen = nearest >= 0
    points = np.full((len(directions), 3), np.nan)
    points[seen] = origin + depth[seen, None] * directions[seen]
    color = np.full((len(directions), 3), 205.0)
    for k, solid in enumerate(solids):
        here = np.flatnonzero(nearest == k)
        if here.size:
            color[here] = solid.color(points[here]) * _shade(solid, points[here])[:, None]
    label_of = np.array([0, *(solid.label for solid in solids)], dtype=np.int32)
    shape = (height, width)
    return (
        np.clip(np.rint(color), 0, 255).astype(np.uint8).reshape(*shape, 3),
        np.where(seen, depth, 0.0).astype(np.float32).reshape(shape),
        label_of[nearest + 1].reshape(shape),
        points.astype(np.float32).reshape(*shape, 3),
    )


def _shade(solid: Solid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) brightness in [0.45, 1] by the surface's slant to a distant lamp."""
    step = 1e-5
    normal = np.stack(
        [solid.distance(points + step * axis) - solid.distance(points) for axis in np.eye(3)],
        axis=1,
    )
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return 0.45 + 0.55 * np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0.0, 1.0)


def _background() -> tuple[Solid, ...]:
    floor_half = np.array([6.0, 6.0, 0.05])
    return (
        Solid(
            "box",
            make_transform(np.eye(3), [0, 0, -_TABLE_HALF[2]]),
            _TABLE_HALF,
            np.array([[150, 120, 90], [185, 155, 120]], dtype=np.float64),
            grain=0.04,
        ),
        Solid(
            "box",
            make_transform(np.eye(3), [0, 0, -_FLOOR_BELOW - floor_half[2]]),
            floor_half,
            np.array([[120, 122, 125], [150, 152, 155]], dtype=np.float64),
            grain=0.15,
        ),
    )


def _objects(count: int, rng: np.random.Generator, identical: int) -> list[Solid]:
    kinds = ("box", "box", "ball", "cylinder", "cylinder", "box", "ball", "cylinder") * 2
    cells = np.array([[x, y] for y in (-0.15, 0.0, 0.15) for x in (-0.3, -0.15, 0.0, 0.15, 0.3)])
    # The middle first: that is where the cameras look.
    cells = cells[np.argsort(np.linalg.norm(cells, axis=1) + rng.uniform(0.0, 0.1, len(cells)))]
    solids: list[Solid] = []
    for k in range(count):
        kind, label = kinds[k], k + 1
        half = rng.uniform(0.028, 0.045, 3)
        if kind == "ball":
            half[:] = half[0]
        elif kind == "cylinder":
            half = np.array([half[0], half[0], 1.4 * half[2]])
        rotation = rotation_from_vector([0.0, 0.0, rng.uniform(-np.pi, np.pi)])
        first_alike = count - identical
        if k > first_alike:
            kind, half = solids[first_alike].kind, solids[first_alike].half
        if k == 1:  # flush with object 1, on the side of its x axis
            first = solids[0]
            rotation = first.world_from_solid[:3, :3]
            centre = first.world_from_solid[:3, 3] + rotation[:, 0] * (first.half[0] + half[0])
        elif k == 3:  # on object 1
            first = solids[0]
            half = half * (0.8 * first.half[:2].min() / half[0])
            centre = first.world_from_solid[:3, 3] + [0, 0, first.half[2] + half[2]]
        else:
            centre = np.append(cells[0] if k == 0 else _free_cell(cells, solids, half), 0.0)
            centre[:2] += rng.uniform(-0.008, 0.008, 2)
        if k != 3:
            centre[2] = half[2]
        colors = _COLORS[min(k, first_alike)]
        solids.append(Solid(kind, make_transform(rotation, centre), half, colors, label=label))
    return solids


def _free_cell(
    cells: NDArray[np.float64], solids: list[Solid], half: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The first cell whose object's circle stays clear of all others'."""
    centres = np.array([solid.world_from_solid[:2, 3] for solid in solids])
    radius = np.array([np.hypot(*solid.half[:2]) for solid in solids])
    gap = np.linalg.norm(cells[:, None] - centres, axis=2) - radius - np.hypot(*half[:2])
    return cells[np.flatnonzero(gap.min(axis=1) > 0.016)[0]]
