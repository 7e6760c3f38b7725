"""Pictures of the cell: soft light, exact metric depth, labels."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.sim.cell import COLLISION_GROUP, WAY_OUT, Cell, load_mujoco

_OVERSAMPLE = 2
"""Rendered pixels per pixel of a colour picture, along each axis."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What a perfect camera sees.

    Attributes:
        color: (H, W, 3) float32 display values in [0, 1].
        depth: (H, W) float32 metres along the optical axis.
        labels: (H, W) uint8, 0 = support and background, k + 1 = object k.
    """

    color: NDArray[np.float32]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]


def light_directions(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(samples, 3) directions that light travels in: half from a sky, half from two ceiling lamps.

    One shadow per direction, averaged, gives the soft shadows of large lamps and the darkening in
    corners that a single lamp lacks.
    """
    sky = max(1, samples // 2)
    k = np.arange(sky) + 0.5
    cosine = np.sqrt(1.0 - 0.88 * k / sky)
    azimuth = np.pi * (1 + 5**0.5) * k + rng.uniform(0, 2 * np.pi)
    sine = np.sqrt(1 - cosine**2)
    from_sky = np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=1)
    lamps = np.array([[-0.55, -0.35, 1.0], [0.5, 0.1, 1.0]])
    which = (np.arange(samples - sky) % 3 == 2).astype(int)
    offset = np.zeros((len(which), 3))
    offset[:, :2] = rng.uniform(-0.14, 0.14, (len(which), 2))
    directions = -np.concatenate([from_sky, lamps[which] + offset])
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def to_display(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Display values of linear light: a soft shoulder near white, then the sRGB curve."""
    knee = 0.75
    over = np.maximum(linear - knee, 0.0)
    shown = np.minimum(linear, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    return np.where(
        shown <= 0.0031308, 12.92 * shown, 1.055 * np.maximum(shown, 1e-6) ** (1 / 2.4) - 0.055
    ).astype(np.float32)


def render_cell(
    cell: Cell,
    width: int,
    height: int,
    seed: int,
    samples: int = 48,
    progress: Progress | None = None,
) -> list[Frame]:
    """Renders all cameras of the cell in pictures of ``width`` by ``height`` pixels.

    Args:
        seed: of the light.
        samples: passes of light per picture; more is smoother and slower.
        progress: told of the stage "render".

    Raises:
        InputError: this machine cannot render.
    """
    progress = progress or Progress()
    frames = []
    with progress.stage("render"), CellRenderer(cell, width, height, seed, samples) as renderer:
        for k, camera in enumerate(cell.cameras):
            frames.append(renderer.frame(camera.name))
            progress.update((k + 1) / len(cell.cameras))
    return frames


class CellRenderer:
    """Renders a cell's cameras one by one, as it is at the time; of one thread, as OpenGL is.

    Args:
        cell, width, height, seed, samples: as of :func:`render_cell`.

    Raises:
        InputError: this machine cannot render.
    """

    def __init__(self, cell: Cell, width: int, height: int, seed: int, samples: int = 48) -> None:
        mujoco = load_mujoco()
        self._cell = cell
        self._directions = light_directions(samples, np.random.default_rng([seed, 4000]))
        self._visible = mujoco.MjvOption()
        self._visible.geomgroup[:] = 1
        self._visible.geomgroup[COLLISION_GROUP] = 0
        model, finer = cell.model, (_OVERSAMPLE * height, _OVERSAMPLE * width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, finer[0])
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, finer[1])
        # Depth and labels of one surface per pixel: no multisampling, no oversampling.
        model.vis.quality.offsamples = 0
        self._exact = _renderer(mujoco, model, height, width)
        model.vis.quality.offsamples = 4
        self._light = _renderer(mujoco, model, *finer)

    def __enter__(self) -> CellRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees what OpenGL holds."""
        self._exact.close()
        self._light.close()

    def frame(self, camera: str, every: int = 1) -> Frame:
        """What a perfect camera sees, by its name in the cell's model.

        Args:
            every: so-manieth pass of light is used alone: quicker, with harder shadows.
        """
        depth, labels = _truth(self._exact, self._cell, camera, self._visible)
        self._light.update_scene(self._cell.data, camera, self._visible)
        light = _light(self._light, self._directions[::every])
        height, width = depth.shape
        shape = (height, _OVERSAMPLE, width, _OVERSAMPLE, 3)
        return Frame(to_display(1.45 * light.reshape(shape).mean(axis=(1, 3))), depth, labels)


def _renderer(mujoco, model, height: int, width: int):
    try:
        return mujoco.Renderer(model, height, width)
    # What is raised depends on where OpenGL gives up.
    except (mujoco.FatalError, ImportError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"cannot render without a display (MUJOCO_GL={os.environ.get('MUJOCO_GL')}; it counts "
            f"when mujoco is imported first): {error}; {WAY_OUT}"
        ) from error


def _light(renderer, directions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Linear light of the scene: the mean over directions, and a little from everywhere."""
    light = renderer.scene.lights[0]
    total = np.zeros((renderer.height, renderer.width, 3), dtype=np.float32)
    for direction in directions:
        light.dir[:] = direction
        light.pos[:] = -2.0 * direction
        light.diffuse[:], light.specular[:], light.ambient[:] = 1.0, 0.6, 0.0
        total += renderer.render()
    light.diffuse[:], light.specular[:], light.ambient[:] = 0.0, 0.0, 1.0
    # What table and walls throw back, a little warm.
    bounce = np.array([0.075, 0.066, 0.058], dtype=np.float32)
    return (total / len(directions) + bounce * renderer.render()) / 255.0


def _truth(renderer, cell: Cell, camera: str, visible) -> tuple[NDArray, NDArray]:
    """Depth and labels as :class:`Frame` has them."""
    renderer.update_scene(cell.data, camera, visible)
    renderer.enable_depth_rendering()
    depth = renderer.render()
    renderer.disable_depth_rendering()
    renderer.enable_segmentation_rendering()
    geom = renderer.render()[..., 0]
    renderer.disable_segmentation_rendering()
    labels = np.where(geom >= 0, cell.geom_label[np.maximum(geom, 0)], 0).astype(np.uint8)
    depth = np.where(geom >= 0, depth, 0.0).astype(np.float32)
    return depth, labels
