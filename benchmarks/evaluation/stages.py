"""Scenes as perfect cameras see them, with the true surfaces of their things."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.sim.cameras import Camera, bearing, look_at
from wildseg3d_ros.sim.cell import build_cell
from wildseg3d_ros.sim.posed_arm import PosedArm
from wildseg3d_ros.sim.random_scene import RandomSceneSpec, build_random_scene
from wildseg3d_ros.sim.render import Frame, render_cell
from wildseg3d_ros.sim.shapes import Mesh

Kind = Literal["catalogue", "narrow", "random"]
"""Ten things of the catalogue with cameras all around, or with neighbours 12 degrees apart; or a
random scene."""
WIDTH, HEIGHT = 320, 240
FIRST_SEED = 9000
"""Of all scenes: those from here on judge, and nothing was fitted to them."""
_LIGHT_SAMPLES = 2
_SAMPLES = 6000
"""Points per thing that its surface is known by."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Points all over a thing: (N, 3) [m], and the unit normals (N, 3)."""

    points: NDArray[np.float64]
    normals: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stage:
    """A scene before its sensors.

    Attributes:
        name: kind and seed.
        cameras: as they really stand.
        frames: what perfect cameras see.
        surfaces: by label.
        corners: (V, 3) vertices of each thing, by label.
        links: (4, 4) ``world_from_link`` of an arm's links; none where there is no arm.
    """

    name: str
    cameras: tuple[Camera, ...]
    frames: tuple[Frame, ...]
    surfaces: dict[int, Surface]
    corners: dict[int, NDArray[np.float64]]
    links: dict[str, NDArray[np.float64]]

    def intrinsics(self, index: int) -> NDArray[np.float64]:
        """(3, 3) of a camera [px]."""
        height, width = self.frames[index].depth.shape
        return self.cameras[index].intrinsics(width, height)


@lru_cache(maxsize=2)
def stage(kind: Kind, seed: int, views: int, posture: str = "") -> Stage:
    """The scene of a seed; with an arm in that posture, unless it is empty (not a random one).

    Raises:
        InputError: it cannot be rendered, or no draw of the seed comes to rest.
    """
    if kind != "random":
        arm = PosedArm(0.42, np.array([0.0, 0.0, 0.05]), False) if posture else None
        cell = build_cell(10, views, seed, arm=arm and arm.model)
        if kind == "narrow":
            row = _in_a_row(cell.cameras)
            for camera in row:
                cell.move_camera(camera.name, camera.world_from_cam)
            cell = dataclasses.replace(cell, cameras=row)
        links: dict[str, NDArray[np.float64]] = {}
        if arm is not None:
            arm.take(posture)
            links = arm.poses()
            cell.place_arm(links)
        frames = render_cell(cell, WIDTH, HEIGHT, seed, _LIGHT_SAMPLES)
        meshes = {
            k + 1: [(part.mesh, cell.world_from_object(k)) for part in prop.parts]
            for k, prop in enumerate(cell.props)
        }
        return _stage(f"{kind} {seed}", cell.cameras, frames, meshes, links)
    scene = build_random_scene(RandomSceneSpec(seed, views, WIDTH, HEIGHT))
    placed = zip(scene.world.kept, scene.world.poses, strict=True)
    meshes = {
        label: [(piece.mesh, pose) for piece in scene.things[k].shape.pieces]
        for label, (k, pose) in enumerate(placed, start=1)
    }
    return _stage(f"{kind} {seed}", scene.cameras, scene.frames, meshes, {})


def _in_a_row(cameras: Sequence[Camera]) -> tuple[Camera, ...]:
    """The cameras in an arc before the table."""
    target, middle = np.array([0.0, 0.0, 0.05]), (len(cameras) - 1) / 2
    placed = []
    for k, camera in enumerate(cameras):
        towards = bearing(np.radians(12.0) * (k - middle), np.radians(40.0))
        pose = look_at(target + 0.72 * towards, target)
        placed.append(dataclasses.replace(camera, world_from_cam=pose))
    return tuple(placed)


def _stage(
    name: str,
    cameras: Sequence[Camera],
    frames: Sequence[Frame],
    meshes: dict[int, list[tuple[Mesh, NDArray[np.float64]]]],
    links: dict[str, NDArray[np.float64]],
) -> Stage:
    rng = np.random.default_rng(0)
    triangles = {
        label: np.concatenate([apply(pose, m.vertices)[m.faces] for m, pose in parts])
        for label, parts in meshes.items()
    }
    surfaces = {label: sample_surface(each, _SAMPLES, rng) for label, each in triangles.items()}
    corners = {label: each.reshape(-1, 3) for label, each in triangles.items()}
    return Stage(name, tuple(cameras), tuple(frames), surfaces, corners, links)


def sample_surface(
    triangles: NDArray[np.float64], count: int, rng: np.random.Generator
) -> Surface:
    """Points spread evenly over triangles (T, 3, 3)."""
    edges = triangles[:, 1:] - triangles[:, :1]
    normal = np.cross(edges[:, 0], edges[:, 1])
    twice_area = np.linalg.norm(normal, axis=1)
    chosen = rng.choice(len(triangles), count, p=twice_area / twice_area.sum())
    share = np.sort(rng.random((count, 2)), axis=1)
    weights = np.stack([share[:, 0], share[:, 1] - share[:, 0], 1 - share[:, 1]], axis=1)
    points = np.einsum("ij,ijk->ik", weights, triangles[chosen])
    return Surface(points, normal[chosen] / np.maximum(twice_area[chosen, None], 1e-20))
