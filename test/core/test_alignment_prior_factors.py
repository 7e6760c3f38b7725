"""Known poses, relative poses and depth in the solve: right ones help, wrong ones are rejected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.initialization import Poses, initialize
from wildseg3d_ros.alignment.graph.sampling import build_graph
from wildseg3d_ros.alignment.priors.factors import Linearised, Priors, pose_rows, scale_rows
from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.types import RelativePose
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
    sequence_pairs,
)

CONFIG = AlignmentConfig()
SIGMA = 0.004


@pytest.fixture(scope="module")
def scene():
    return construct_views(6, (48, 64), seed=3)


def slipped(pose, metres, radians, random):
    """A pose with errors of these standard deviations per axis."""
    turn = rotation_from_vector(random.normal(0, radians, 3))
    return make_transform(turn @ pose[:3, :3], pose[:3, 3] + random.normal(0, metres, 3))


def with_priors(scene, priors, sigma=SIGMA, **changes):
    views = tuple(
        replace(
            view,
            world_from_cam_prior=prior,
            prior_translation_sigma=sigma,
            prior_rotation_sigma=sigma,
            **changes,
        )
        for view, prior in zip(scene.views, priors, strict=True)
    )
    return replace(scene, views=views)


def camera_error(alignment, scene):
    """RMS of camera positions [m] after the best similarity: their shape alone."""
    ours, truth = alignment.world_from_cam[:, :3, 3], scene.world_from_cam[:, :3, 3]
    scale, rigid = umeyama(ours, truth)
    return float(np.sqrt(((apply(rigid, scale * ours) - truth) ** 2).sum(1).mean()))


def depth_of(scene, v):
    inside = apply(invert(scene.world_from_cam[v]), scene.points[v])
    return inside[..., 2].astype(np.float32)


@pytest.mark.parametrize("is_metric", [True, False])
def test_linearise_gives_the_derivatives_of_the_cost(scene, is_metric):
    """Against differences of a cost that is minimised over pose groups and metric scale by brute
    force."""
    random = np.random.default_rng(0)
    made = predict_like_network(scene, complete_pairs(3), NETWORK_LIKE, seed=1)
    made = replace(made, views=made.views[:3])
    graph = build_graph(made.predictions, made.views, AlignmentConfig(samples_per_view=40), None)
    known = [
        (0, v, slipped(scene.world_from_cam[v], 0.02, 0.02, random), 0.01, 0.02) for v in (0, 1, 2)
    ]
    known += [
        (1, v, slipped(scene.world_from_cam[v], 0.02, 0.02, random), 0.03, 0.01) for v in (0, 2)
    ]
    priors = Priors(
        pose_rows(graph, known),
        scale_rows(graph, [depth_of(scene, 0), None, None]),
        0.7,
        is_metric,
    )
    start = initialize(graph)
    scale, rotation, translation = map(
        np.asarray, (start.scale, start.rotation, start.translation)
    )
    count = len(graph.edges)
    pivot = np.zeros((count, 3))

    def moved(xi):
        xi = xi.reshape(-1, 7)
        turn = np.stack([rotation_from_vector(w) for w in xi[:, :3]])
        grow = np.exp(xi[:, 6])
        shift = grow[:, None] * (turn @ translation[..., None])[..., 0] + xi[:, 3:6]
        return Poses(scale * grow, turn @ rotation, shift)

    def cost(xi):
        cameras = priors._cameras(moved(xi))
        residual, _ = priors._residuals(cameras, priors._fit_groups(cameras))
        return 0.5 * float(priors._precision @ residual**2)

    def arrays(terms):
        return Linearised(
            *map(np.asarray, (terms.gradient, terms.own, terms.cross, terms.core, terms.inner))
        )

    terms = arrays(priors.linearise(start, pivot, np.zeros(count, dtype=bool)))
    steps = 1e-5 * np.eye(7 * count)
    numeric = np.array([(cost(s) - cost(-s)) / 2e-5 for s in steps])
    # Gauss-Newton leaves out the curvature of rotations: right to the residuals' size squared.
    np.testing.assert_allclose(terms.gradient.ravel(), numeric, atol=2e-2 * np.abs(numeric).max())
    hessian = terms.apply(np.eye(7 * count).reshape(count, 7, -1)).reshape(7 * count, -1)
    largest = np.abs(hessian).max()
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-9 * largest)
    assert np.linalg.eigvalsh(hessian)[0] > -1e-9 * largest
    # The whole world may be moved at no cost.
    shift = np.zeros((count, 7, 1))
    shift[:, 3:6] = 1.0
    assert np.abs(terms.apply(shift)).max() < 1e-7 * largest
    # Pairs whose scale is known take no step of it.
    fixed = arrays(priors.linearise(start, pivot, np.ones(count, dtype=bool)))
    assert np.abs(fixed.gradient[:, 6]).max() == 0.0
    assert np.abs(fixed.apply(np.ones((count, 7, 1)))[:, 6]).max() == 0.0


@pytest.mark.parametrize(("kind", "share"), [("network", 0.6), ("depth", 0.85)])
def test_priors_right_poses_improve_the_cameras(scene, kind, share):
    without, placed, given = [], [], []
    for seed in range(4):
        random = np.random.default_rng(seed)
        priors = [slipped(pose, SIGMA, SIGMA, random) for pose in scene.world_from_cam]
        if kind == "network":
            made = predict_like_network(scene, sequence_pairs(6, 1), NETWORK_LIKE, seed)
        else:
            pairs = [(a, b) for a, b in complete_pairs(6, False) if b - a < 3]
            made = predict_like_depth(scene, pairs, 0.01, 0.01, seed=seed)
        alignment = align(made.predictions, with_priors(made, priors, 0.0).views, CONFIG)
        placed.append(camera_error(alignment, scene))
        alignment = align(made.predictions, with_priors(made, priors).views, CONFIG)
        without.append(camera_error(replace(alignment, world_from_cam=np.stack(priors)), scene))
        given.append(camera_error(alignment, scene))
        assert alignment.converged
        assert alignment.warnings == ()
    # Better than the images alone, and hardly worse than given poses alone that are better.
    assert np.mean(given) < share * np.mean(placed)
    assert np.mean(given) < 1.25 * np.mean(without)


def test_priors_nearly_hard_pose_is_kept(scene):
    made = predict_like_network(scene, complete_pairs(6), NETWORK_LIKE, seed=2)
    views = with_priors(made, list(scene.world_from_cam), 1e-4).views
    alignment = align(made.predictions, views, CONFIG)
    registered_only = align(
        made.predictions, with_priors(made, list(scene.world_from_cam), 0.0).views, CONFIG
    )
    assert alignment.prior_residual.max() < 0.2 * registered_only.prior_residual.max()


@pytest.mark.parametrize("wrong", [0, 3])
def test_priors_wrong_pose_is_rejected_and_named(scene, wrong):
    random = np.random.default_rng(wrong)
    priors = [slipped(pose, SIGMA, SIGMA, random) for pose in scene.world_from_cam]
    priors[wrong] = slipped(priors[wrong], 0.2, 0.2, random)
    made = predict_like_network(scene, complete_pairs(6), PairErrors(scale=0.3, noise=0.002))
    alignment = align(made.predictions, with_priors(made, priors).views, CONFIG)
    named = [w for w in alignment.warnings if "given pose" in w]
    assert len(named) == 1
    assert f"'cam{wrong}'" in named[0]
    views = tuple(
        view if v != wrong else replace(view, world_from_cam_prior=None)
        for v, view in enumerate(with_priors(made, priors).views)
    )
    rest = align(made.predictions, views, CONFIG)
    assert camera_error(alignment, scene) < 1.05 * camera_error(rest, scene) + 1e-4


@pytest.mark.parametrize("wrong", [0, 1])
def test_pairs_against_poses_decides_between_two_pairs(scene, wrong):
    """Either of the two that hold camera 5 may be wrong: the images alone cannot tell which."""
    pairs = [(0, 5), (1, 5), *((a, b) for a, b in complete_pairs(5, False))]
    made = predict_like_depth(scene, pairs, 0.002, 0.002, wrong_pairs=(wrong,), seed=3)
    views = with_priors(made, list(scene.world_from_cam), 0.0).views
    alignment = align(made.predictions, views, CONFIG)
    assert np.flatnonzero(~alignment.pair_used).tolist() == [wrong]
    assert any(f"('cam{wrong}', 'cam5')" in warning for warning in alignment.warnings)
    assert camera_error(alignment, scene) < 0.01


class TestRelativePoses:
    def known(self, scene, a, b, error=None):
        pose = invert(scene.world_from_cam[a]) @ scene.world_from_cam[b]
        return RelativePose(a, b, pose if error is None else pose @ error, 0.002, 0.002)

    def chain(self, scene, seed):
        pairs = [(a, a + 1) for a in range(5)]
        made = predict_like_depth(scene, pairs, 0.01, 0.01, seed=seed)
        return made.predictions, with_priors(made, [None] * 6).views

    def test_priors_close_a_chain(self, scene):
        without, given = [], []
        for seed in range(4):
            pairs, views = self.chain(scene, seed)
            without.append(camera_error(align(pairs, views, CONFIG), scene))
            alignment = align(
                pairs,
                views,
                CONFIG,
                relative_poses=[self.known(scene, 0, 5), self.known(scene, 2, 5)],
            )
            assert alignment.warnings == ()
            given.append(camera_error(alignment, scene))
        assert np.mean(given) < 0.8 * np.mean(without)

    def test_priors_one_baseline_makes_the_world_metric(self, scene):
        made = predict_like_network(scene, complete_pairs(6), PairErrors(scale=0.4), seed=1)
        views = with_priors(made, [None] * 6).views
        assert not align(made.predictions, views, CONFIG).metric
        alignment = align(
            made.predictions, views, CONFIG, relative_poses=[self.known(scene, 1, 4)]
        )
        assert alignment.metric
        assert not alignment.in_prior_frame
        np.testing.assert_allclose(alignment.pair_scale, made.pair_scale, rtol=1e-4)

    def test_priors_wrong_one_is_rejected_and_both_cameras_named(self, scene):
        made = predict_like_depth(scene, complete_pairs(6, False), 0.002, 0.002, seed=1)
        views = with_priors(made, [None] * 6).views
        bad = self.known(
            scene, 1, 4, make_transform(rotation_from_vector([0.3, 0, 0]), [0.2, 0, 0])
        )
        alignment = align(made.predictions, views, CONFIG, relative_poses=[bad])
        assert any("'cam1'" in w and "'cam4'" in w for w in alignment.warnings)
        assert camera_error(alignment, scene) < 0.004

    def test_check_relative_poses_refuses_unknown_views(self, scene):
        pairs, views = self.chain(scene, 0)
        with pytest.raises(InputError, match=r"\(0, 7\)"):
            align(pairs, views, CONFIG, relative_poses=[RelativePose(0, 7, np.eye(4), 0.1, 0.1)])
        with pytest.raises(InputError, match="above 0"):
            RelativePose(0, 1, np.eye(4), 0.0, 0.1)


class TestDepth:
    def made(self, scene, depths):
        made = predict_like_network(scene, complete_pairs(6), PairErrors(scale=0.4), seed=1)
        views = tuple(
            replace(view, world_from_cam_prior=None, depth=depth)
            for view, depth in zip(made.views, depths, strict=True)
        )
        return made, views

    @pytest.mark.parametrize("cameras", [(2,), (0, 3, 4)])
    def test_priors_depth_of_some_cameras_makes_the_world_metric(self, scene, cameras):
        depths = [depth_of(scene, v) if v in cameras else None for v in range(6)]
        made, views = self.made(scene, depths)
        alignment = align(made.predictions, views, CONFIG)
        assert alignment.metric
        assert alignment.warnings == ()
        np.testing.assert_allclose(alignment.pair_scale, made.pair_scale, rtol=1e-3)

    def test_consensus_scale_rejects_a_camera_with_the_wrong_unit(self, scene):
        depths = [depth_of(scene, v) if v in (0, 3, 4) else None for v in range(6)]
        depths[3] = depths[3] * 1.3
        made, views = self.made(scene, depths)
        alignment = align(made.predictions, views, CONFIG)
        named = [w for w in alignment.warnings if "depth images" in w]
        assert len(named) == 1
        assert "'cam3'" in named[0]
        np.testing.assert_allclose(alignment.pair_scale, made.pair_scale, rtol=1e-3)
