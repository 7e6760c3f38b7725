"""align() on constructed pairs with known truth: exactness, invariances, wrong input."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.initialization import initialize
from wildseg3d_ros.alignment.graph.sampling import build_graph
from wildseg3d_ros.alignment.solve.residuals import refuse_beyond
from wildseg3d_ros.alignment.solve.robust import solve_pairs
from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_from_vector,
)
from wildseg3d_ros.core.types import PairPrediction
from wildseg3d_testing.cameras import assert_same_cameras, relative
from wildseg3d_testing.pairs import (
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
    sequence_pairs,
)

CONFIG = AlignmentConfig()
FINE = AlignmentConfig(tolerance=1e-7, max_iterations=100)


@pytest.fixture(scope="module")
def scene():
    return construct_views(5, (48, 64), seed=3)


@pytest.mark.parametrize("kind", ["network", "depth"])
def test_align_is_exact_on_exact_pairs(scene, kind):
    if kind == "network":
        made = predict_like_network(scene, complete_pairs(5), PairErrors(scale=0.3))
    else:
        made = predict_like_depth(scene, complete_pairs(5, both_ways=False), invalid=0.3)
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.converged
    assert alignment.metric
    assert alignment.in_prior_frame
    assert alignment.pair_used.all()
    assert alignment.warnings == ()
    np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=2e-6)
    np.testing.assert_allclose(alignment.pair_scale, made.pair_scale, rtol=1e-6)
    assert alignment.pair_residual.max() < 2e-6
    assert alignment.prior_residual.max() < 2e-6
    world = fuse(made.predictions, made.views, alignment, CONFIG)
    for v, truth in enumerate(made.points):
        error = np.abs(world.points[v] - truth)[world.valid(v)]
        assert error.max() < 5e-6 * np.abs(truth).max()


def test_align_without_priors_is_in_the_first_cameras_frame(scene):
    made = predict_like_depth(scene, complete_pairs(5, both_ways=False)).without_priors()
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.metric
    assert not alignment.in_prior_frame
    assert np.isnan(alignment.prior_residual).all()
    np.testing.assert_allclose(alignment.world_from_cam[0], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(alignment.world_from_cam, relative(made.world_from_cam), atol=2e-6)


def test_align_keeps_the_product_of_unknown_scales(scene):
    made = predict_like_network(scene, complete_pairs(5)).without_priors()
    alignment = align(made.predictions, made.views, CONFIG)
    assert not alignment.metric
    assert np.log(alignment.pair_scale).mean() == pytest.approx(0.0, abs=1e-9)


def test_align_keeps_the_scale_of_metric_pairs_and_brings_the_others_to_it(scene):
    depth = predict_like_depth(scene, [(0, 1), (1, 2)])
    network = predict_like_network(scene, [(2, 3), (3, 4), (4, 2)], PairErrors(scale=0.5))
    made = replace(scene, predictions=depth.predictions + network.predictions).without_priors()
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.metric
    assert (alignment.pair_scale[:2] == 1.0).all()
    np.testing.assert_allclose(alignment.pair_scale[2:], network.pair_scale, rtol=1e-5)


def test_align_of_metric_pairs_is_not_shrunk_by_range_noise(scene):
    made = predict_like_depth(scene, complete_pairs(5, False), noise=0.02, seed=1)
    alignment = align(made.predictions, made.without_priors().views, CONFIG)
    assert (alignment.pair_scale == 1.0).all()
    assert_same_cameras(alignment.world_from_cam, made.world_from_cam, 1e-6, 1e-6)


def test_align_reduces_the_errors_of_single_pairs(scene):
    """The mean of many pairs is better than any one: that is what alignment is for."""
    before, after = [], []
    for seed in range(5):
        made = predict_like_depth(
            scene, complete_pairs(5, False), rotation_error=0.01, translation_error=0.01, seed=seed
        )
        alignment = align(made.predictions, made.views, CONFIG)
        ours, truth = relative(alignment.world_from_cam), relative(made.world_from_cam)
        after.append(np.linalg.norm((ours - truth)[1:, :3, 3], axis=1).mean())
        before.append(
            np.mean(
                [
                    np.linalg.norm((p.a_from_map_b - t)[:3, 3])
                    for p, t in zip(made.predictions[:4], truth[1:], strict=True)
                ]
            )
        )
    assert np.mean(after) < 0.9 * np.mean(before)


@pytest.fixture(scope="module")
def noisy():
    scene = construct_views(4, (48, 64), seed=5)
    return predict_like_network(scene, complete_pairs(4), seed=5).without_priors()


@pytest.fixture(scope="module")
def answer(noisy):
    return align(noisy.predictions, noisy.views, FINE)


class TestInvariances:
    def test_align_is_invariant_to_the_order_of_pairs(self, noisy, answer):
        order = np.random.default_rng(0).permutation(len(noisy.predictions))
        other = align([noisy.predictions[k] for k in order], noisy.views, FINE)
        assert_same_cameras(other.world_from_cam, answer.world_from_cam)
        np.testing.assert_allclose(other.pair_scale, answer.pair_scale[order], rtol=1e-4)

    def test_align_is_invariant_to_the_order_of_views(self, noisy, answer):
        order = [2, 0, 3, 1]
        place = {old: new for new, old in enumerate(order)}
        pairs = [replace(p, a=place[p.a], b=place[p.b]) for p in noisy.predictions]
        other = align(pairs, [noisy.views[k] for k in order], FINE)
        back = other.world_from_cam[[place[v] for v in range(4)]]
        assert_same_cameras(back, answer.world_from_cam)

    def test_align_is_invariant_to_the_scale_of_each_pair(self, noisy, answer):
        factors = np.exp(np.random.default_rng(1).normal(0, 1.0, len(noisy.predictions)))
        factors /= np.exp(np.log(factors).mean())
        pairs = [
            replace(
                p,
                pointmap_a=(p.pointmap_a * f).astype(np.float32),
                pointmap_b=(p.pointmap_b * f).astype(np.float32),
            )
            for p, f in zip(noisy.predictions, factors, strict=True)
        ]
        other = align(pairs, noisy.views, FINE)
        assert_same_cameras(other.world_from_cam, answer.world_from_cam)
        np.testing.assert_allclose(other.pair_scale * factors, answer.pair_scale, rtol=1e-4)

    def test_align_scales_with_the_pairs(self, noisy, answer):
        pairs = [
            replace(p, pointmap_a=p.pointmap_a * 1000, pointmap_b=p.pointmap_b * 1000)
            for p in noisy.predictions
        ]
        other = align(pairs, noisy.views, FINE)
        shrunk = other.world_from_cam.copy()
        shrunk[:, :3, 3] /= 1000
        assert_same_cameras(shrunk, answer.world_from_cam)

    def test_align_is_invariant_to_the_direction_of_pairs(self):
        scene = construct_views(4, (48, 64), seed=5)
        made = predict_like_depth(
            scene, complete_pairs(4, False), 0.003, 0.003, noise=0.003, seed=2
        )
        turned = [
            PairPrediction(
                p.b,
                p.a,
                p.pointmap_b,
                p.pointmap_a,
                p.confidence_b,
                p.confidence_a,
                invert(p.a_from_map_b),
                metric=True,
            )
            for p in made.predictions
        ]
        one, other = (align(p, made.views, FINE) for p in (made.predictions, turned))
        assert_same_cameras(one.world_from_cam, other.world_from_cam, 1e-5, 1e-5)

    def test_solve_pairs_is_invariant_to_the_frame_of_a_pair(self, noisy):
        """The same pairs in their second camera's frame: the solve is the same. Cameras are not:
        a pair says where the camera is whose frame it has, and of the other it says nothing."""
        turned = []
        for p, scale in zip(noisy.predictions, noisy.pair_scale, strict=True):
            b_from_a = invert(noisy.world_from_cam[p.b]) @ noisy.world_from_cam[p.a]
            b_from_a[:3, 3] /= scale
            turned.append(
                replace(
                    p,
                    a=p.b,
                    b=p.a,
                    pointmap_a=apply(b_from_a, p.pointmap_b.astype(np.float64)),
                    pointmap_b=apply(b_from_a, p.pointmap_a.astype(np.float64)),
                    confidence_a=p.confidence_b,
                    confidence_b=p.confidence_a,
                )
            )
        worlds = []
        for pairs in (noisy.predictions, turned):
            graph = build_graph(pairs, noisy.views, FINE, None)
            world = solve_pairs(graph, initialize(graph), FINE).solution.world
            worlds.append(np.concatenate(world, axis=1).T)
        scale, transform = umeyama(*worlds)
        apart = np.abs(apply(transform, scale * worlds[0]) - worlds[1]).max(axis=1)
        # As far as either converges, but for a point between two places that are as likely.
        assert np.quantile(apart, 0.99) < 1e-5

    def test_align_is_invariant_to_the_frame_of_the_second_map(self, noisy, answer):
        """Moving map b and telling so by a_from_map_b changes nothing."""
        move = make_transform(rotation_from_vector([0.4, -0.2, 1.0]), [0.3, 0.1, -0.5])
        pairs = [
            replace(p, pointmap_b=apply(invert(move), p.pointmap_b), a_from_map_b=move)
            for p in noisy.predictions
        ]
        other = align(pairs, noisy.views, FINE)
        np.testing.assert_allclose(other.pair_scale, answer.pair_scale, rtol=1e-4)

    def test_align_moves_with_the_frame_of_the_given_poses(self, noisy):
        """Moving the robot's base moves the world with it, and nothing else."""
        move = make_transform(rotation_from_vector([0.3, 1.1, -0.6]), [4.0, -2.0, 7.0])

        def given(base):
            return [
                replace(view, world_from_cam_prior=base @ pose)
                for view, pose in zip(noisy.views, noisy.world_from_cam, strict=True)
            ]

        one = align(noisy.predictions, given(np.eye(4)), FINE)
        other = align(noisy.predictions, given(move), FINE)
        np.testing.assert_allclose(other.world_from_cam, move @ one.world_from_cam, atol=1e-7)
        np.testing.assert_allclose(other.world_from_pair, move @ one.world_from_pair, atol=1e-7)
        np.testing.assert_allclose(other.pair_scale, one.pair_scale, rtol=1e-9)


