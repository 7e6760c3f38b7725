"""Given intrinsics: right ones help, wrong ones are rejected by name."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.cameras.reprojection import Sightings, refine_cameras
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_testing.pairs import (
    complete_pairs,
    construct_views,
    predict_like_network,
    sequence_pairs,
)

CONFIG = AlignmentConfig()
COUNT = 6


@pytest.fixture(scope="module")
def problems():
    return [
        predict_like_network(
            construct_views(COUNT, (48, 64), seed=seed), complete_pairs(COUNT), seed=seed
        ).without_priors()
        for seed in range(3)
    ]


def camera_error(made, alignment):
    found, truth = alignment.world_from_cam[:, :3, 3], made.world_from_cam[:, :3, 3]
    scale, pose = umeyama(found, truth, np.ones(len(truth)))
    return np.linalg.norm(apply(pose, scale * found) - truth, axis=1).mean()


def with_focal(made, factor, which):
    views = list(made.views)
    for v in which:
        K = views[v].K.copy()
        K[:2, :2] *= factor
        views[v] = replace(views[v], K=K)
    return views


def test_solve_cameras_right_intrinsics_improve_the_cameras():
    ratios = []
    for seed in range(10):
        scene = construct_views(COUNT, (48, 64), seed=seed)
        pairs = sequence_pairs(COUNT, 1 + seed % 2)
        made = predict_like_network(scene, pairs, seed=seed).without_priors()
        blind = [replace(view, K=None) for view in made.views]
        given = align(made.predictions, made.views, CONFIG)
        assert not any("focal length" in warning for warning in given.warnings)
        assert all((K == view.K).all() for K, view in zip(given.K, made.views, strict=True))
        found = align(made.predictions, blind, CONFIG)
        ratios.append(camera_error(made, given) / camera_error(made, found))
    assert np.exp(np.mean(np.log(ratios))) < 0.95, ratios


@pytest.mark.parametrize("factor", [0.5, 0.77, 1.3, 2.0])
def test_solve_cameras_rejects_and_names_a_wrong_focal_length(problems, factor):
    before, after = [], []
    for made in problems:
        alignment = align(made.predictions, with_focal(made, factor, [2]), CONFIG)
        name = made.views[2].name
        told = [w for w in alignment.warnings if "focal length" in w]
        assert len(told) == 1
        assert f"'{name}'" in told[0]
        assert alignment.K[2, 0, 0] == pytest.approx(made.views[2].K[0, 0], rel=0.05)
        before.append(camera_error(made, align(made.predictions, made.views, CONFIG)))
        after.append(camera_error(made, alignment))
    assert np.mean(after) < 1.25 * np.mean(before)


def test_standing_out_names_a_wrong_principal_point(problems):
    for made in problems:
        views = list(made.views)
        K = views[2].K.copy()
        K[0, 2] += 16
        views[2] = replace(views[2], K=K)
        for given, named in ((made.views, []), (views, [views[2].name])):
            told = [w for w in align(made.predictions, given, CONFIG).warnings if " fall " in w]
            assert [w.split("'")[1] for w in told] == named


def test_solve_cameras_names_normalised_intrinsics(problems):
    made = problems[0]
    K = np.diag([1 / 64, 1 / 48, 1.0]) @ made.views[0].K
    views = [replace(view, K=K) for view in made.views]
    alignment = align(made.predictions, views, CONFIG)
    told = [w for w in alignment.warnings if "focal length" in w]
    assert len(told) == COUNT
    assert "images of this size" in told[0]


def test_solve_cameras_keeps_pixels_that_are_not_square(problems):
    made = problems[1]
    views = list(made.views)
    K = views[0].K.copy()
    K[1, 1] *= 1.02
    views[0] = replace(views[0], K=K)
    alignment = align(made.predictions, views, CONFIG)
    assert not any("focal length" in warning for warning in alignment.warnings)
    assert (alignment.K[0] == K).all()


@pytest.fixture(scope="module")
def wide(problems):
    """The network takes all lenses for a tenth longer than they are; they are given rightly, with
    principal points beside the middle."""
    made = problems[1]
    grown = np.array([1 / 1.12, 1 / 1.12, 1.0], dtype=np.float32)
    pairs = [
        replace(p, pointmap_a=p.pointmap_a * grown, pointmap_b=p.pointmap_b * grown)
        for p in made.predictions
    ]
    views = []
    for view in made.views:
        K = view.K.copy()
        K[:2, 2] += (3.0, -2.0)
        K[1, 1] *= 1.01
        views.append(replace(view, K=K))
    return pairs, views


def test_solve_cameras_keeps_what_is_not_contradicted(wide):
    pairs, views = wide
    alignment = align(pairs, views, CONFIG)
    told = [w for w in alignment.warnings if "the given principal point is kept" in w]
    assert len(told) == COUNT
    for K, view in zip(alignment.K, views, strict=True):
        assert K[0, 0] > 1.08 * view.K[0, 0]
        assert (K[:2, 2] == view.K[:2, 2]).all()
        assert K[1, 1] / K[0, 0] == pytest.approx(view.K[1, 1] / view.K[0, 0])


def test_solve_cameras_replaces_principal_point_of_another_size(problems):
    made = problems[1]
    K = np.diag([0.5, 0.5, 1.0]) @ made.views[2].K
    views = [replace(v, K=K) if k == 2 else v for k, v in enumerate(made.views)]
    alignment = align(made.predictions, views, CONFIG)
    (told,) = [w for w in alignment.warnings if "focal length" in w]
    assert "becomes its middle" in told
    np.testing.assert_allclose(alignment.K[2, :2, 2], [31.5, 23.5])


def test_solve_cameras_trust_intrinsics(wide):
    pairs, views = wide
    alignment = align(pairs, views, replace(CONFIG, trust_intrinsics=True))
    assert all((K == view.K).all() for K, view in zip(alignment.K, views, strict=True))
    told = [w for w in alignment.warnings if "the given one is kept" in w]
    assert len(told) == COUNT


def test_refine_cameras_finds_the_cameras_and_leaves_unsupported_ones():
    """Views without weights, or with all points behind them, take no step."""
    random = np.random.default_rng(0)
    world = random.normal(0, 1, (3, 40, 3))
    K = np.tile([[300.0, 0.0, 160.0], [0.0, 300.0, 120.0], [0.0, 0.0, 1.0]], (3, 1, 1))
    truth = np.tile(np.eye(4)[:3], (3, 1, 1))
    truth[:, 2, 3] = [5.0, 5.0, -5.0]
    pixels = (world + truth[:, None, :, 3]) @ np.swapaxes(K, 1, 2)
    weight = np.ones((3, 40))
    weight[1] = 0.0
    start, longer = truth.copy(), K.copy()
    start[:, :, 3] += 0.1
    longer[:, [0, 1], [0, 1]] *= 1.1
    seen = Sightings(world, pixels[..., :2] / pixels[..., 2:], weight)
    pose, found = refine_cameras(seen, start, longer, np.array([True, True, False]))
    np.testing.assert_allclose(pose[0], truth[0], atol=1e-6)
    np.testing.assert_allclose(found[0], K[0], atol=1e-4)
    np.testing.assert_array_equal(pose[1:], start[1:])
    np.testing.assert_array_equal(found[1:], longer[1:])
