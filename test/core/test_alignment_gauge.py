"""Registration of solved cameras to given poses."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.priors.gauge import register
from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.geometry.transforms import make_transform, rotation_from_vector
from wildseg3d_testing.pairs import (
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
)

CONFIG = AlignmentConfig()


@pytest.fixture(scope="module")
def scene():
    return construct_views(6, (48, 64), seed=3)


def with_priors(scene, priors):
    views = tuple(
        replace(view, world_from_cam_prior=prior)
        for view, prior in zip(scene.views, priors, strict=True)
    )
    return replace(scene, views=views)


def slipped(pose, metres, radians, seed=0):
    random = np.random.default_rng(seed)
    turn, shift = random.normal(0, 1, (2, 3))
    turn *= radians / np.linalg.norm(turn)
    shift *= metres / np.linalg.norm(shift)
    return make_transform(rotation_from_vector(turn) @ pose[:3, :3], pose[:3, 3] + shift)


def depth_like(scene):
    return predict_like_depth(scene, complete_pairs(len(scene.views), False))


def test_register_one_prior_fixes_a_metric_world(scene):
    made = depth_like(with_priors(scene, [None, None, scene.world_from_cam[2], None, None, None]))
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.in_prior_frame
    np.testing.assert_allclose(alignment.world_from_cam, scene.world_from_cam, atol=1e-5)
    assert np.flatnonzero(np.isfinite(alignment.prior_residual)).tolist() == [2]


def test_register_gives_the_scale_of_a_network(scene):
    priors = [scene.world_from_cam[0], None, None, scene.world_from_cam[3], None, None]
    made = predict_like_network(
        with_priors(scene, priors), complete_pairs(6), PairErrors(scale=0.4)
    )
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.metric
    assert alignment.in_prior_frame
    np.testing.assert_allclose(alignment.pair_scale, made.pair_scale, rtol=1e-4)
    np.testing.assert_allclose(alignment.world_from_cam, scene.world_from_cam, atol=1e-4)


@pytest.mark.parametrize("known", [[0], [1, 1]])
def test_register_warns_without_a_scale(scene, known):
    priors = [None] * 6
    for place, v in enumerate(known):
        priors[place] = scene.world_from_cam[v]
    made = predict_like_network(
        with_priors(scene, priors), complete_pairs(6), PairErrors(scale=0.4)
    )
    if len(known) == 2:
        # Two cameras at one place: no baseline.
        same = scene.world_from_cam[[1, 1, 2, 3, 4, 5]]
        points = tuple(scene.points[k] for k in (1, 1, 2, 3, 4, 5))
        twin = replace(with_priors(scene, priors), world_from_cam=same, points=points)
        made = predict_like_network(twin, complete_pairs(6), PairErrors(scale=0.4))
    alignment = align(made.predictions, made.views, CONFIG)
    assert not alignment.metric
    assert not alignment.in_prior_frame
    assert any("do not fix the scale" in warning for warning in alignment.warnings)


@pytest.mark.parametrize("wrong", range(6))
def test_register_rejects_and_names_a_wrong_prior(scene, wrong):
    random = np.random.default_rng(wrong)
    priors = [slipped(pose, 0.003, 0.003, seed) for seed, pose in enumerate(scene.world_from_cam)]
    priors[wrong] = slipped(priors[wrong], 0.4, random.uniform(0.0, 0.5), wrong)
    made = depth_like(with_priors(scene, priors))
    alignment = align(made.predictions, made.views, CONFIG)
    assert np.abs(alignment.world_from_cam - scene.world_from_cam)[:, :3, 3].max() < 0.012
    named = [w for w in alignment.warnings if "given pose" in w]
    assert len(named) == 1
    assert f"'cam{wrong}'" in named[0]
    assert alignment.prior_residual[wrong] == pytest.approx(0.4, abs=0.02)


def test_register_scale_is_robust_to_a_wrong_prior(scene):
    priors = list(scene.world_from_cam)
    priors[1] = slipped(priors[1], 0.6, 0.8)
    made = predict_like_network(
        with_priors(scene, priors), complete_pairs(6), PairErrors(scale=0.4)
    )
    alignment = align(made.predictions, made.views, CONFIG)
    np.testing.assert_allclose(alignment.pair_scale, made.pair_scale, rtol=1e-3)
    assert any("'cam1'" in warning for warning in alignment.warnings)


def test_register_names_both_of_two_that_disagree(scene):
    priors = [scene.world_from_cam[0], slipped(scene.world_from_cam[1], 0.4, 0.0)] + [None] * 4
    made = depth_like(with_priors(scene, priors))
    alignment = align(made.predictions, made.views, AlignmentConfig(max_prior_residual=0.0))
    named = [w for w in alignment.warnings if "one of the two is wrong" in w]
    assert len(named) == 2


def test_register_averages_small_errors(scene):
    priors = [slipped(pose, 0.01, 0.005, seed) for seed, pose in enumerate(scene.world_from_cam)]
    made = depth_like(with_priors(scene, priors))
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.warnings == ()
    error = np.linalg.norm((alignment.world_from_cam - scene.world_from_cam)[:, :3, 3], axis=1)
    assert error.mean() < 0.008
    assert 0.005 < np.median(alignment.prior_residual) < 0.02


def test_register_cameras_on_a_line(scene):
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = [0.0, 0.3, 0.7, 1.0]
    truth = make_transform(rotation_from_vector([0.5, 1.0, -0.3]), [1.0, 2.0, 3.0])
    views = tuple(
        replace(view, world_from_cam_prior=truth @ pose)
        for view, pose in zip(scene.views[:4], poses, strict=True)
    )
    for known_scale, factor in ((True, 1.0), (False, 2.5)):
        solved = poses.copy()
        solved[:, :3, 3] /= factor
        registration = register(views, solved, np.full(4, 1.0 / factor), known_scale)
        assert registration.found
        assert registration.scale == pytest.approx(factor)
        np.testing.assert_allclose(registration.prior_from_world, truth, atol=1e-9)


def test_register_warns_of_a_wrong_unit_of_depth(scene):
    priors = scene.world_from_cam.copy()
    priors[:, :3, 3] *= 1000.0
    made = depth_like(with_priors(scene, priors))
    with pytest.raises(AlignmentError, match=r"1e\+03 times as far apart"):
        align(made.predictions, made.views, CONFIG)
    alignment = align(made.predictions, made.views, AlignmentConfig(max_prior_residual=0.0))
    assert any("1e+03 times as far apart" in warning for warning in alignment.warnings)
