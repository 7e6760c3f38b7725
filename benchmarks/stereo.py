"""Triangulated pointmaps: accuracy by angle and by error of the poses, agreement on real frames.

``python -m benchmarks stereo`` measures; ``python -m benchmarks.stereo PICTURE.png`` draws the
fused cloud of the real temple from three sides.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from benchmarks.recordings import REAL_DATA
from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, PairPrediction, View
from wildseg3d_ros.evaluation import peak_memory_mb
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.pointmaps import load_pointmaps
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA
from wildseg3d_ros.pointmaps.stereo.backend import StereoPointmaps
from wildseg3d_ros.sim.noise import kinematic_pose
from wildseg3d_testing.scenes import ConstructedScene, construct_scene, fan_poses

ANGLES = (6.0, 10.0, 15.0, 20.0, 25.0, 30.0)
POSE_ERRORS = ((0.0, 0.0), (1.0, 0.05), (2.0, 0.1), (5.0, 0.25))
"""Standard deviations per axis of the given poses: mm and degrees."""

SAME_SURFACE = 0.005
"""Points further from the other cloud than this [m] show what that one does not. Where two pairs
are confident of a pixel and put it further apart, one of them is wrong."""

CONFIDENT = 10.0
"""Confidence of the points that are compared: an expected error of 1 mm."""

NOISE = 2.0
"""Standard deviation of a camera's noise in each channel [grey levels]."""

DARK = 25
"""Grey level below which the temple's images show its black background."""


def object_errors(truth: ConstructedScene, pair: PairPrediction) -> tuple[NDArray, float]:
    """Relative errors of the depth at an object's pixels, of both views, and the share of these
    pixels that have a point."""
    errors, covered = [], []
    for v, points, confidence in (
        (pair.a, pair.pointmap_a, pair.confidence_a),
        (pair.b, pair.pointmap_b, pair.confidence_b),
    ):
        wanted = truth.labels[v] > 0
        there = wanted & (confidence > 0)
        errors.append(np.abs(points[there][:, 2] / truth.depths[v][there] - 1.0))
        covered.append(np.count_nonzero(there) / np.count_nonzero(wanted))
    return np.concatenate(errors), float(np.mean(covered))