def test_align_solves_a_long_sequence_of_views():
    scene = construct_views(20, (36, 48), seed=8, sweep=5.0)
    made = predict_like_network(scene, sequence_pairs(20), PairErrors(scale=0.3), seed=8)
    alignment = align(made.predictions, made.views, CONFIG)
    np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-4)


def test_align_solves_sixty_four_views_around_the_objects():
    scene = construct_views(64, (24, 32), seed=8, sweep=6.0)
    made = predict_like_network(scene, sequence_pairs(64, 1), PairErrors(scale=0.3), seed=8)
    config = replace(CONFIG, samples_per_view=128)
    alignment = align(made.predictions, made.views, config)
    assert alignment.converged
    assert alignment.pair_used.all()
    np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-4)


@pytest.mark.parametrize(
    "weighting", ["confidence", "sharpened", "soft_mask", "dynamic", "dynamic_confidence"]
)
def test_align_converges_with_every_weighting(scene, weighting):
    made = predict_like_network(scene, complete_pairs(5), seed=1)
    alignment = align(made.predictions, made.views, replace(CONFIG, weighting=weighting))
    assert alignment.converged
    assert_same_cameras(alignment.world_from_cam, made.world_from_cam, 0.1, 0.05)


class TestAlignment:
    def test_alignment_residuals_in_pixels_are_those_of_the_cameras(self, noisy):
        """Against a projection of all pixels, pair by pair."""
        everything = replace(FINE, samples_per_view=48 * 64)
        answer = align(noisy.predictions, noisy.views, everything)
        expected = []
        for e, pair in enumerate(noisy.predictions):
            pose = answer.world_from_pair[e]
            errors = []
            for v, points in ((pair.a, pair.pointmap_a), (pair.b, pair.pointmap_b)):
                world = apply(pose, answer.pair_scale[e] * points.astype(np.float64))
                world = apply(answer.correction(v), world)
                image = apply(invert(answer.world_from_cam[v]), world) @ answer.K[v].T
                rows, cols = np.mgrid[:48, :64]
                uv = image[..., :2] / image[..., 2:]
                errors.append(np.linalg.norm(uv - np.stack([cols, rows], -1), axis=-1).ravel())
            expected.append(np.median(np.concatenate(errors)))
        np.testing.assert_allclose(answer.pair_residual_px, expected, rtol=0.01)
        assert answer.view_residual_px.shape == (4,)
        assert answer.view_residual_px.min() > 0

    def test_alignment_says_why_the_solve_stopped(self, noisy, answer):
        assert answer.stop_reason.startswith("converged after")
        hasty = align(
            noisy.predictions, noisy.views, replace(CONFIG, max_iterations=1, tolerance=1e-9)
        )
        assert not hasty.converged
        assert "stopped after" in hasty.stop_reason
        assert any("raise alignment.max_iterations" in warning for warning in hasty.warnings)

    def test_alignment_condition_tells_a_line_from_a_room(self, scene, answer):
        assert 1.0 < answer.condition < 1e5
        line = np.zeros((48, 64, 3), dtype=np.float32)
        line[..., 0], line[..., 2] = 0.01 * np.arange(64), 1.0
        confidence = np.ones((48, 64), dtype=np.float32)
        pairs = [
            PairPrediction(a, b, line, line, confidence, confidence) for a, b in complete_pairs(5)
        ]
        views = scene.without_priors().views
        flat = align(pairs, views, CONFIG)
        assert flat.condition > 1e6
        assert any("on one line" in w and "'cam0', 'cam1'" in w for w in flat.warnings)
        assert any("the condition of the solve is" in w for w in flat.warnings)
        with pytest.raises(AlignmentError, match=r"alignment.max_condition = 1e\+06.*'cam4'"):
            align(pairs, views, replace(CONFIG, max_condition=1e6))

    def test_alignment_names_views_with_points_in_one_place(self, scene, noisy):
        place = np.ones((48, 64, 3), dtype=np.float32)
        pairs = [
            replace(
                p,
                pointmap_a=place if p.a == 3 else p.pointmap_a,
                pointmap_b=place if p.b == 3 else p.pointmap_b,
            )
            for p in noisy.predictions
        ]
        warnings = align(pairs, noisy.views, CONFIG).warnings
        assert "all points lie in one place, which fixes no pose: 'cam3'" in warnings
        assert not any(
            "one place" in w for w in align(noisy.predictions, noisy.views, CONFIG).warnings
        )

    @pytest.mark.parametrize("limit", ["max_residual", "max_residual_px"])
    def test_refuse_beyond_names_the_view_and_its_residual(self, noisy, answer, limit):
        residual = answer.view_residual_px if limit.endswith("px") else answer.view_residual
        worst, figure = int(np.argmax(residual)), float(residual.max())
        with pytest.raises(AlignmentError, match=rf"'cam{worst}' {figure:.3g}.*{limit}"):
            align(noisy.predictions, noisy.views, replace(FINE, **{limit: 0.99 * figure}))
        unknown = replace(answer, **{f"view_{limit.removeprefix('max_')}": np.full(4, np.nan)})
        with pytest.raises(AlignmentError, match=f"{limit} = 1 .* cannot be checked.*'cam0'"):
            refuse_beyond(unknown, noisy.views, replace(FINE, **{limit: 1.0}))
        accepted = align(noisy.predictions, noisy.views, replace(FINE, **{limit: 1.01 * figure}))
        np.testing.assert_array_equal(accepted.pair_scale, answer.pair_scale)
