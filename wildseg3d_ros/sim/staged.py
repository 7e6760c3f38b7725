"""What a live cell shows: things of the catalogue on a table, or a random scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import make_transform, quaternion_from_rotation
from wildseg3d_ros.sim.arm import Arm
from wildseg3d_ros.sim.arm_model import place_arm
from wildseg3d_ros.sim.cameras import Camera
from wildseg3d_ros.sim.cell import build_cell, load_mujoco
from wildseg3d_ros.sim.random_render import render_world
from wildseg3d_ros.sim.random_scene import (
    RandomScene,
    RandomSceneSpec,
    build_random_scene,
    lose_depth,
    shares_without_depth,
)
from wildseg3d_ros.sim.random_surroundings import SceneKind
from wildseg3d_ros.sim.render import CellRenderer, Frame

_HOLES, _FAINT, _CLEAR = 0.01, 0.35, 0.15
"""In random scenes: share of pixels without depth; how likely a dark or shiny thing loses some of
it; and how likely a thing is of glass, which has none."""
_GLASS = (0.85, 0.92, 0.95, 0.3)
"""Colour and opacity of a thing of glass."""
_SEED_STEP = 100_003
"""From one random scene of a cell to the next."""


class Staged(Protocol):
    """Things and cameras that can be moved and seen; of one thread, as OpenGL is.

    Attributes:
        names: of the things; label k + 1 is ``names[k]``.
        cameras: as they stand, by name.
        middle: (3,) of what is to be seen [m].
        azimuth: between which cameras can stand [rad]; 0 is the front (-y).
        behind: y of a place behind all things, where an arm can stand [m].
    """

    names: tuple[str, ...]
    cameras: dict[str, Camera]
    middle: NDArray[np.float64]
    azimuth: tuple[float, float]
    behind: float

    def pose(self, name: str) -> NDArray[np.float64]:
        """(4, 4) ``world_from_object`` of a thing."""
        ...

    def box(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(3,) centre and (3,) edges of a thing's bounding box in its own frame [m]."""
        ...

    def move_thing(self, name: str, world_from_object: NDArray[np.float64]) -> None:
        """Puts a thing elsewhere, where it stays until physics runs."""
        ...

    def settle(self) -> None:
        """Lets physics run."""
        ...

    def move_camera(self, name: str, world_from_cam: NDArray[np.float64]) -> None:
        """Puts a camera elsewhere."""
        ...

    def place_arm(self, poses: Mapping[str, NDArray[np.float64]]) -> None:
        """Puts the links of the arm at (4, 4) ``world_from_link``."""
        ...

    def frame(self, camera: str, quick: bool) -> Frame:
        """What a perfect camera sees; ``quick``: with harder shadows."""
        ...

    def sensed_depth(
        self, depth: NDArray[np.float32], labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """A depth camera's image without what dark, shiny and clear things do not give."""
        ...

    def close(self) -> None:
        """Frees what OpenGL holds."""
        ...


class CatalogueStage:
    """Household things on a table; see :class:`Staged`.

    Args:
        objects, views, seed, layout, arm: as of :func:`~wildseg3d_ros.sim.cell.build_cell`.
        more: a further camera.
        width, height, light_samples: of the pictures.
    """

    azimuth = (-np.pi, np.pi)
    behind = 0.42

    def __init__(
        self,
        objects: int,
        views: int,
        seed: int,
        layout: int,
        more: tuple[Camera, ...],
        arm: Arm | None,
        picture: tuple[int, int, int],
    ) -> None:
        width, height, samples = picture
        self._cell = build_cell(objects, views, seed, more_cameras=more, layout=layout, arm=arm)
        self._renderer = CellRenderer(self._cell, width, height, seed, samples)
        self.names = tuple(prop.name for prop in self._cell.props)
        self.cameras = {camera.name: camera for camera in self._cell.cameras}
        self.middle = np.array([0.0, 0.0, 0.05])

    def pose(self, name: str) -> NDArray[np.float64]:
        """(4, 4) ``world_from_object``."""
        return self._cell.world_from_object(self.names.index(name))

    def box(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre and edges in the thing's frame."""
        prop = self._cell.props[self.names.index(name)]
        return _box(np.concatenate([part.mesh.vertices for part in prop.parts]))

    def move_thing(self, name: str, world_from_object: NDArray[np.float64]) -> None:
        """Puts a thing elsewhere."""
        self._cell.move_object(name, world_from_object)

    def settle(self) -> None:
        """Lets physics run."""
        self._cell.settle()

    def move_camera(self, name: str, world_from_cam: NDArray[np.float64]) -> None:
        """Puts a camera elsewhere."""
        self._cell.move_camera(name, world_from_cam)
        self.cameras[name] = replace(self.cameras[name], world_from_cam=world_from_cam)

    def place_arm(self, poses: Mapping[str, NDArray[np.float64]]) -> None:
        """Puts the arm's links where they are."""
        self._cell.place_arm(poses)

    def frame(self, camera: str, quick: bool) -> Frame:
        """What a perfect camera sees."""
        return self._renderer.frame(camera, 4 if quick else 1)

    def sensed_depth(
        self, depth: NDArray[np.float32], labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """The depth that is measured of things."""
        return depth

    def close(self) -> None:
        """Frees what OpenGL holds."""
        self._renderer.close()


class RandomStage:
    """A random scene; see :class:`Staged`.

    Args:
        kind: of the scene; None leaves it to the seed.
        views, seed, layout: another layout is another scene.
        more: a further camera.
        arm: that stands in it.
        size: of the pictures.
    """

    def __init__(
        self,
        kind: SceneKind | None,
        views: int,
        seed: int,
        layout: int,
        more: tuple[Camera, ...],
        arm: Arm | None,
        size: tuple[int, int],
    ) -> None:
        seed += _SEED_STEP * layout
        # Small pictures: they only tell whether enough can be seen.
        spec = RandomSceneSpec(seed, views, 160, 120, kind, arm=arm)
        self._scene: RandomScene = build_random_scene(spec)
        self._size, around = size, self._scene.around
        self.names = tuple(self._scene.names.values())
        self.cameras = {camera.name: camera for camera in (*self._scene.cameras, *more)}
        self.kind, self.azimuth = around.kind, around.azimuth
        self.middle = np.median([pose[:3, 3] for pose in self._scene.world.poses], axis=0)
        self.behind = max(0.42, around.region.half[1] + 0.2)
        self._lost = shares_without_depth(self._scene, _HOLES, _FAINT)
        self._make_clear(np.random.default_rng([seed, 9000]))

    def _make_clear(self, rng: np.random.Generator) -> None:
        model, labels = self._scene.world.model, self._scene.world.geom_label
        for label in np.flatnonzero(rng.random(len(self.names)) < _CLEAR) + 1:
            model.geom_rgba[labels == label] = _GLASS
            self._lost[label] = 1.0

    def pose(self, name: str) -> NDArray[np.float64]:
        """(4, 4) ``world_from_object``."""
        body = self._scene.world.data.body(self._body(name))
        return make_transform(body.xmat.reshape(3, 3), body.xpos)

    def box(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre and edges in the thing's frame."""
        thing = self._scene.things[self._scene.world.kept[self.names.index(name)]]
        return _box(thing.shape.points)

    def move_thing(self, name: str, world_from_object: NDArray[np.float64]) -> None:
        """Puts a thing elsewhere."""
        world = self._scene.world
        joint = world.data.joint(world.model.body(self._body(name)).jntadr[0])
        quat = np.roll(quaternion_from_rotation(world_from_object[:3, :3]), 1)
        joint.qpos[:] = [*world_from_object[:3, 3], *quat]
        joint.qvel[:] = 0.0
        load_mujoco().mj_forward(world.model, world.data)

    def settle(self) -> None:
        """Lets physics run."""
        world, mujoco = self._scene.world, load_mujoco()
        for _ in range(25):
            mujoco.mj_step(world.model, world.data, 12)
            world.data.qvel[:] *= 0.7  # what rolls would roll for ever
        mujoco.mj_forward(world.model, world.data)

    def move_camera(self, name: str, world_from_cam: NDArray[np.float64]) -> None:
        """Puts a camera elsewhere."""
        self.cameras[name] = replace(self.cameras[name], world_from_cam=world_from_cam)

    def place_arm(self, poses: Mapping[str, NDArray[np.float64]]) -> None:
        """Puts the arm's links where they are."""
        world = self._scene.world
        place_arm(load_mujoco(), world.model, world.data, poses)

    def frame(self, camera: str, quick: bool) -> Frame:
        """What a perfect camera sees."""
        scene = self._scene
        return render_world(scene.world, [self.cameras[camera]], self._size, scene.lighting)[0]

    def sensed_depth(
        self, depth: NDArray[np.float32], labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """The depth that is measured of things."""
        return lose_depth(depth, labels, self._lost, rng)

    def close(self) -> None:
        """Its OpenGL is freed after every picture."""

    def _body(self, name: str) -> str:
        return f"thing_{self._scene.world.kept[self.names.index(name)]}"


def _box(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = points.min(axis=0), points.max(axis=0)
    return 0.5 * (low + high), high - low