def surface_distances(
    points: NDArray[np.float32], surface: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Distances [m] of points (M, 3) to the planes through the 8 nearest points of another cloud,
    of those points that have any of that cloud within SAME_SURFACE."""
    tree = KDTree(surface)
    nearest, index = tree.query(points, k=8)
    near = np.asarray(nearest)[:, 0] < SAME_SURFACE
    patch = surface[np.asarray(index)[near]].astype(np.float64)
    middle = patch.mean(axis=1)
    normal = np.linalg.svd(patch - middle[:, None])[2][:, 2]
    return np.abs(((points[near] - middle) * normal).sum(axis=1))


def pair_clouds(
    predictions: Sequence[PairPrediction], alignment: Alignment, min_confidence: float
) -> list[NDArray[np.float32]]:
    """Each pair's confident points, of both of its views, in the world."""
    clouds = []
    for pair, pose in zip(predictions, alignment.world_from_pair, strict=True):
        sides = ((pair.pointmap_a, pair.confidence_a), (pair.pointmap_b_in_a, pair.confidence_b))
        points = [points[confidence >= min_confidence] for points, confidence in sides]
        clouds.append(apply(pose, np.concatenate(points)))
    return clouds


def agreement(predictions: Sequence[PairPrediction], alignment: Alignment) -> dict[str, float]:
    """Median distance [m] between the confident clouds of each two pairs that share a view, by
    names; points beyond SAME_SURFACE of the other cloud do not count."""
    clouds = pair_clouds(predictions, alignment, CONFIDENT)
    out = {}
    for i, j in itertools.combinations(range(len(predictions)), 2):
        first, second = predictions[i], predictions[j]
        if not {first.a, first.b} & {second.a, second.b}:
            continue
        step = max(1, len(clouds[i]) // 5000)
        distances = surface_distances(clouds[i][::step], clouds[j])
        if len(distances) > 100:
            name = f"{first.a}-{first.b} to {second.a}-{second.b}"
            out[name] = float(np.median(distances))
    return out


def gross_differences(
    predictions: Sequence[PairPrediction], alignment: Alignment
) -> dict[str, float]:
    """Share of the pixels of a view that two pairs are both confident of and that they put further
    apart than SAME_SURFACE, by names."""
    seen: dict[int, list[tuple[str, NDArray, NDArray]]] = {}
    for pair, pose in zip(predictions, alignment.world_from_pair, strict=True):
        name = f"{pair.a}-{pair.b}"
        for view, points, confidence in (
            (pair.a, pair.pointmap_a, pair.confidence_a),
            (pair.b, pair.pointmap_b_in_a, pair.confidence_b),
        ):
            world = apply(pose, points.reshape(-1, 3)).reshape(points.shape)
            seen.setdefault(view, []).append((name, world, confidence >= CONFIDENT))
    out = {}
    for view, maps in seen.items():
        for (name_1, points_1, confident_1), (
            name_2,
            points_2,
            confident_2,
        ) in itertools.combinations(maps, 2):
            both = confident_1 & confident_2
            if np.count_nonzero(both) > 100:
                apart = np.linalg.norm(points_1[both] - points_2[both], axis=-1)
                out[f"{name_1} and {name_2} in {view}"] = float((apart > SAME_SURFACE).mean())
    return out


def black_background(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W) the large dark areas of an image, without a rim of 3 pixels."""
    dark = (image.max(axis=-1) < DARK).astype(np.uint8)
    opened = np.asarray(cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8)))
    _, areas, stats, _ = cv2.connectedComponentsWithStats(opened)
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] > 2000)
    return np.isin(areas, large[large > 0])


def fringe(predictions: Sequence[PairPrediction], views: Sequence[View]) -> tuple[float, float]:
    """Share of a pair's points that lie on black background, and of the other pixels that have
    a point."""
    points, dark, other, covered = 0, 0, 0, 0
    backgrounds = [black_background(view.image) for view in views]
    for pair in predictions:
        for view, confidence in ((pair.a, pair.confidence_a), (pair.b, pair.confidence_b)):
            black, there = backgrounds[view], confidence > 0
            points += np.count_nonzero(there)
            dark += np.count_nonzero(there & black)
            other += np.count_nonzero(~black)
            covered += np.count_nonzero(there & ~black)
    return dark / points, covered / other


def surprises(truth: ConstructedScene, pair: PairPrediction) -> float:
    """Share of all points whose depth is off by more than five expected deviations."""
    beyond, points = 0, 0
    for v, found, confidence in (
        (pair.a, pair.pointmap_a, pair.confidence_a),
        (pair.b, pair.pointmap_b, pair.confidence_b),
    ):
        there = (confidence > 0) & (truth.depths[v] > 0)
        error = np.abs(found[..., 2] - truth.depths[v])[there]
        beyond += np.count_nonzero(error * confidence[there] > 5.0 * UNIT_SIGMA)
        points += len(error)
    return beyond / points


def noisy(truth: ConstructedScene, seed: int) -> list[View]:
    """The views with a camera's noise."""
    rng = np.random.default_rng(seed)
    return [
        dataclasses.replace(
            view,
            image=np.clip(
                np.rint(view.image + rng.normal(0.0, NOISE, view.image.shape)), 0, 255
            ).astype(np.uint8),
        )
        for view in truth.views
    ]


def backend(**settings: float) -> StereoPointmaps:
    """The back end with some settings changed."""
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo", "stereo": settings}})
    return StereoPointmaps(config.pointmaps.stereo)


class AsGiven(StereoPointmaps):
    """The baseline of the poses' refinement: images rectified with the given poses."""

    def _refined(self, views, pairs, features):
        refined = super()._refined(views, pairs, features)
        given = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
        return dataclasses.replace(refined, world_from_cam=given, agreeing={})


def by_angle(with_noise: bool) -> dict:
    """Errors on the objects of constructed scenes with exact poses, 640x480, means of 3 scenes."""
    out = {}
    matcher = backend(min_angle=1.0, max_angle=45.0)
    for angle in ANGLES:
        rows = []
        for seed in range(3):
            poses = fan_poses(2, angle)
            truth = construct_scene(2, 640, 480, 6, seed, with_depth=False, poses=poses)
            views = noisy(truth, seed) if with_noise else truth.views
            start = time.process_time()
            (pair,) = matcher.predict(views, [(0, 1)], Progress())
            spent = time.process_time() - start
            errors, covered = object_errors(truth, pair)
            beyond = (errors > 0.02).mean(), surprises(truth, pair)
            rows.append((np.median(errors), *beyond, covered, spent))
        names = "median_error", "beyond_2_percent", "beyond_5_sigma", "coverage", "cpu_s"
        out[f"{angle:g} degrees"] = dict(zip(names, np.mean(rows, 0).tolist(), strict=True))
    return out


def by_pose_error() -> dict:
    """The same at 10 degrees with errors of the given poses, chains of 3 views, 3 draws; beside it
    what is covered without their refinement."""
    out = {}
    poses = fan_poses(3, 10.0)
    truth = construct_scene(3, 640, 480, 6, seed=1, with_depth=False, poses=poses)
    matcher, baseline = backend(), AsGiven()
    for millimetres, degrees in POSE_ERRORS:
        rows = []
        sigmas = max(millimetres, 0.5) * 1e-3, float(np.radians(max(degrees, 0.03)))
        for seed in range(3):
            rng = np.random.default_rng(seed)
            views = [
                dataclasses.replace(
                    view,
                    world_from_cam_prior=kinematic_pose(
                        pose, rng, millimetres * 1e-3, np.radians(degrees)
                    ),
                    prior_translation_sigma=sigmas[0],
                    prior_rotation_sigma=sigmas[1],
                )
                for view, pose in zip(truth.views, truth.world_from_cam, strict=True)
            ]
            measured = []
            for used in (matcher, baseline):
                found = used.predict(views, [(0, 1), (1, 2)], Progress())
                measured.append([object_errors(truth, pair) for pair in found])
            for (errors, covered), (given_errors, given_covered) in zip(*measured, strict=True):
                row = np.median(errors), covered, np.median(given_errors), given_covered
                rows.append(row)
        names = "median_error", "coverage", "baseline_median_error", "baseline_coverage"
        out[f"{millimetres:g} mm, {degrees:g} degrees"] = dict(
            zip(names, np.mean(rows, 0).tolist(), strict=True)
        )
    return out


def temple_views() -> tuple[View, ...] | None:
    """The real temple's 16 views; None when the data is absent."""
    source = REAL_DATA / "templeSparseRing"
    if not source.is_dir():
        return None
    return load_folder(source).views


def temple() -> dict:
    """Agreement of neighbouring pairs' clouds on the real temple."""
    views = temple_views()
    if views is None:
        return {
            "skipped": f"'{REAL_DATA / 'templeSparseRing'}' is absent; set WILDSEG3D_DATA to the "
            "recordings' folder"
        }
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
    matcher = load_pointmaps(config.pointmaps)
    assert isinstance(matcher, StereoPointmaps)
    progress = Progress()
    views = matcher.with_deviations(views)
    start, cpu = time.perf_counter(), time.process_time()
    pairs = matcher.choose_pairs(views, config.pairing)
    predictions = matcher.predict(views, pairs, progress)
    spent = time.perf_counter() - start, time.process_time() - cpu
    alignment = align(predictions, views, config.alignment)
    between, gross = agreement(predictions, alignment), gross_differences(predictions, alignment)
    on_background, covered = fringe(predictions, views)
    return {
        "pairs": len(predictions),
        "pointmaps_s": spent[0],
        "pointmaps_cpu_s": spent[1],
        "peak_memory_gib": peak_memory_mb() * 1e6 / 2**30,
        "registration_residual_mm": 1e3 * alignment.registration_residual,
        "share_of_points_on_background": on_background,
        "coverage_of_the_rest": covered,
        "share_of_sure_pixels_apart_worst": max(gross.values()),
        "share_of_sure_pixels_apart": gross,
        "median_distance_mm_worst": 1e3 * max(between.values()),
        "median_distance_mm": {name: 1e3 * value for name, value in between.items()},
        "warnings": [*progress.warnings, *alignment.warnings],
    }


def measure() -> dict:
    """Everything."""
    return {
        "angle": by_angle(False),
        f"angle, noise of {NOISE:g} grey levels": by_angle(True),
        "pose error": by_pose_error(),
        "temple": temple(),
    }


def draw(path: str) -> None:
    """The temple's fused cloud from three sides."""
    from wildseg3d_ros.io.images import write_image
    from wildseg3d_ros.io.rendering import DrawingCamera, render_cloud

    views = temple_views()
    if views is None:
        raise SystemExit(f"'{REAL_DATA / 'templeSparseRing'}' is absent")
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
    matcher = backend()
    views = matcher.with_deviations(views)
    predictions = matcher.predict(views, matcher.choose_pairs(views, config.pairing), Progress())
    alignment = align(predictions, views, config.alignment)
    world = fuse(predictions, views, alignment, config.alignment)
    use = [confidence > 0 for confidence in world.confidence]
    points = np.concatenate([p[u] for p, u in zip(world.points, use, strict=True)])
    colors = np.concatenate([view.image[u] for view, u in zip(views, use, strict=True)])
    tiles = []
    for v in (0, 7, 12):
        K = np.asarray(views[v].K)
        camera = DrawingCamera(K, alignment.world_from_cam[v], views[v].size)
        tiles.append(np.concatenate([views[v].image, render_cloud(points, colors, camera)], 1))
    write_image(Path(path), np.concatenate(tiles))


if __name__ == "__main__":
    draw(sys.argv[1])
