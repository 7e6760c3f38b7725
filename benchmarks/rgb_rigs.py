"""Plain RGB rigs with known poses, as they are handed over: is there a scene, how far off is it,
and how much of the objects does it hold?

``python -m benchmarks rgb_rigs`` builds twenty constructed rigs by ``pointmaps.backend: stereo``:
ten with cameras in a grid over a dome, ten with cameras in a row, neighbours 3 to 40 degrees apart
at the scene.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import DisconnectedViews
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.sim.cameras import bearing, look_at
from wildseg3d_testing.scenes import ConstructedScene, construct_scene

TARGET = np.array([0.0, 0.0, 0.03])
"""What the cameras look at [m]."""

NARROW = 20.0
"""Angle to a neighbour [degrees] below which a view's objects are to be covered."""

NOISE = 2.0
"""Standard deviation of a camera's noise in each channel [grey levels]."""


@dataclasses.dataclass(frozen=True)
class Rig:
    """Cameras before a constructed scene.

    Attributes:
        name: kind and number.
        poses: (4, 4) ``world_from_cam`` of each.
        seed: of the scene.
    """

    name: str
    poses: Sequence[NDArray[np.float64]]
    seed: int

    def construct(self, width: int, height: int) -> ConstructedScene:
        """The scene, its views with a camera's noise."""
        made = construct_scene(
            len(self.poses), width, height, 6, self.seed, with_depth=False, poses=self.poses
        )
        rng = np.random.default_rng(self.seed)
        views = []
        for view in made.views:
            noisy = np.rint(view.image + rng.normal(0.0, NOISE, view.image.shape))
            views.append(dataclasses.replace(view, image=np.clip(noisy, 0, 255).astype(np.uint8)))
        return dataclasses.replace(made, views=tuple(views))


def rigs() -> list[Rig]:
    """Twenty rigs, always the same."""
    domes = [_dome(number) for number in range(10)]
    return domes + [_row(number) for number in range(10)]


def _dome(number: int) -> Rig:
    """Two or three rows of two or three cameras, as a robot takes them about an object."""
    rng = np.random.default_rng([1, number])
    step = np.radians(rng.uniform(6.0, 25.0))
    rows, columns = rng.integers(2, 4, 2).tolist()
    top = np.radians(rng.uniform(60.0, 75.0))
    poses = []
    for row in range(rows):
        elevation = top - row * step
        for column in range(columns):
            # Meridians are nearer to each other further up.
            azimuth = (column - 0.5 * (columns - 1)) * step / np.cos(elevation)
            poses.append(_pose(bearing(azimuth, elevation), rng))
    return Rig(f"dome {number}", poses, number)


def _row(number: int) -> Rig:
    """Three to six cameras side by side, each gap between 3 and 40 degrees."""
    rng = np.random.default_rng([2, number])
    gaps = np.exp(rng.uniform(np.log(3.0), np.log(40.0), int(rng.integers(2, 6))))
    angles = np.radians(np.concatenate([[0.0], np.cumsum(gaps)]))
    angles -= angles.mean()
    middle, side = bearing(0.0, np.radians(42.0)), bearing(0.5 * np.pi, 0.0)
    towards = [np.cos(t) * middle + np.sin(t) * side for t in angles]
    return Rig(f"row {number}", [_pose(each, rng) for each in towards], 100 + number)


def _pose(towards: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """``world_from_cam`` of a camera in a direction, roughly 0.66 m away."""
    target = TARGET + rng.uniform(-0.01, 0.01, 3)
    return look_at(TARGET + rng.uniform(0.95, 1.05) * 0.66 * towards, target)


def nearest_angles(poses: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(N,) angle [degrees] of each camera to its nearest, at the target."""
    towards = np.stack([pose[:3, 3] - TARGET for pose in poses])
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    cosine = towards @ towards.T
    np.fill_diagonal(cosine, -1.0)
    return np.degrees(np.arccos(np.clip(cosine.max(axis=1), -1.0, 1.0)))


def figures(truth: ConstructedScene, scene: Scene) -> dict[str, float]:
    """Of a scene against the truth: relative errors of the depth where there is a point, and the
    share of objects' pixels that have one, in views with a near neighbour."""
    names = [view.name for view in truth.views]
    kept = [names.index(name) for name in scene.view_names]
    near = nearest_angles([truth.world_from_cam[v] for v in kept]) < NARROW
    errors, covered, wanted = [], 0, 0
    for place, v in enumerate(kept):
        points, there = scene.world.points[place], scene.world.valid(place)
        known = there & (truth.depths[v] > 0)
        depth = apply(invert(truth.world_from_cam[v]), points[known])[:, 2]
        errors.append(np.abs(depth / truth.depths[v][known] - 1.0))
        if near[place]:
            objects = truth.labels[v] > 0
            covered += int(np.count_nonzero(objects & there))
            wanted += int(np.count_nonzero(objects))
    every = np.concatenate(errors)
    return {
        "views": float(len(names)),
        "views_in_scene": float(len(kept)),
        "median_error": float(np.median(every)),
        "beyond_2_percent": float((every > 0.02).mean()),
        "coverage_on_objects": covered / wanted if wanted else float("nan"),
    }


def measure_rig(rig: Rig, width: int = 640, height: int = 480) -> dict[str, float]:
    """Figures of one rig; where there is no scene, of its views alone."""
    truth = rig.construct(width, height)
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
    start = time.process_time()
    try:
        scene = build_scene(truth.views, config)
    except DisconnectedViews:
        return {"views": float(len(rig.poses)), "views_in_scene": 0.0}
    spent = time.process_time() - start
    return {**figures(truth, scene), "cpu_s": spent}


def measure() -> dict:
    """All rigs, and what they come to."""
    out: dict[str, dict[str, float]] = {}
    for rig in rigs():
        out[rig.name] = measure_rig(rig)
        print(rig.name, {k: round(v, 5) for k, v in out[rig.name].items()}, file=sys.stderr)
    built = [each for each in out.values() if each["views_in_scene"]]
    covered = [each["coverage_on_objects"] for each in built]
    summary = {
        "rigs": len(out),
        "scenes": len(built),
        "views_in_scenes": sum(e["views_in_scene"] for e in built),
        "views": sum(e["views"] for e in out.values()),
        "median_error_median": float(np.median([e["median_error"] for e in built])),
        "median_error_worst": max(e["median_error"] for e in built),
        "coverage_on_objects_mean": float(np.nanmean(covered)),
        "coverage_on_objects_worst": float(np.nanmin(covered)),
    }
    return {"all": summary, **out}
