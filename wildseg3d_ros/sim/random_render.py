"""Quick pictures of random scenes: few passes of light, exact depth and labels."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.sim.cameras import Camera
from wildseg3d_ros.sim.cell import COLLISION_GROUP, WAY_OUT, load_mujoco
from wildseg3d_ros.sim.random_world import REMOVED_GROUP, World
from wildseg3d_ros.sim.render import Frame, to_display

_contexts = threading.local()
"""The OpenGL context of each thread: its compiled shaders serve all scenes, and making one takes
longer than a picture."""


@dataclass(frozen=True, eq=False)
class Lighting:
    """Light of a scene, in passes that are averaged.

    Attributes:
        directions: (L, 3) that the light of each pass travels in; it casts shadows.
        colors: (L, 3) of each.
        sky: (3,) direction of light without shadows.
        sky_color, ambient: (3,) of that, and of the light that comes from everywhere.
        background: (3,) light where nothing is.
        exposure: mean of the pictures' linear values that the cameras aim at.
    """

    directions: NDArray[np.float64]
    colors: NDArray[np.float64]
    sky: NDArray[np.float64]
    sky_color: NDArray[np.float64]
    ambient: NDArray[np.float64]
    background: NDArray[np.float32]
    exposure: float


def random_lighting(rng: np.random.Generator, front: bool) -> Lighting:
    """One to three lamps, some large, some small, in two to four passes.

    ``front``: they shine from the front (-y), for what is closed elsewhere.
    """
    lamps, passes = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    angle, slope = rng.uniform(-np.pi, np.pi, lamps), rng.uniform(0.1, 1.1, lamps)
    towards = np.stack([slope * np.cos(angle), slope * np.sin(angle), np.ones(lamps)], axis=1)
    if front:
        towards += [0.0, -1.2, 0.0]
    power = rng.uniform(0.4, 1.0, lamps)
    which = np.arange(passes) % lamps
    spread = rng.choice([0.02, 0.1, 0.35])
    directions = -towards[which] + rng.normal(0.0, spread, (passes, 3)) * [1, 1, 0]
    tint = 1.0 + rng.uniform(-0.12, 0.12, (lamps, 3))
    share = rng.uniform(0.25, 0.75)
    total = rng.uniform(0.8, 1.2)
    sky = np.array([*rng.normal(0.0, 0.4, 2), -1.0]) + [0.0, 1.0 * front, 0.0]
    return Lighting(
        directions / np.linalg.norm(directions, axis=1, keepdims=True),
        total * share * (power[:, None] * tint)[which] / power[which].mean(),
        sky / np.linalg.norm(sky),
        np.full(3, 0.6 * total * (1 - share)),
        total * (1 - share) * 0.5 * (1.0 + rng.uniform(-0.1, 0.1, 3)),
        (rng.uniform(0.0, 0.6) * rng.uniform(0.7, 1.0, 3)).astype(np.float32),
        rng.uniform(0.12, 0.3),
    )


def render_world(
    world: World, cameras: Sequence[Camera], size: tuple[int, int], lighting: Lighting
) -> list[Frame]:
    """What perfect cameras see, in pictures of ``size`` (width, height) pixels.

    The passes are moved against each other by fractions of a pixel: what smooths the light smooths
    borders too. Depth and labels are those of pixel centres.

    Raises:
        InputError: this machine cannot render.
    """
    mujoco = load_mujoco()
    _make_current(mujoco)
    model = world.model
    model.vis.global_.offwidth, model.vis.global_.offheight = size
    context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    try:
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        studio = _Studio(mujoco, world, context, size)
        seen = [studio.frame(camera, lighting) for camera in cameras]
    finally:
        context.free()
    gain = _exposure(np.concatenate([light.ravel() for light, _, _ in seen]), lighting.exposure)
    return [Frame(to_display(gain * light), depth, labels) for light, depth, labels in seen]


def _exposure(light: NDArray[np.float32], target: float) -> np.float32:
    """Gain that brings the mean near ``target``, as cameras do by themselves, within limits."""
    return np.float32(np.clip(target / max(float(light.mean()), 1e-6), 0.4, 4.0))


def _make_current(mujoco) -> None:
    context = getattr(_contexts, "context", None)
    try:
        if context is None:
            context = _contexts.context = mujoco.GLContext(64, 64)
        context.make_current()
    # What is raised depends on where OpenGL gives up.
    except (mujoco.FatalError, ImportError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"cannot render without a display (MUJOCO_GL={os.environ.get('MUJOCO_GL')}; it counts "
            f"when mujoco is imported first): {error}; {WAY_OUT}"
        ) from error


class _Studio:
    """Draws one world."""

    def __init__(self, mujoco, world: World, context: Any, size: tuple[int, int]) -> None:
        self.mujoco, self.world, self.context = mujoco, world, context
        self.width, self.height = size
        self.area = mujoco.MjrRect(0, 0, *size)
        self.scene = mujoco.MjvScene(world.model, world.model.ngeom + 10)
        visible = mujoco.MjvOption()
        visible.geomgroup[[COLLISION_GROUP, REMOVED_GROUP]] = 0
        every, free = mujoco.mjtCatBit.mjCAT_ALL, mujoco.MjvCamera()
        mujoco.mjv_updateScene(world.model, world.data, visible, None, free, every, self.scene)

    def frame(self, camera: Camera, lighting: Lighting) -> tuple[NDArray, NDArray, NDArray]:
        """Linear light, depth and labels."""
        self._aim(camera)
        depth, labels, seen = self._truth()
        light = self._light(camera, lighting)
        light[~seen] = lighting.background
        return light, depth, labels

    def _read(self, depth: NDArray | None) -> NDArray[np.uint8]:
        out = np.empty((self.height, self.width, 3), dtype=np.uint8)
        self.mujoco.mjr_render(self.area, self.scene, self.context)
        self.mujoco.mjr_readPixels(out, depth, self.area, self.context)
        return out[::-1]

    def _truth(self) -> tuple[NDArray, NDArray, NDArray]:
        """(H, W) depth, labels, and whether anything is there."""
        flag = self.mujoco.mjtRndFlag
        modes = [int(flag.mjRND_SEGMENT), int(flag.mjRND_IDCOLOR)]
        self.scene.flags[modes] = 1
        buffer = np.empty((self.height, self.width), dtype=np.float32)
        code = self._read(buffer).astype(np.int32)
        self.scene.flags[modes] = 0
        segment = code[..., 0] + (code[..., 1] << 8) + (code[..., 2] << 16)
        label_of = np.zeros(self.scene.ngeom + 1, dtype=np.uint8)
        for geom in self.scene.geoms[: self.scene.ngeom]:
            label_of[geom.segid + 1] = self.world.geom_label[geom.objid]
        visual = self.world.model.vis.map
        near, far = float(visual.znear), float(visual.zfar)
        inverse = buffer[::-1].astype(np.float64) * (far - near) + near
        seen = segment > 0
        depth = np.where(seen, near * far / inverse, 0.0).astype(np.float32)
        return depth, label_of[segment], seen

    def _light(self, camera: Camera, lighting: Lighting) -> NDArray[np.float32]:
        """(H, W, 3) linear light, the mean of the passes."""
        lamp, sky = self.scene.lights[0], self.scene.lights[1]
        sky.dir[:], sky.diffuse[:] = lighting.sky, lighting.sky_color
        sky.ambient[:], sky.specular[:] = 0.0, 0.0
        total = np.zeros((self.height, self.width, 3), dtype=np.float32)
        count = len(lighting.directions)
        for k, (direction, color) in enumerate(
            zip(lighting.directions, lighting.colors, strict=True)
        ):
            lamp.dir[:], lamp.pos[:] = direction, -2.0 * direction
            lamp.diffuse[:], lamp.specular[:] = color, color
            lamp.ambient[:] = lighting.ambient
            self._aim(camera, ((k + 0.5) / count - 0.5, (0.618 * k + 0.25) % 1.0 - 0.5))
            total += self._read(None)
        return total / (255.0 * count)

    def _aim(self, camera: Camera, shift: tuple[float, float] = (0.0, 0.0)) -> None:
        """Looks through a camera, with the picture moved by fractions of a pixel."""
        visual = self.world.model.vis.map
        top = float(visual.znear) * np.tan(camera.fovy / 2)
        u, v = (2 * top / self.height * s for s in shift)
        rotation = camera.world_from_cam[:3, :3]
        for eye in self.scene.camera:
            eye.pos[:] = camera.world_from_cam[:3, 3]
            eye.forward[:], eye.up[:] = rotation[:, 2], -rotation[:, 1]
            eye.frustum_near, eye.frustum_far = visual.znear, visual.zfar
            eye.frustum_center, eye.frustum_width = u, top * self.width / self.height
            eye.frustum_bottom, eye.frustum_top = v - top, v + top
