"""Random scenes with exact truth, to fit and to judge segmentation: any number, by their seed.

Nothing here is like a certain real recording. What varies: the kind of scene (table, bin, shelf),
things and how they lie, colours, light, cameras, and how well the sensors see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.sim.arm import Arm
from wildseg3d_ros.sim.cameras import Camera
from wildseg3d_ros.sim.cell import NothingAtRest
from wildseg3d_ros.sim.noise import (
    DepthNoise,
    kinematic_pose,
    sense_color,
    sense_depth,
    smooth_noise,
)
from wildseg3d_ros.sim.random_body import Shape, ShapeSource
from wildseg3d_ros.sim.random_layout import RELATIONS, Arranger
from wildseg3d_ros.sim.random_render import Lighting, random_lighting, render_world
from wildseg3d_ros.sim.random_shapes import random_shape
from wildseg3d_ros.sim.random_surroundings import (
    KINDS,
    MAKERS,
    TEXTURES,
    SceneKind,
    Surroundings,
    random_cameras,
)
from wildseg3d_ros.sim.random_textures import (
    ground_texture,
    near_color,
    paper_texture,
    random_color,
    thing_texture,
)
from wildseg3d_ros.sim.random_vessels import CAP
from wildseg3d_ros.sim.random_world import Thing, World, settle_world
from wildseg3d_ros.sim.record import STAMP_NS
from wildseg3d_ros.sim.render import Frame

MIN_OBJECTS, MAX_OBJECTS = 3, 16
_ATTEMPTS = 8
"""Draws of a seed before giving up: a draw fails when too much falls off the table."""

_RELATION_WEIGHTS = (0.8, 1.6, 0.9, 0.5, 0.6, 0.7)
"""Of each of RELATIONS, of the Dirichlet distribution that a scene's shares are drawn from: below
about 1 some scenes are nearly all piles, others all rows."""


@dataclass(frozen=True)
class RandomSceneSpec:
    """Which scene to record.

    Attributes:
        seed: the same seed gives the same recording.
        views: how many cameras.
        width, height: of the pictures [px]; a tenth of the scenes have them swapped (portrait).
        kind: "table", "bin" or "shelf"; None leaves it to the seed.
        shapes: where the things' shapes come from.
        arm: that stands in the scene, where nothing sees it before it is placed.
    """

    seed: int = 0
    views: int = 5
    width: int = 320
    height: int = 240
    kind: SceneKind | None = None
    shapes: ShapeSource = random_shape
    arm: Arm | None = None


@dataclass(frozen=True)
class Sensors:
    """How well the cameras of a scene see.

    Attributes:
        depth: the depth camera.
        rounded: whether depth is in whole millimetres.
        holes: share of the pixels that lie in holes of no cause.
        faint: probability that a thing loses depth, for it is dark or shiny.
        translation_sigma, rotation_sigma: of reported poses, per axis [m, rad].
        color: strength of the colour noise.
        exposure: standard deviation of the logarithm of the exposure between views.
        blur: standard deviation of the colour pictures' blur [px].
    """

    depth: DepthNoise
    rounded: bool
    holes: float
    faint: float
    translation_sigma: float
    rotation_sigma: float
    color: float
    exposure: float
    blur: float


@dataclass(frozen=True, eq=False)
class RandomScene:
    """A scene before its sensors.

    Attributes:
        around: what does not move.
        things: what was put there; ``world.kept`` says which stayed.
        world: at rest.
        cameras: as they really stand.
        frames: what perfect cameras see.
        lighting: that they see it in.
    """

    around: Surroundings
    things: tuple[Thing, ...]
    world: World
    cameras: tuple[Camera, ...]
    frames: tuple[Frame, ...]
    lighting: Lighting

    @property
    def names(self) -> dict[int, str]:
        """Of the things that stayed, by label: kinds of shapes."""
        kept = enumerate(self.world.kept, start=1)
        return {label: f"{self.things[k].shape.kind}_{label}" for label, k in kept}


def record_random_scene(spec: RandomSceneSpec) -> Recording:
    """The recording of a random scene, with the true labels of every view.

    Labels are 1 to the number of things that stayed on the support, also of those that no view
    shows; 0 is support and background. Names are kinds of shapes.

    Raises:
        InputError: numbers out of range, or this machine cannot render.
    """
    scene = build_random_scene(spec)
    sensors = random_sensors(np.random.default_rng([spec.seed, 4]))
    views = [
        _sensed(scene, k, sensors, np.random.default_rng([spec.seed, 5, k]))
        for k in range(len(scene.cameras))
    ]
    return Recording(tuple(views), tuple(frame.labels for frame in scene.frames), scene.names)


def write_random_recording(folder: Path, spec: RandomSceneSpec) -> Recording:
    """Records and writes a folder in the format of :mod:`wildseg3d_ros.io.folder`.

    Raises:
        InputError: as :func:`record_random_scene`. FileError: a file cannot be written.
    """
    recording = record_random_scene(spec)
    write_folder(folder, recording, depth_unit=0.0002, jpeg_quality=92)
    return recording


def build_random_scene(spec: RandomSceneSpec) -> RandomScene:
    """The scene of a seed as perfect cameras see it.

    Raises:
        InputError: as :func:`record_random_scene`.
    """
    if not 1 <= spec.views <= 64:
        raise InputError(f"views must be 1 to 64, got {spec.views}")
    if not (16 <= spec.width <= 4096 and 16 <= spec.height <= 4096):
        raise InputError(f"pictures must be 16 to 4096 pixels, got {spec.width}x{spec.height}")
    for attempt in range(_ATTEMPTS):
        scene = _attempt(spec, np.random.default_rng([spec.seed, 1, attempt]))
        if scene is not None:
            return scene
    raise NothingAtRest(f"no draw of seed {spec.seed} kept its things; try another seed")


def _attempt(spec: RandomSceneSpec, rng: np.random.Generator) -> RandomScene | None:
    kind = spec.kind or cast(SceneKind, str(rng.choice(list(KINDS), p=list(KINDS.values()))))
    shapes = _random_shapes(rng, spec.shapes)
    half = _extent(shapes, kind, rng)
    around = MAKERS[kind](half, rng)
    busy = rng.random() < 0.12
    ground = [ground_texture(rng, busy and k == 0) for k in range(TEXTURES)]
    # What many things are like: some colour, or that of what they stand on.
    main = random_color(rng)
    if rng.random() < 0.3:
        main = ground[0].mean(axis=(0, 1)).astype(np.float32)
    things = _random_things(shapes, around, main, rng)
    if len(things) < MIN_OBJECTS:
        return None
    world = settle_world(things, around, ground, spec.arm)
    if len(world.kept) < MIN_OBJECTS:
        return None
    placed = zip(world.kept, world.poses, strict=True)
    points = np.concatenate([apply(pose, things[k].shape.points) for k, pose in placed])
    cameras = random_cameras(around, spec.views, points, rng)
    size = (spec.width, spec.height) if rng.random() > 0.1 else (spec.height, spec.width)
    lighting = random_lighting(rng, front=kind == "shelf")
    frames = render_world(world, cameras, size, lighting)
    shown = [np.unique(frame.labels[frame.labels > 0]) for frame in frames]
    if len(np.unique(np.concatenate(shown))) < MIN_OBJECTS:
        return None
    return RandomScene(around, tuple(things), world, cameras, tuple(frames), lighting)


def _random_shapes(rng: np.random.Generator, source: ShapeSource) -> list[tuple[Shape, int]]:
    """Shapes and which assets each has: twins have the same."""
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    typical, twins = np.exp(rng.uniform(np.log(0.06), np.log(0.17))), rng.choice([0.0, 0.15, 0.5])
    out: list[tuple[Shape, int]] = []
    for k in range(count):
        if out and rng.random() < twins:
            out.append(out[-1])
            continue
        size = float(np.clip(typical * np.exp(rng.normal(0.0, 0.45)), 0.02, 0.3))
        out.append((source(rng, size), k))
    if rng.random() < 0.7:
        # Vessels first, or nothing would lie in them.
        out.sort(key=lambda item: not item[0].hollow)
    return out


def _extent(
    shapes: Sequence[tuple[Shape, int]], kind: SceneKind, rng: np.random.Generator
) -> tuple[float, float]:
    """Half extents of where things start: roomy or crowded, by their footprints."""
    extents = np.array([np.sort(np.ptp(shape.points, axis=0)) for shape, _ in shapes])
    area = (extents[:, 1] * extents[:, 2]).sum()
    crowding = rng.uniform(1.0, 2.2) if kind != "table" else rng.uniform(1.0, 5.0)
    aspect = rng.uniform(0.6, 1.0)
    half = 0.5 * np.sqrt(area * crowding) * np.array([1 / np.sqrt(aspect), np.sqrt(aspect)])
    low = 0.5 * extents[:, 2].max() + 0.02 if kind != "table" else 0.1
    x, y = np.clip(half, low, 0.45)
    return float(x), float(y)


def _random_things(
    shapes: Sequence[tuple[Shape, int]],
    around: Surroundings,
    main: NDArray[np.float32],
    rng: np.random.Generator,
) -> list[Thing]:
    """Colours and places; what has no place is left out."""
    weights = rng.dirichlet(_RELATION_WEIGHTS)
    if around.kind == "shelf":
        weights[RELATIONS.index("pile")] *= 0.2
    arranger = Arranger(around.region, rng, weights / weights.sum())
    alike = rng.choice([0.0, 0.3, 0.9], p=[0.6, 0.25, 0.15])
    looks: dict[int, tuple[tuple[NDArray[np.uint8], ...], float]] = {}
    things = []
    for shape, assets in shapes:
        pose = arranger.put(shape)
        if pose is None:
            continue
        if assets not in looks:
            color = near_color(main, rng) if rng.random() < alike else random_color(rng)
            gloss = float(rng.choice([0.02, 0.15, 0.4, 0.9], p=[0.3, 0.4, 0.2, 0.1]))
            looks[assets] = _textures(shape, color, rng), gloss
        textures, gloss = looks[assets]
        things.append(Thing(shape, textures, gloss, pose, f"asset_{assets}"))
    return things


def _textures(shape: Shape, color: NDArray[np.float32], rng: np.random.Generator):
    textures = []
    for k, piece in enumerate(shape.pieces):
        if shape.kind == "book" and k == 1:
            textures.append(paper_texture(rng))
            continue
        own = color if k == 0 or rng.random() < 0.5 else random_color(rng)
        texture = thing_texture(piece.layout, own, rng)
        if shape.kind == "bottle" and rng.random() < 0.6:
            texture[: round(CAP * len(texture))] = random_color(rng)
        textures.append(texture)
    return tuple(textures)


# ---- sensors ---------------------------------------------------------------------------------


def random_sensors(rng: np.random.Generator) -> Sensors:
    """Sensors from nearly perfect to poor."""
    factor, baseline = rng.uniform(0.3, 1.8), rng.uniform(0.012, 0.06)
    # With the same error of the depth, a shorter baseline hides less from the second eye.
    pixel = baseline / 0.055
    depth = DepthNoise(
        baseline=baseline,
        disparity_sigma=0.09 * factor * pixel,
        correlation=rng.uniform(0.6, 1.8),
        disparity_step=rng.choice([1 / 8, 1 / 16, 1 / 32]) * pixel,
        edge_drag=rng.uniform(0.1, 0.9),
        flying=rng.uniform(0.0, 0.35),
        grazing=rng.uniform(1.25, 1.5),
    )
    exact = rng.random() < 0.15
    return Sensors(
        depth,
        rounded=bool(rng.random() < 0.5),
        holes=float(rng.choice([0.0, rng.uniform(0.0, 0.06)])),
        faint=float(rng.choice([0.0, 0.1, 0.35], p=[0.5, 0.35, 0.15])),
        translation_sigma=0.0 if exact else float(rng.uniform(0.0, 0.004)),
        rotation_sigma=0.0 if exact else float(np.radians(rng.uniform(0.0, 0.3))),
        color=float(rng.uniform(0.2, 2.0)),
        exposure=float(rng.choice([0.0, 0.08, 0.2])),
        blur=float(rng.choice([0.0, rng.uniform(0.3, 1.0)])),
    )


def _sensed(scene: RandomScene, index: int, sensors: Sensors, rng: np.random.Generator) -> View:
    camera, frame = scene.cameras[index], scene.frames[index]
    height, width = frame.depth.shape
    K = camera.intrinsics(width, height)
    depth = sense_depth(frame.depth, K, rng, sensors.depth)
    lost = shares_without_depth(scene, sensors.holes, sensors.faint)
    depth = lose_depth(depth, frame.labels, lost, rng)
    if sensors.rounded:
        depth = np.round(depth, 3)
    pose = kinematic_pose(
        camera.world_from_cam, rng, sensors.translation_sigma, sensors.rotation_sigma
    )
    light = frame.color * np.float32(np.exp(rng.normal(0.0, sensors.exposure)))
    if sensors.blur > 0:
        light = cv2.GaussianBlur(light, (0, 0), sensors.blur)
    image = sense_color(light.astype(np.float32), rng, sensors.color)
    name = f"{camera.name}_optical_frame"
    return View(camera.name, image, K, depth.astype(np.float32), pose, STAMP_NS, name)


def shares_without_depth(scene: RandomScene, holes: float, faint: float) -> NDArray[np.float64]:
    """(L + 1,) share of the pixels of each label that has no depth: everywhere that of ``holes``,
    and more of some things that are too dark or too shiny (``faint``: how likely that is)."""
    share = np.full(len(scene.world.kept) + 1, holes)
    for label, k in enumerate(scene.world.kept):
        thing = scene.things[k]
        dark = max(float(texture.mean()) for texture in thing.textures) < 40
        # The same things are faint in all views: drawn by their looks, not by the view.
        draw = np.random.default_rng([k, int(thing.textures[0].sum())])
        if draw.random() < faint * (2.0 if dark or thing.gloss > 0.5 else 0.5):
            share[label + 1] = draw.uniform(0.1, 0.9)
    return share


def lose_depth(
    depth: NDArray[np.float32],
    labels: NDArray[np.uint8],
    share: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The depth (H, W) without that share (L + 1,) of each label's pixels, in patches."""
    if not share.any():
        return depth
    patches = smooth_noise(rng, depth.shape, rng.uniform(1.0, 4.0))
    return np.where(patches > ndtri(1.0 - share)[labels], np.float32(0.0), depth)
