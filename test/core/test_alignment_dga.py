"""align() on constructed pairs with known truth: exactness, invariances, wrong input."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.placement import _Placing
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.errors import AlignmentError, ConfigError, ErrorCode, InputError
from wildseg3d_ros.geometry.transforms import (
    apply,
    invert,
    make_transform,
    rotation_angle,
    rotation_from_vector,
)
from wildseg3d_ros.testing.pairs import (
    NETWORK_LIKE,
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
    sequence_pairs,
)
from wildseg3d_ros.types import MaskCache, PairPrediction

CONFIG = AlignmentConfig()
FINE = AlignmentConfig(tolerance=1e-7, max_iterations=100)


@pytest.fixture(scope="module")
def scene():
    return construct_views(5, (48, 64), seed=3)


def without_priors(scene):
    views = tuple(replace(view, world_from_cam_prior=None) for view in scene.views)
    return replace(scene, views=views)


def relative(poses):
    return invert(poses[0]) @ poses


def assert_same_cameras(first, second, metres=1e-4, radians=1e-4):
    ours, theirs = relative(first), relative(second)
    np.testing.assert_allclose(ours[:, :3, 3], theirs[:, :3, 3], atol=metres)
    for a, b in zip(ours, theirs, strict=True):
        assert rotation_angle(a[:3, :3] @ b[:3, :3].T) < radians


@pytest.mark.parametrize("kind", ["network", "depth"])
def test_exact_input_gives_the_exact_answer(scene, kind):
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


def test_without_priors_the_world_is_the_first_cameras_frame(scene):
    made = without_priors(predict_like_depth(scene, complete_pairs(5, both_ways=False)))
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.metric
    assert not alignment.in_prior_frame
    assert np.isnan(alignment.prior_residual).all()
    np.testing.assert_allclose(alignment.world_from_cam[0], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(alignment.world_from_cam, relative(made.world_from_cam), atol=2e-6)


def test_pairs_of_unknown_scale_keep_the_product_of_their_scales(scene):
    made = without_priors(predict_like_network(scene, complete_pairs(5)))
    alignment = align(made.predictions, made.views, CONFIG)
    assert not alignment.metric
    assert np.log(alignment.pair_scale).mean() == pytest.approx(0.0, abs=1e-9)


def test_metric_pairs_keep_scale_one_and_pull_the_others_to_it(scene):
    depth = predict_like_depth(scene, [(0, 1), (1, 2)])
    network = predict_like_network(scene, [(2, 3), (3, 4), (4, 2)], PairErrors(scale=0.5))
    made = without_priors(replace(scene, predictions=depth.predictions + network.predictions))
    alignment = align(made.predictions, made.views, CONFIG)
    assert alignment.metric
    assert (alignment.pair_scale[:2] == 1.0).all()
    np.testing.assert_allclose(alignment.pair_scale[2:], network.pair_scale, rtol=1e-5)


def test_range_noise_does_not_shrink_a_metric_world(scene):
    made = predict_like_depth(scene, complete_pairs(5, False), noise=0.02, seed=1)
    alignment = align(made.predictions, without_priors(made).views, CONFIG)
    assert (alignment.pair_scale == 1.0).all()
    assert_same_cameras(alignment.world_from_cam, made.world_from_cam, 1e-6, 1e-6)


def test_alignment_repairs_pairs_that_contradict_each_other_slightly(scene):
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
    return without_priors(predict_like_network(scene, complete_pairs(4), seed=5))


@pytest.fixture(scope="module")
def answer(noisy):
    return align(noisy.predictions, noisy.views, FINE)


class TestInvariances:
    def test_order_of_pairs(self, noisy, answer):
        order = np.random.default_rng(0).permutation(len(noisy.predictions))
        other = align([noisy.predictions[k] for k in order], noisy.views, FINE)
        assert_same_cameras(other.world_from_cam, answer.world_from_cam)
        np.testing.assert_allclose(other.pair_scale, answer.pair_scale[order], rtol=1e-4)

    def test_order_of_views(self, noisy, answer):
        order = [2, 0, 3, 1]
        place = {old: new for new, old in enumerate(order)}
        pairs = [replace(p, a=place[p.a], b=place[p.b]) for p in noisy.predictions]
        other = align(pairs, [noisy.views[k] for k in order], FINE)
        back = other.world_from_cam[[place[v] for v in range(4)]]
        assert_same_cameras(back, answer.world_from_cam)

    def test_scale_of_each_pair(self, noisy, answer):
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

    def test_global_scale_scales_the_world(self, noisy, answer):
        pairs = [
            replace(p, pointmap_a=p.pointmap_a * 1000, pointmap_b=p.pointmap_b * 1000)
            for p in noisy.predictions
        ]
        other = align(pairs, noisy.views, FINE)
        shrunk = other.world_from_cam.copy()
        shrunk[:, :3, 3] /= 1000
        assert_same_cameras(shrunk, answer.world_from_cam)

    def test_direction_of_pairs(self):
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

    def test_frame_of_the_second_map(self, noisy, answer):
        """Moving map b and telling so by a_from_map_b changes nothing."""
        move = make_transform(rotation_from_vector([0.4, -0.2, 1.0]), [0.3, 0.1, -0.5])
        pairs = [
            replace(p, pointmap_b=apply(invert(move), p.pointmap_b), a_from_map_b=move)
            for p in noisy.predictions
        ]
        other = align(pairs, noisy.views, FINE)
        np.testing.assert_allclose(other.pair_scale, answer.pair_scale, rtol=1e-4)

    def test_frame_of_the_given_poses(self, noisy):
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


class TestWrongPairs:
    @pytest.mark.parametrize("seed", range(3))
    def test_network_pairs_are_found_and_named(self, scene, seed):
        wrong = tuple(np.random.default_rng(seed).choice(20, 2, replace=False))
        made = predict_like_network(
            scene, complete_pairs(5), replace(NETWORK_LIKE, wrong_pairs=wrong), seed
        )
        alignment = align(made.predictions, made.views, CONFIG)
        assert set(np.flatnonzero(~alignment.pair_used)) == set(wrong)
        for e in wrong:
            a, b = made.predictions[e].a, made.predictions[e].b
            assert any(f"('cam{a}', 'cam{b}')" in warning for warning in alignment.warnings)

    @pytest.mark.parametrize("wrong", range(10))
    def test_any_depth_pair_may_be_wrong_even_the_strongest(self, scene, wrong):
        made = predict_like_depth(
            scene, complete_pairs(5, False), 0.003, 0.003, 0.003, wrong_pairs=(wrong,), seed=4
        )
        alignment = align(made.predictions, made.views, CONFIG)
        assert np.flatnonzero(~alignment.pair_used).tolist() == [wrong]
        assert_same_cameras(alignment.world_from_cam, made.world_from_cam, 0.025, 0.01)

    def test_a_view_held_by_contradicting_pairs_only_is_named_not_lost(self, scene):
        # View 4 has two pairs, both wrong: one is kept, with a warning.
        pairs = [(a, b) for a, b in complete_pairs(5, False) if b < 4] + [(0, 4), (1, 4)]
        made = predict_like_depth(scene, pairs, 0.002, 0.002, 0.002, wrong_pairs=(6, 7), seed=2)
        alignment = align(made.predictions, made.views, CONFIG)
        assert alignment.pair_used[:6].all()
        assert alignment.pair_used[6:].any()
        assert any("'cam4'" in warning for warning in alignment.warnings)
        assert_same_cameras(alignment.world_from_cam[:4], made.world_from_cam[:4], 0.02, 0.01)

    def test_groups_without_a_pair_between_them_are_named(self, scene):
        made = predict_like_depth(scene, [(0, 1), (1, 3), (2, 4)])
        with pytest.raises(
            AlignmentError, match=r"'cam0', 'cam1', 'cam3'.*'cam2', 'cam4'"
        ) as info:
            align(made.predictions, made.views, CONFIG)
        assert info.value.code is ErrorCode.DISCONNECTED_VIEWS
        assert "pairing.max_pairs_per_view" in str(info.value)

    def test_a_pair_without_points_counts_as_no_pair(self, scene):
        made = predict_like_depth(scene, [(0, 1), (1, 2), (2, 3), (3, 4)])
        empty = made.predictions[2]
        pairs = list(made.predictions)
        pairs[2] = replace(empty, confidence_b=np.zeros_like(empty.confidence_b))
        with pytest.raises(AlignmentError, match=r"without enough points: \('cam2', 'cam3'\)"):
            align(pairs, made.views, CONFIG)


class TestDoubtfulInput:
    def test_nan_points_and_empty_confidences_do_no_harm(self, scene):
        made = predict_like_depth(scene, complete_pairs(5, False), 0.002, 0.002, seed=7)
        clean = align(made.predictions, made.views, CONFIG)
        random = np.random.default_rng(0)
        spoilt = []
        for p in made.predictions:
            points, sure = p.pointmap_a.copy(), p.confidence_a.copy()
            hit = random.random(sure.shape) < 0.2
            points[hit] = np.nan
            sure[random.random(sure.shape) < 0.1] = np.nan
            points[random.random(sure.shape) < 0.05] = np.inf
            spoilt.append(replace(p, pointmap_a=points, confidence_a=sure))
        nothing = made.predictions[3]
        spoilt[3] = replace(nothing, confidence_a=np.full_like(nothing.confidence_a, np.nan))
        alignment = align(spoilt, made.views, CONFIG)
        assert alignment.converged
        assert not alignment.pair_used[3]
        assert_same_cameras(alignment.world_from_cam, clean.world_from_cam, 5e-3, 5e-3)
        world = fuse(spoilt, made.views, alignment, CONFIG)
        for v in range(5):
            assert np.isfinite(world.points[v][world.valid(v)]).all()
            assert np.isfinite(world.confidence[v]).all()

    @pytest.mark.parametrize("kind", ["network", "depth"])
    def test_two_views_and_one_pair(self, kind):
        scene = construct_views(2, (48, 64), seed=1, sweep=0.5)
        make = predict_like_network if kind == "network" else predict_like_depth
        made = without_priors(make(scene, [(0, 1)]))
        alignment = align(made.predictions, made.views, CONFIG)
        assert alignment.converged
        assert alignment.pair_used.all()
        near = {"metres": 0.08, "radians": 0.04} if kind == "network" else {}
        scale = 1.0 if kind == "depth" else float(made.pair_scale[0])
        poses = alignment.world_from_cam.copy()
        poses[:, :3, 3] *= scale
        assert_same_cameras(poses, made.world_from_cam, **near)

    def test_a_view_that_is_only_ever_second_is_located(self, scene):
        """A network gives it no map in its own frame: its camera comes from resection."""
        pairs = [(a, b) for a, b in complete_pairs(5) if a != 4]
        made = without_priors(predict_like_network(scene, pairs, PairErrors(scale=0.2)))
        alignment = align(made.predictions, made.views, CONFIG)
        scale = made.pair_scale[0] / alignment.pair_scale[0]
        poses = alignment.world_from_cam.copy()
        poses[:, :3, 3] *= scale
        assert_same_cameras(poses, made.world_from_cam, 1e-3, 1e-3)

    def test_unknown_intrinsics_are_found(self, scene):
        made = predict_like_network(scene, complete_pairs(5), PairErrors(scale=0.2))
        views = tuple(replace(v, K=None, world_from_cam_prior=None) for v in made.views)
        pairs = [p for p in made.predictions if p.a != 4]
        alignment = align(pairs, views, CONFIG)
        expected = [view.K for view in made.views]
        np.testing.assert_allclose(alignment.K[:4], expected[:4], rtol=1e-3)
        # View 4 has no map of its own: focal length and pose are searched together.
        assert alignment.K[4, 0, 0] == pytest.approx(expected[4][0, 0], rel=0.01)

    def test_a_plane_is_enough(self):
        scene = construct_views(3, (48, 64), seed=2)
        flat = []
        for v, points in enumerate(scene.points):
            eye = scene.world_from_cam[v][:3, 3]
            ray = points - eye
            flat.append(eye - ray * (eye[2] / ray[..., 2:]))
        keep = [np.linalg.norm(p[..., :2], axis=-1) < 2.0 for p in flat]
        scene = replace(scene, points=tuple(flat))
        made = predict_like_depth(scene, complete_pairs(3, False))
        pairs = [
            replace(
                p, confidence_a=p.confidence_a * keep[p.a], confidence_b=p.confidence_b * keep[p.b]
            )
            for p in made.predictions
        ]
        alignment = align(pairs, made.views, CONFIG)
        assert alignment.converged
        np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-5)

    def test_identical_views(self, scene):
        same = replace(
            scene,
            views=(scene.views[0], replace(scene.views[0], name="twin"), scene.views[1]),
            world_from_cam=scene.world_from_cam[[0, 0, 1]],
            points=tuple(scene.points[k] for k in (0, 0, 1)),
        )
        made = predict_like_depth(same, complete_pairs(3, False))
        alignment = align(made.predictions, made.views, CONFIG)
        np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-5)

    def test_points_on_one_line_do_not_crash(self, scene):
        made = predict_like_depth(scene, complete_pairs(5, False))
        line = np.zeros_like(made.predictions[0].confidence_a)
        line[24, ::2] = 1.0
        pairs = [replace(p, confidence_a=line, confidence_b=line) for p in made.predictions]
        alignment = align(pairs, made.views, CONFIG)
        assert np.isfinite(alignment.world_from_cam).all()

    def test_views_of_different_sizes(self):
        scene = construct_views(3, (48, 64), seed=2)
        other = construct_views(3, (36, 80), seed=2)
        mixed = replace(
            scene,
            **{
                name: tuple(getattr(other if v == 1 else scene, name)[v] for v in range(3))
                for name in ("views", "points", "objects", "edges")
            },
        )
        made = predict_like_depth(mixed, complete_pairs(3, False))
        alignment = align(made.predictions, made.views, CONFIG)
        np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-5)

    def test_no_pairs_is_an_error(self, scene):
        with pytest.raises(AlignmentError, match="no pair"):
            align([], scene.views[:1], CONFIG)

    def test_a_pair_that_does_not_fit_its_views_is_an_error(self, scene):
        made = predict_like_depth(scene, [(0, 1)])
        with pytest.raises(InputError, match=r"\(0, 9\)"):
            align([replace(made.predictions[0], b=9)], made.views, CONFIG)
        small = construct_views(2, (24, 32), seed=0).views
        with pytest.raises(InputError, match=r"64x48.*32x24"):
            align(made.predictions, small, CONFIG)

    def test_a_device_that_is_not_there_is_an_error(self, scene):
        made = predict_like_depth(scene, [(0, 1)])
        with pytest.raises(ConfigError, match="cuda:77"):
            align(made.predictions, made.views[:2], replace(CONFIG, device="cuda:77"))

    def test_a_device_is_chosen_where_none_is_named(self, scene):
        made = predict_like_depth(scene, complete_pairs(3, False))
        views = made.views[:3]
        alignment = align(made.predictions, views, replace(CONFIG, device="auto"))
        np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam[:3], atol=1e-5)


@pytest.fixture(scope="module")
def with_wrong_pair():
    scene = construct_views(5, (48, 64), seed=6)
    errors = replace(NETWORK_LIKE, wrong_pairs=(3,))
    return predict_like_network(scene, complete_pairs(5), errors, seed=6)


class TestWarmStart:
    def test_it_gives_the_answer_of_a_fresh_solve_in_fewer_passes(self, with_wrong_pair):
        random = np.random.default_rng(0)
        masks = MaskCache(
            tuple(np.zeros(view.size, dtype=np.int32) for view in with_wrong_pair.views),
            tuple(random.random(view.size).astype(np.float32) for view in with_wrong_pair.views),
            (),
        )
        first = align(with_wrong_pair.predictions, with_wrong_pair.views, CONFIG)
        config = replace(CONFIG, tolerance=1e-6)
        fresh = align(with_wrong_pair.predictions, with_wrong_pair.views, config, masks=masks)
        warm = align(
            with_wrong_pair.predictions, with_wrong_pair.views, config, masks=masks, start=first
        )
        assert_same_cameras(warm.world_from_cam, fresh.world_from_cam, 2e-4, 2e-4)
        np.testing.assert_allclose(warm.pair_scale, fresh.pair_scale, rtol=1e-3)
        assert (warm.pair_used == fresh.pair_used).all()
        assert warm.iterations < fresh.iterations

    def test_a_new_view_is_placed_onto_the_known_ones(self, with_wrong_pair):
        old = [p for p in with_wrong_pair.predictions if 4 not in (p.a, p.b)]
        first = align(old, with_wrong_pair.views[:4], CONFIG)
        fresh = align(with_wrong_pair.predictions, with_wrong_pair.views, FINE)
        grown = align(with_wrong_pair.predictions, with_wrong_pair.views, FINE, start=first)
        assert_same_cameras(grown.world_from_cam, fresh.world_from_cam, 2e-4, 2e-4)
        assert (grown.pair_used == fresh.pair_used).all()

    @pytest.mark.parametrize("change", ["added", "replaced"])
    def test_one_changed_view_costs_a_fraction_and_gives_the_same_answer(
        self, change, monkeypatch
    ):
        scene = construct_views(7, (48, 64), seed=2)
        made = without_priors(predict_like_network(scene, complete_pairs(6), seed=2))
        if change == "added":
            old = [p for p in made.predictions if 5 not in (p.a, p.b)]
            first = align(old, made.views[:5], CONFIG)
            now, views = made.predictions, made.views[:6]
        else:
            # View 5 turns away: camera 6 stands in its place.
            first = align(made.predictions, made.views[:6], CONFIG)
            after = replace(
                scene,
                views=(*scene.views[:5], scene.views[6]),
                world_from_cam=scene.world_from_cam[[0, 1, 2, 3, 4, 6]],
                points=(*scene.points[:5], scene.points[6]),
                edges=(*scene.edges[:5], scene.edges[6]),
            )
            other = without_priors(predict_like_network(after, complete_pairs(6), seed=9))
            views = other.views
            now = [
                new if 5 in (new.a, new.b) else same
                for new, same in zip(other.predictions, made.predictions, strict=True)
            ]
        placed = []
        settle = _Placing._settle
        monkeypatch.setattr(
            _Placing, "_settle", lambda self, v, *rest: (placed.append(v), settle(self, v, *rest))
        )
        fresh, grown = align(now, views, CONFIG), align(now, views, CONFIG, start=first)
        assert len(placed) == 4 + 1
        assert placed[-1] == 5
        assert grown.iterations <= fresh.iterations
        fresh, grown = align(now, views, FINE), align(now, views, FINE, start=first)
        assert_same_cameras(grown.world_from_cam, fresh.world_from_cam, 2e-4, 2e-4)
        np.testing.assert_allclose(grown.pair_scale, fresh.pair_scale, rtol=1e-3)
        assert (grown.pair_used == fresh.pair_used).all()


def test_a_long_sequence_of_views():
    scene = construct_views(20, (36, 48), seed=8, sweep=5.0)
    made = predict_like_network(scene, sequence_pairs(20), PairErrors(scale=0.3), seed=8)
    alignment = align(made.predictions, made.views, CONFIG)
    np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-4)


def test_sixty_four_views_around_the_objects():
    scene = construct_views(64, (24, 32), seed=8, sweep=6.0)
    made = predict_like_network(scene, sequence_pairs(64, 1), PairErrors(scale=0.3), seed=8)
    config = replace(CONFIG, samples_per_view=128)
    alignment = align(made.predictions, made.views, config)
    assert alignment.converged
    assert alignment.pair_used.all()
    np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-4)


def test_views_that_show_nothing_in_common_are_named_not_mixed(scene):
    """A network answers for any two images: without confidence where they share nothing."""
    made = predict_like_network(scene, complete_pairs(5), PairErrors(scale=0.3))
    pairs = [
        p if (p.a < 3) == (p.b < 3) else replace(p, confidence_b=np.zeros_like(p.confidence_b))
        for p in made.predictions
    ]
    with pytest.raises(AlignmentError, match=r"'cam0', 'cam1', 'cam2'.*'cam3', 'cam4'") as info:
        align(pairs, made.views, CONFIG)
    assert info.value.code is ErrorCode.DISCONNECTED_VIEWS


@pytest.mark.parametrize(
    "weighting", ["confidence", "sharpened", "soft_mask", "dynamic", "dynamic_confidence"]
)
def test_every_weighting_aligns(scene, weighting):
    made = predict_like_network(scene, complete_pairs(5), seed=1)
    alignment = align(made.predictions, made.views, replace(CONFIG, weighting=weighting))
    assert alignment.converged
    assert_same_cameras(alignment.world_from_cam, made.world_from_cam, 0.1, 0.05)


class TestWhatAnAlignmentSays:
    def test_residuals_in_pixels_are_those_of_the_cameras(self, noisy):
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

    def test_it_says_why_it_stopped(self, noisy, answer):
        assert answer.stop_reason.startswith("converged after")
        hasty = align(
            noisy.predictions, noisy.views, replace(CONFIG, max_iterations=1, tolerance=1e-9)
        )
        assert not hasty.converged
        assert "stopped after" in hasty.stop_reason
        assert any("raise alignment.max_iterations" in warning for warning in hasty.warnings)

    def test_the_condition_tells_a_line_from_a_room(self, scene, answer):
        assert 1.0 < answer.condition < 1e5
        line = np.zeros((48, 64, 3), dtype=np.float32)
        line[..., 0], line[..., 2] = 0.01 * np.arange(64), 1.0
        sure = np.ones((48, 64), dtype=np.float32)
        pairs = [PairPrediction(a, b, line, line, sure, sure) for a, b in complete_pairs(5)]
        assert align(pairs, without_priors(scene).views, CONFIG).condition > 1e6

    @pytest.mark.parametrize("limit", ["max_residual", "max_residual_px"])
    def test_a_residual_beyond_the_limit_is_refused_with_the_figure(self, noisy, answer, limit):
        residual = answer.view_residual_px if limit.endswith("px") else answer.view_residual
        worst, figure = int(np.argmax(residual)), float(residual.max())
        with pytest.raises(AlignmentError, match=rf"'cam{worst}' {figure:.3g}.*{limit}"):
            align(noisy.predictions, noisy.views, replace(FINE, **{limit: 0.99 * figure}))
        accepted = align(noisy.predictions, noisy.views, replace(FINE, **{limit: 1.01 * figure}))
        np.testing.assert_array_equal(accepted.pair_scale, answer.pair_scale)
