"""The stereo back end against constructed truth, and on real frames where they are at hand."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Click, Prompt
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.pipeline import build_scene, segment
from wildseg3d_ros.pointmaps import load_for, load_pointmaps
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA
from wildseg3d_testing.stereo import SIZE, recast, stereo_pair, stereo_scene

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def truth():
    return stereo_scene(2, 10.0)


@pytest.fixture(scope="module")
def pair(truth):
    return stereo_pair(truth.views)


@pytest.mark.parametrize(
    "backend, missing, chosen",
    [
        ("auto", {}, "StereoPointmaps"),
        ("depth", {}, "DepthPointmaps"),
        ("auto", {"world_from_cam_prior": None}, "DepthPointmaps"),
        ("auto", {"K": None}, "DepthPointmaps"),
        ("auto", {"depth": np.ones(SIZE, np.float32)}, "DepthPointmaps"),
    ],
)
def test_views_choose_the_back_end_where_nobody_did(truth, backend, missing, chosen):
    views = [truth.views[0], dataclasses.replace(truth.views[1], **missing)]
    config = SceneConfig.from_mapping({"pointmaps": {"backend": backend}}).pointmaps
    assert type(load_for(views, config, progress := Progress())).__name__ == chosen
    assert [f"backend={config.of(views).backend} was taken" in t for t in progress.warnings] == (
        [True] if chosen == "StereoPointmaps" else []
    )
    assert type(load_pointmaps(SceneConfig().pointmaps)).__name__ == "DepthPointmaps"


def noise(seed):
    """Of a camera, in grey levels."""
    return np.random.default_rng(seed).normal(0.0, 2.0, (*SIZE, 3))


def replace_image(view, image):
    return dataclasses.replace(view, image=np.clip(np.rint(image), 0, 255).astype(np.uint8))


def sides(pair):
    return (pair.pointmap_a, pair.confidence_a), (pair.pointmap_b, pair.confidence_b)


def without_rim(objects, rim=3):
    """The objects without their outermost pixels, which mix the light of two surfaces."""
    return cv2.erode(objects.astype(np.uint8), np.ones((2 * rim + 1,) * 2, np.uint8)) > 0


def check_accuracy(pair, depths, labels, median=0.004, coverage=0.75):
    for v, (points, confidence) in enumerate(sides(pair)):
        there, on_object = confidence > 0, labels[v] > 0
        error = np.abs(points[..., 2] / np.maximum(depths[v], 1e-6) - 1.0)[there & on_object]
        assert np.median(error) < median
        assert (error > 0.02).mean() < 0.04
        assert there[on_object].mean() > coverage


def test_predict_depth_of_objects_at_ten_degrees(truth, pair):
    check_accuracy(pair, truth.depths, truth.labels, median=0.0025, coverage=0.8)
    covered = [
        (confidence > 0)[without_rim(label > 0)].mean()
        for (_, confidence), label in zip(sides(pair), truth.labels, strict=True)
    ]
    assert np.mean(covered) > 0.88
    assert pair.metric
    np.testing.assert_allclose(
        pair.a_from_map_b, invert(truth.world_from_cam[0]) @ truth.world_from_cam[1], atol=1e-9
    )


def test_predict_points_lie_on_the_rays_of_their_own_pixels(truth, pair):
    for view, (points, confidence) in zip(truth.views, sides(pair), strict=True):
        uv, _ = project(points.astype(np.float64), view.K)
        rows, cols = np.nonzero(confidence > 0)
        np.testing.assert_allclose(uv[rows, cols], np.stack([cols, rows], 1), atol=2e-2)


def test_predict_confidence_ranks_errors_and_foretells_their_size(truth, pair):
    for depth, (points, confidence) in zip(truth.depths, sides(pair), strict=True):
        there = (confidence > 0) & (depth > 0)
        error = np.abs(points[..., 2] - depth)[there]
        sigma = UNIT_SIGMA / confidence[there]
        order = np.argsort(sigma)
        first, last = np.array_split(error[order], 4)[::3]
        assert np.median(first) < 0.5 * np.median(last)
        assert 0.3 < np.median(error / sigma) < 1.5


def surprises(pair, depths):
    """Share of the points that are off by more than five expected deviations."""
    beyond, points = 0, 0
    for depth, (found, confidence) in zip(depths, sides(pair), strict=True):
        there = (confidence > 0) & (depth > 0)
        error = np.abs(found[..., 2] - depth)[there]
        beyond += np.count_nonzero(error > 5.0 * UNIT_SIGMA / confidence[there])
        points += len(error)
    return beyond / points


def test_predict_few_points_are_beyond_five_deviations(truth, pair):
    """Plain parts, outlines and what lies beyond the searched range included."""
    assert surprises(pair, truth.depths) < 0.03
    noisy = [replace_image(v, v.image + noise(k)) for k, v in enumerate(truth.views)]
    assert surprises(stereo_pair(noisy), truth.depths) < 0.04


def test_predict_objects_have_no_fringe_on_a_plain_background(truth):
    """Where nothing contradicts it, a matcher continues an object beyond its outline."""
    views = [
        replace_image(view, np.where(label[..., None] > 0, view.image, 8.0) + noise(k))
        for k, (view, label) in enumerate(zip(truth.views, truth.labels, strict=True))
    ]
    for (_, confidence), label in zip(sides(stereo_pair(views)), truth.labels, strict=True):
        on_object = label > 0
        outside = ~(cv2.dilate(on_object.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
        assert np.count_nonzero(outside & (confidence > 0)) < 0.005 * np.count_nonzero(on_object)
        assert (confidence > 0)[on_object].mean() > 0.8


@pytest.mark.parametrize("gain", [0.75, 1.25])
def test_predict_cameras_expose_each_for_themselves(truth, pair, gain):
    brighter = replace_image(truth.views[1], gain * truth.views[1].image)
    other = stereo_pair([truth.views[0], brighter])
    check_accuracy(other, truth.depths, truth.labels)
    assert (other.confidence_a > 0).mean() > 0.95 * (pair.confidence_a > 0).mean()


def test_predict_rejects_pixels_that_the_other_camera_does_not_see(truth, pair):
    other_from_world = invert(truth.world_from_cam[1])
    seen = apply(other_from_world, truth.points[0].astype(np.float64))
    uv, z = project(seen, truth.views[1].K)
    inside = np.isfinite(uv).all(-1) & (uv >= 0).all(-1)
    inside &= (uv[..., 0] <= SIZE[1] - 1) & (uv[..., 1] <= SIZE[0] - 1)
    cols, rows = np.rint(np.where(inside[..., None], uv, 0)).astype(int).transpose(2, 0, 1)
    hidden = inside & (z > 1.02 * truth.depths[1][rows, cols] + 0.01)
    visible = inside & (np.abs(z - truth.depths[1][rows, cols]) < 0.002) & (truth.labels[0] > 0)
    # Beside an edge the matcher's window sees the other surface.
    inner = cv2.erode(hidden.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert inner.sum() > 500
    assert (pair.confidence_a[inner] > 0).mean() < 0.1
    assert (pair.confidence_a[without_rim(visible, 1)] > 0).mean() > 0.85


def test_predict_the_order_of_the_cameras_does_not_matter(truth, pair):
    swapped = stereo_pair(truth.views[::-1])
    for (points, confidence), (points_2, confidence_2) in zip(
        sides(pair), reversed(sides(swapped)), strict=True
    ):
        assert ((confidence > 0) == (confidence_2 > 0)).mean() > 0.95
        both = (confidence > 0) & (confidence_2 > 0)
        assert np.median(np.abs(points - points_2)[both]) < 5e-4


def rolled(pose, angle):
    return pose @ make_transform(rotation_from_vector([0, 0, angle]), np.zeros(3))


def test_predict_a_vertical_baseline_in_portrait_images(truth):
    height, width = 400, 300
    K = truth.views[0].K.copy()
    K[:2, 2] = (width - 1) / 2, (height - 1) / 2
    poses = [rolled(pose, np.pi / 2) for pose in truth.world_from_cam]
    between = invert(poses[0]) @ poses[1]
    assert abs(between[1, 3]) > 5 * abs(between[0, 3])
    views, depths, labels = recast(truth, poses, [K, K], [(height, width)] * 2)
    check_accuracy(stereo_pair(views), depths, labels)


def test_predict_cameras_of_different_size_focal_length_and_roll(truth):
    big, small = truth.views[0].K.copy(), truth.views[1].K.copy()
    big[:2] *= 1.5
    small[0, 0] *= 0.9
    small[:2, 2] += (7.0, -12.0)
    poses = [truth.world_from_cam[0], rolled(truth.world_from_cam[1], 0.4)]
    sizes = [(450, 600), (320, 380)]
    views, depths, labels = recast(truth, poses, [big, small], sizes)
    check_accuracy(stereo_pair(views), depths, labels, coverage=0.75)


def test_predict_with_a_given_depth_range(truth):
    pair = stereo_pair(truth.views, min_depth=0.45, max_depth=1.2)
    check_accuracy(pair, truth.depths, truth.labels)
    beyond = stereo_pair(truth.views, min_depth=0.6, max_depth=3.0)
    for points, confidence in sides(beyond):
        # The range is that of the common image plane, 5 degrees from either camera's.
        z = points[confidence > 0][:, 2]
        assert z.min() > 0.9 * 0.6
        assert z.max() < 3.0 * 1.1


def test_build_scene_by_configuration_alone():
    made = stereo_scene(5, 12.0, objects=5, seed=3)
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
    scene = build_scene(made.views, config)
    assert scene.frame_id == "world"
    assert scene.alignment.scale_sources == ("camera poses",)
    assert scene.alignment.registration_residual < 0.002
    rows, cols = np.nonzero(made.labels[2] == 3)
    click = Click("cam_2", float(np.median(cols)), float(np.median(rows)))
    cloud = segment(scene, Prompt((click,)))
    assert len(cloud) > 1000
    assert np.median(made.distance_to_object(3, cloud.points)) < 0.003


def module_of(path):
    spec = importlib.util.spec_from_file_location(f"stereo_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_predict_pairs_of_the_real_temple_agree_to_less_than_a_millimetre(real_data):
    benchmark = module_of(ROOT / "benchmarks" / "stereo.py")
    config = SceneConfig.from_mapping({"pointmaps": {"backend": "stereo"}})
    recording = load_folder(real_data("templeSparseRing"))
    matcher = load_pointmaps(config.pointmaps)
    views = matcher.with_deviations(recording.views[5:10])
    pairs = matcher.choose_pairs(views, config.pairing)
    predictions = matcher.predict(views, pairs, Progress())
    alignment = align(predictions, views, config.alignment)
    between = benchmark.agreement(predictions, alignment)
    assert len(between) == len(pairs) - 1 == 3
    assert max(between.values()) < 0.001, between
    gross = benchmark.gross_differences(predictions, alignment)
    assert max(gross.values()) < 0.05, gross
    on_background, covered = benchmark.fringe(predictions, views)
    assert on_background < 0.03
    assert covered > 0.35
    assert np.nanmedian(alignment.prior_residual) < 0.001
    # Of the world that the pairs make without the given poses, where that differs more.
    assert alignment.registration_residual < 0.0015
