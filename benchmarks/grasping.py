"""Normals, boxes and the time of each part of a reply, on a constructed scene with known shapes.

The points are those of noisy depth cameras in known poses; no alignment and no masks are made, so
that errors are those of the parts alone. The baseline of the normals is a plain least-squares
plane through the 30 nearest points, as point cloud libraries fit it by default.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.planes import fit_planes
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import ConstructedScene, construct_scene
from wildseg3d_testing.solids import Solid

_NEIGHBOURS = 30
_STEP = 1e-5


def main() -> dict:
    """Median errors over all objects, and milliseconds of processor time by part."""
    truth = construct_scene(views=6, width=640, height=480, objects=8, depth_noise=DepthNoise())
    graspable = GraspableScene(exact_scene(truth, world=_measured(truth)))
    ours, plain, sizes, centres, counts = [], [], [], [], []
    parts: dict[str, list[float]] = {}

    def timed(part: str, call: Callable) -> Any:
        start = time.process_time()
        found = call()
        parts.setdefault(part, []).append(1e3 * (time.process_time() - start))
        return found

    timed("visibility", lambda: graspable.visibility)
    for solid in (each for each in truth.solids if each.label):
        ids = (solid.label,)
        surface = timed("surface", partial(graspable.surface, ids))
        true = _normals(solid, surface.points)
        ours.append(_degrees(timed("normals", partial(graspable.normals, ids)), true))
        fitted = timed("normals_baseline", partial(_plain, surface.points, surface.toward))
        plain.append(_degrees(fitted, true))
        box = timed("box", partial(graspable.box, ids))
        timed("context", partial(graspable.context, ids))
        timed("surroundings", partial(graspable.surroundings, ids))
        counts.append(len(surface.points))
        if solid.kind == "box":
            off = np.abs(np.sort(box.size) - np.sort(2 * solid.half))
            sizes.append(1e3 * off.max())
            offset = box.frame_from_box[:3, 3] - solid.world_from_solid[:3, 3]
            centres.append(1e3 * np.linalg.norm(offset))
    every, baseline = np.concatenate(ours), np.concatenate(plain)
    return {
        "objects": len(counts),
        "points_of_an_object": float(np.median(counts)),
        "normals": {
            "median_degrees": float(np.median(every)),
            "p90_degrees": float(np.percentile(every, 90)),
            "baseline": f"plane through the {_NEIGHBOURS} nearest points",
            "baseline_median_degrees": float(np.median(baseline)),
            "baseline_p90_degrees": float(np.percentile(baseline, 90)),
        },
        "boxes_of_boxes": {
            "size_off_mm_worst": float(max(sizes)),
            "centre_off_mm_worst": float(max(centres)),
        },
        "processor_ms": {part: float(np.median(each)) for part, each in parts.items()},
    }


def _measured(truth: ConstructedScene) -> WorldPointmaps:
    points, confidence = [], []
    for view, pose in zip(truth.views, truth.world_from_cam, strict=True):
        assert view.depth is not None
        assert view.K is not None
        known = view.depth > 0
        world = apply(pose, back_project(view.depth, view.K))
        points.append(np.where(known[..., None], world, np.nan).astype(np.float32))
        confidence.append(known.astype(np.float32))
    return WorldPointmaps(tuple(points), tuple(confidence))


def _plain(points: NDArray, toward: NDArray) -> NDArray[np.float64]:
    near = KDTree(points).query(points, k=_NEIGHBOURS)[1]
    normals, _, _ = fit_planes(points[near])
    return normals * np.sign((normals * toward).sum(axis=1, keepdims=True))


def _normals(solid: Solid, points: NDArray) -> NDArray[np.float64]:
    """Of the surface that is nearest to the points: the gradient of the distance to it."""
    gradient = np.stack(
        [
            solid.distance(points + _STEP * axis) - solid.distance(points - _STEP * axis)
            for axis in np.eye(3)
        ],
        axis=1,
    )
    return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)


def _degrees(found: NDArray, true: NDArray) -> NDArray[np.float64]:
    return np.degrees(np.arccos(np.clip((found * true).sum(axis=1), -1, 1)))
