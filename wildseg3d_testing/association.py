"""Bodies seen from around, masks whose true names are known, and how many ids are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply, make_transform, rotation_from_vector
from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.sim.cameras import look_at
from wildseg3d_testing.exact import exact_world
from wildseg3d_testing.scenes import ConstructedScene
from wildseg3d_testing.solids import Solid

Ids = Sequence[Mapping[int, int]]
Kind = Literal["box", "ball", "cylinder", "board"]

_GREY = np.array([[120, 122, 125], [150, 152, 155]], np.float64)


class Count(NamedTuple):
    """How many ids are right.

    Attributes:
        right: objects with exactly one id.
        objects: all objects.
        merged: ids that cover two objects or more.
    """

    right: int
    objects: int
    merged: int


def count_right(ids: Ids, names: Ids) -> Count:
    """Compares found and true objects of each view's masks, by label."""
    of_object: dict[int, set[int]] = {}
    of_id: dict[int, set[int]] = {}
    for found, true in zip(ids, names, strict=True):
        for label, name in true.items():
            # A mask that lost its id counts as one of its own.
            each = found.get(label, -name)
            of_object.setdefault(name, set()).add(each)
            of_id.setdefault(each, set()).add(name)
    return Count(
        sum(len(each) == 1 for each in of_object.values()),
        len(of_object),
        sum(len(each) > 1 for each in of_id.values()),
    )


def names_of(truth: ConstructedScene) -> list[dict[int, int]]:
    """Per view the true object by label, of the true masks: each is named as it is labelled."""
    return [{int(i): int(i) for i in np.unique(labels) if i} for labels in truth.labels]


def draw_depths(
    truth: ConstructedScene,
    world: WorldPointmaps | None = None,
    poses: NDArray[np.float64] | None = None,
) -> Visibility:
    """What the views see, by default of the true points from the true poses."""
    K = np.stack([view.K for view in truth.views if view.K is not None])
    poses = truth.world_from_cam if poses is None else poses
    return Visibility.create(K, poses, world or exact_world(truth))


def seen_world(
    truth: ConstructedScene, world: WorldPointmaps | None = None
) -> tuple[WorldPointmaps, Visibility]:
    """Points, by default the true ones, and what the views see of them from the true poses."""
    world = world or exact_world(truth)
    return world, draw_depths(truth, world)


def with_errors(
    truth: ConstructedScene,
    depth: float,
    rotation: float,
    translation: float,
    seed: int | Sequence[int] = 0,
    smooth: float = 0.0,
    scale: float = 0.0,
) -> tuple[WorldPointmaps, NDArray[np.float64]]:
    """Points with noise along the rays, as seen from cameras that are a little elsewhere.

    Args:
        depth: standard deviation as a share of the depth.
        rotation, translation: of the poses, per axis [rad], [m].
        smooth: as ``depth``, of an error that changes over a quarter of the image.
        scale: as ``depth``, of one error of a whole view.
    """
    rng = np.random.default_rng(seed)
    points, poses = [], []
    for pose, exact in zip(truth.world_from_cam, truth.points, strict=True):
        slip = make_transform(
            rotation_from_vector(rng.normal(size=3) * rotation), rng.normal(size=3) * translation
        )
        ray = exact - pose[:3, 3]
        shape = (*exact.shape[:2], 1)
        factor = 1 + depth * rng.normal(size=shape)
        if smooth:
            wave = cv2.GaussianBlur(rng.normal(size=shape[:2]), (0, 0), shape[1] / 8)
            factor += smooth * (wave / wave.std())[..., None]
        if scale:
            factor += scale * rng.normal()
        noisy = pose[:3, 3] + ray * factor
        points.append(apply(slip, noisy).astype(np.float32))
        poses.append(slip @ pose)
    confidence = tuple((d > 0).astype(np.float32) for d in truth.depths)
    return WorldPointmaps(tuple(points), confidence), np.stack(poses)


def facing(
    azimuths: Sequence[float], elevation: float = 0.0, distance: float = 0.7, height: float = 0.03
) -> list[NDArray[np.float64]]:
    """(4, 4) ``world_from_cam`` of cameras that look at a point of that height on the z axis.

    Args:
        azimuths, elevation: directions of the cameras [degrees]; the first is about z from -y.
        distance, height: [m].
    """
    target, up = np.array([0.0, 0.0, height]), np.radians(elevation)
    return [
        look_at(
            target
            + distance * np.array([np.cos(up) * np.sin(a), -np.cos(up) * np.cos(a), np.sin(up)]),
            target,
        )
        for a in np.radians(azimuths)
    ]


def body(
    kind: Kind,
    centre: Sequence[float],
    half: Sequence[float] | NDArray[np.float64],
    label: int,
    yaw: float = 0.0,
) -> Solid:
    """A grey solid; a board is a box."""
    pose = make_transform(rotation_from_vector([0, 0, yaw]), centre)
    return Solid("box" if kind == "board" else kind, pose, np.array(half), _GREY, label=label)


def row_of_bodies(kind: Kind, rng: np.random.Generator, count: int = 3) -> list[Solid]:
    """Bodies side by side along x, 12 cm apart, about as large as 7 cm, a little turned."""
    bodies = []
    for k in range(count):
        half = _half_size(kind, rng)
        centre = [0.12 * (k - (count - 1) / 2), rng.uniform(-0.01, 0.01), half[2]]
        bodies.append(body(kind, centre, half, k + 1, rng.uniform(-0.3, 0.3)))
    return bodies


def rows_of_twins(
    kind: Kind, rng: np.random.Generator, gap: float = 0.003, count: int = 3
) -> list[Solid]:
    """Two rows of bodies along x, one behind the other, each body with an equal one behind it.

    Args:
        gap: between the two [m].
    """
    bodies = []
    for k in range(count):
        half = _half_size(kind, rng)
        for side in (-1, 1):
            centre = [0.12 * (k - (count - 1) / 2), side * (half[1] + gap / 2), half[2]]
            bodies.append(body(kind, centre, half, len(bodies) + 1))
    return bodies


def _half_size(kind: Kind, rng: np.random.Generator) -> NDArray[np.float64]:
    half = rng.uniform(0.025, 0.04, 3)
    if kind == "ball":
        half[:] = half[0]
    elif kind == "cylinder":
        half[1] = half[0]
    elif kind == "board":
        half[1] = 0.008
    return half
