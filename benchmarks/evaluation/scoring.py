"""Answers of a scene against the truth of its stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from benchmarks.clicks import BEST, GOOD_IOU, Source, choose_clicks, score_click
from benchmarks.evaluation.stages import Stage, Surface
from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import ObjectCloud, View
from wildseg3d_ros.evaluation import Truth
from wildseg3d_ros.grasping.boxes import fit_box
from wildseg3d_ros.scene.scene import Scene

NEAR = 0.005
"""A true point is covered by an answer's point within this [m]."""
MOST_POINTS = 4000
"""Of a cloud that are compared."""


@dataclasses.dataclass(frozen=True)
class CloudScore:
    """An answer's cloud against the true surface of the clicked thing.

    Attributes:
        accuracy, accuracy_90: median and 90th percentile of the points' distance to it [m].
        completeness: share of the surface that cameras see which has a point within ``NEAR``.
    """

    accuracy: float
    accuracy_90: float
    completeness: float


def truth_of(stage: Stage, views: Sequence[View], cameras: Sequence[int]) -> Truth:
    """Labels of the views; pixels of views without depth count as measured."""
    pairs = list(zip(views, cameras, strict=True))
    labels = {view.name: stage.frames[index].labels for view, index in pairs}
    measured = {
        view.name: labels[view.name] >= 0 if view.depth is None else view.depth > 0
        for view, _ in pairs
    }
    return Truth(labels, measured)


def score(
    stage: Stage,
    views: Sequence[View],
    cameras: Sequence[int],
    scene: Scene | WildSeg3DError,
) -> dict[str, Any]:
    """A row per thing, and what is said of the build; a failed build answers nothing.

    Views that the build left out are counted, and neither clicked nor compared.
    """
    true_from_scene = np.eye(4)
    out: dict[str, Any] = {"error": "", "objects": [], "left_out": 0}
    if isinstance(scene, Scene):
        kept = [k for k, view in enumerate(views) if view.name in scene.view_names]
        out["left_out"] = len(views) - len(kept)
        views, cameras = [views[k] for k in kept], [cameras[k] for k in kept]
    truth = truth_of(stage, views, cameras)
    if isinstance(scene, WildSeg3DError):
        out["error"] = str(scene)
    else:
        true_from_scene = rigid_error(stage, cameras, scene)
        out["verdicts"] = {c.name: c.verdict for c in scene.alignment.cameras}
        out["seconds"] = dict(scene.seconds)
    out["world_off"] = float(np.linalg.norm(true_from_scene[:3, 3]))
    rows: dict[int, dict[str, Any]] = {}
    for chosen in choose_clicks(truth, 0):
        label, kind, _ = chosen
        record, cloud = score_click(Source("", stage.name), scene, truth, chosen, str(label))
        row = rows.setdefault(label, {"label": label, "clicks": [], "best": None})
        row["clicks"].append(record.iou)
        if kind == BEST:
            row["best"] = {"iou": record.iou, "score": record.score}
            if cloud is not None and len(cloud):
                row["best"] |= _geometry(stage, cameras, label, cloud, true_from_scene)
    out["objects"] = list(rows.values())
    return out


def _geometry(
    stage: Stage,
    cameras: Sequence[int],
    label: int,
    cloud: ObjectCloud,
    true_from_scene: NDArray[np.float64],
) -> dict[str, Any]:
    """Cloud and box of an answer; as they are, and after the rigid error of the whole scene."""
    surface, seen = stage.surfaces[label], seen_points(stage, cameras, label)
    step = max(1, len(cloud) // MOST_POINTS)
    points = np.asarray(cloud.points[::step], np.float64)
    moved = apply(true_from_scene, points)
    box = fit_box(apply(true_from_scene, cloud.points).astype(np.float32), [0, 0, 1.0])
    true = fit_box(stage.corners[label].astype(np.float32), [0, 0, 1.0])
    centre = np.linalg.norm(box.frame_from_box[:3, 3] - true.frame_from_box[:3, 3])
    return {
        "cloud": dataclasses.asdict(score_cloud(moved, surface, seen)),
        "cloud_as_given": dataclasses.asdict(score_cloud(points, surface, seen)),
        "box_centre": float(centre),
        "box_size": float(np.abs(np.sort(box.size) - np.sort(true.size)).max()),
    }


def score_cloud(
    points: NDArray[np.float64], surface: Surface, seen: NDArray[np.float64]
) -> CloudScore:
    """A cloud (M, 3) against a surface and its points that cameras see (N, 3)."""
    distance = distance_to_surface(points, surface)
    covered, _ = KDTree(points).query(seen, distance_upper_bound=NEAR)
    median, high = np.quantile(distance, [0.5, 0.9]).tolist()
    return CloudScore(median, high, float(np.isfinite(covered).mean()))


def distance_to_surface(points: NDArray[np.float64], surface: Surface) -> NDArray[np.float64]:
    """(M,) from points to a surface: beside its nearest sample, to the plane through that."""
    found, index = KDTree(surface.points).query(points, k=3)
    offset = points[:, None] - surface.points[index]
    across = np.abs((offset * surface.normals[index]).sum(axis=2))
    along = np.sqrt(np.maximum(found**2 - across**2, 0.0))
    # What lies beside the samples by more than their spacing is not over the surface.
    beyond = np.maximum(along - 2 * _spacing(surface), 0.0)
    return np.hypot(across, beyond).min(axis=1)


def _spacing(surface: Surface) -> float:
    nearest, _ = KDTree(surface.points).query(surface.points[::10], k=2)
    return float(np.quantile(nearest[:, 1], 0.95))


def seen_points(stage: Stage, cameras: Sequence[int], label: int) -> NDArray[np.float64]:
    """(N, 3) true points of the pixels that show a thing."""
    found = []
    for index in cameras:
        frame = stage.frames[index]
        local = back_project(frame.depth, stage.intrinsics(index))[frame.labels == label]
        found.append(apply(stage.cameras[index].world_from_cam, local))
    points = np.concatenate(found)
    return points[:: max(1, len(points) // MOST_POINTS)]


def rigid_error(stage: Stage, cameras: Sequence[int], scene: Scene) -> NDArray[np.float64]:
    """(4, 4) ``true_from_scene``: by how much the whole scene is off, in its world.

    Where the given poses of all cameras are off, so is their mean, and nothing that the cameras
    see can tell. Pixels are points of both worlds; the robust best rigid motion is between them.
    """
    names = {stage.cameras[index].name: index for index in cameras}
    found, true = [], []
    for v, name in enumerate(scene.view_names):
        frame = stage.frames[names[name]]
        chosen = scene.world.valid(v) & (frame.depth > 0)
        local = back_project(frame.depth, stage.intrinsics(names[name]))[chosen][::7]
        found.append(np.asarray(scene.world.points[v][chosen][::7], np.float64))
        true.append(apply(stage.cameras[names[name]].world_from_cam, local))
    source, target = np.concatenate(found), np.concatenate(true)
    weights = np.ones(len(source))
    motion = np.eye(4)
    for _ in range(5):
        _, motion = umeyama(source, target, weights, with_scale=False)
        off = np.linalg.norm(apply(motion, source) - target, axis=1)
        weights = (off < 3.0 * np.median(off)).astype(np.float64)
    return motion


def summarise(cases: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Figures of several builds; a thing that was not answered has no cloud, and IoU 0."""
    rows = [row for case in cases for row in case["objects"]]
    best = [row["best"] for row in rows if row["best"] is not None]
    clicks = np.array([iou for row in rows for iou in row["clicks"]])
    clouds = [each for each in best if "cloud" in each]
    return {
        "builds": len(cases),
        "builds_failed": sum(bool(case["error"]) for case in cases),
        "views_left_out": sum(case["left_out"] for case in cases),
        "objects": len(best),
        "clicks": len(clicks),
        "miou": _mean([each["iou"] for each in best]),
        "clicks_right": _mean(clicks >= GOOD_IOU),
        "accuracy": _median([each["cloud"]["accuracy"] for each in clouds]),
        "accuracy_90": _median([each["cloud"]["accuracy_90"] for each in clouds]),
        "accuracy_as_given": _median([each["cloud_as_given"]["accuracy"] for each in clouds]),
        "completeness": _mean([each["cloud"]["completeness"] for each in clouds]),
        "box_centre": _median([each["box_centre"] for each in clouds]),
        "box_size": _median([each["box_size"] for each in clouds]),
    }


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _median(values: Any) -> float | None:
    return float(np.median(values)) if len(values) else None
