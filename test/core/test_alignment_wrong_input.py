"""align() on wrong pairs and ambiguous input: what is found, named, left out or refused."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align, fuse
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.initialization import initialize
from wildseg3d_ros.alignment.graph.sampling import build_graph
from wildseg3d_ros.alignment.solve.gauss_newton import solve
from wildseg3d_ros.alignment.solve.residuals import refuse_beyond
from wildseg3d_ros.core.errors import AlignmentError, ConfigError, ErrorCode, InputError
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_testing.cameras import assert_same_cameras
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
)

CONFIG = AlignmentConfig()
FINE = AlignmentConfig(tolerance=1e-7, max_iterations=100)


@pytest.fixture(scope="module")
def scene():
    return construct_views(5, (48, 64), seed=3)


def with_points(made, change):
    """The problem with pointmaps changed by a function of array and generator."""
    rng = np.random.default_rng(0)
    predictions = tuple(
        replace(p, pointmap_a=change(p.pointmap_a, rng), pointmap_b=change(p.pointmap_b, rng))
        for p in made.predictions
    )
    return replace(made, predictions=predictions)


class TestOutlierPoints:
    @pytest.mark.parametrize(("share", "times"), [(0.003, 100), (0.01, 30), (0.02, 1000)])
    def test_align_withstands_a_few_distant_points(self, scene, share, times):
        """Sky, or no disparity: finite, and independent in every pair."""
        made = predict_like_network(scene, complete_pairs(5), seed=2).without_priors()
        clean = align(made.predictions, made.views, CONFIG)
        far = np.float32(times)
        spoilt = with_points(
            made, lambda m, rng: np.where(rng.random((*m.shape[:2], 1)) < share, m * far, m)
        )
        alignment = align(spoilt.predictions, spoilt.views, CONFIG)
        assert alignment.converged
        assert alignment.pair_used.all()
        assert_same_cameras(alignment.world_from_cam, clean.world_from_cam, 0.02, 0.01)

    def test_align_names_views_with_points_behind_the_camera(self, scene):
        made = predict_like_network(scene, complete_pairs(5), seed=2).without_priors()
        flip = np.float32([1, -1, -1])  # OpenGL's axes
        flipped = with_points(made, lambda m, _: m * flip)
        text = "points of 'cam0', 'cam1', 'cam2', 'cam3', 'cam4' lie behind"
        for problem, said in ((made, False), (flipped, True)):
            alignment = align(problem.predictions, problem.views, CONFIG)
            assert any(text in warning for warning in alignment.warnings) == said


class TestWrongPairs:
    @pytest.mark.parametrize("seed", range(3))
    def test_align_rejects_and_names_wrong_network_pairs(self, scene, seed):
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
    def test_align_rejects_any_wrong_depth_pair_even_the_strongest(self, scene, wrong):
        made = predict_like_depth(
            scene, complete_pairs(5, False), 0.003, 0.003, 0.003, wrong_pairs=(wrong,), seed=4
        )
        alignment = align(made.predictions, made.views, CONFIG)
        assert np.flatnonzero(~alignment.pair_used).tolist() == [wrong]
        assert_same_cameras(alignment.world_from_cam, made.world_from_cam, 0.025, 0.01)

    def test_align_names_a_view_whose_pairs_all_contradict_and_keeps_it(self, scene):
        # View 4 has two pairs, both wrong: one is kept, with a warning.
        pairs = [(a, b) for a, b in complete_pairs(5, False) if b < 4] + [(0, 4), (1, 4)]
        made = predict_like_depth(scene, pairs, 0.002, 0.002, 0.002, wrong_pairs=(6, 7), seed=2)
        alignment = align(made.predictions, made.views, CONFIG)
        assert alignment.pair_used[:6].all()
        assert alignment.pair_used[6:].any()
        assert any("'cam4'" in warning for warning in alignment.warnings)
        assert_same_cameras(alignment.world_from_cam[:4], made.world_from_cam[:4], 0.02, 0.01)

    def test_align_names_groups_without_a_pair_between_them(self, scene):
        made = predict_like_depth(scene, [(0, 1), (1, 3), (2, 4)])
        with pytest.raises(
            AlignmentError, match=r"'cam0', 'cam1', 'cam3'.*'cam2', 'cam4'"
        ) as info:
            align(made.predictions, made.views, CONFIG)
        assert info.value.code is ErrorCode.DISCONNECTED_VIEWS
        assert "pairing.max_pairs_per_view" in str(info.value)

    def test_align_counts_a_pair_without_points_as_none(self, scene):
        made = predict_like_depth(scene, [(0, 1), (1, 2), (2, 3), (3, 4)])
        empty = made.predictions[2]
        pairs = list(made.predictions)
        pairs[2] = replace(empty, confidence_b=np.zeros_like(empty.confidence_b))
        with pytest.raises(AlignmentError, match=r"without enough points: \('cam2', 'cam3'\)"):
            align(pairs, made.views, CONFIG)


class TestAmbiguousInput:
    @pytest.mark.parametrize("first", [0, 1])
    def test_build_graph_of_depth_at_every_other_pixel(self, first):
        """As of a smaller depth camera, registered to the images."""
        confidence, points = np.zeros((480, 640), np.float32), np.ones((480, 640, 3), np.float32)
        confidence[first::2, first::2] = 1.0
        pair = PairPrediction(0, 1, points, points, confidence, confidence, metric=True)
        views = [View(name, np.zeros((480, 640, 3), np.uint8)) for name in "ab"]
        graph = build_graph([pair], views, CONFIG)
        found = (graph.weight > 0).sum(axis=1)
        assert (abs(found / CONFIG.samples_per_view - 1.0) < 0.1).all()

    def test_align_withstands_nan_points_and_empty_confidences(self, scene):
        made = predict_like_depth(scene, complete_pairs(5, False), 0.002, 0.002, seed=7)
        clean = align(made.predictions, made.views, CONFIG)
        random = np.random.default_rng(0)
        spoilt = []
        for p in made.predictions:
            points, confidence = p.pointmap_a.copy(), p.confidence_a.copy()
            hit = random.random(confidence.shape) < 0.2
            points[hit] = np.nan
            confidence[random.random(confidence.shape) < 0.1] = np.nan
            points[random.random(confidence.shape) < 0.05] = np.inf
            spoilt.append(replace(p, pointmap_a=points, confidence_a=confidence))
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

    @pytest.mark.parametrize("absurd", [1e12, 1e20, 3e38])
    @pytest.mark.parametrize("kind", ["network", "depth"])
    def test_align_withstands_absurd_confidences_of_a_few_pixels(self, scene, kind, absurd):
        make = predict_like_network if kind == "network" else predict_like_depth
        made = make(scene, complete_pairs(5), **({} if kind == "network" else {"noise": 0.003}))
        spoilt = list(made.predictions)
        confidence = spoilt[4].confidence_a.copy()
        confidence[10:14, 10:14] = absurd
        spoilt[4] = replace(spoilt[4], confidence_a=confidence)
        clean, alignment = (align(p, made.views, CONFIG) for p in (made.predictions, spoilt))
        assert alignment.converged
        assert alignment.pair_used.all()
        assert_same_cameras(alignment.world_from_cam, clean.world_from_cam, 8e-3, 3e-3)
        world = fuse(spoilt, made.views, alignment, CONFIG)
        assert all(np.isfinite(points).all() for points in world.points)

    def test_solve_that_leaves_the_range_of_numbers_is_an_error(self, scene):
        made = predict_like_network(scene, complete_pairs(5), PairErrors(scale=0.2))
        graph = build_graph(made.predictions, made.views, CONFIG, None)
        poses = initialize(graph)
        graph.weight[:] *= 1e308
        with pytest.raises(AlignmentError, match=r"no number.*1e20"):
            solve(graph, poses)

    def test_refuse_beyond_names_a_camera_that_is_no_number(self, scene):
        made = predict_like_depth(scene, complete_pairs(5, False))
        alignment = align(made.predictions, made.views, CONFIG)
        poses = alignment.world_from_cam.copy()
        poses[3, 0, 0] = np.nan
        with pytest.raises(AlignmentError, match="no finite camera of 'cam3'"):
            refuse_beyond(replace(alignment, world_from_cam=poses), made.views, CONFIG)

    @pytest.mark.parametrize("kind", ["network", "depth"])
    def test_align_of_two_views_and_one_pair(self, kind):
        scene = construct_views(2, (48, 64), seed=1, sweep=0.5)
        make = predict_like_network if kind == "network" else predict_like_depth
        made = make(scene, [(0, 1)]).without_priors()
        alignment = align(made.predictions, made.views, CONFIG)
        assert alignment.converged
        assert alignment.pair_used.all()
        near = {"metres": 0.08, "radians": 0.04} if kind == "network" else {}
        scale = 1.0 if kind == "depth" else float(made.pair_scale[0])
        poses = alignment.world_from_cam.copy()
        poses[:, :3, 3] *= scale
        assert_same_cameras(poses, made.world_from_cam, **near)

    def test_align_locates_a_view_that_is_second_in_all_its_pairs(self, scene):
        """A network gives it no map in its own frame: its camera comes from resection."""
        pairs = [(a, b) for a, b in complete_pairs(5) if a != 4]
        made = predict_like_network(scene, pairs, PairErrors(scale=0.2)).without_priors()
        alignment = align(made.predictions, made.views, CONFIG)
        scale = made.pair_scale[0] / alignment.pair_scale[0]
        poses = alignment.world_from_cam.copy()
        poses[:, :3, 3] *= scale
        assert_same_cameras(poses, made.world_from_cam, 1e-3, 1e-3)

    def test_align_finds_unknown_intrinsics(self, scene):
        made = predict_like_network(scene, complete_pairs(5), PairErrors(scale=0.2))
        views = tuple(replace(v, K=None, world_from_cam_prior=None) for v in made.views)
        pairs = [p for p in made.predictions if p.a != 4]
        alignment = align(pairs, views, CONFIG)
        expected = [view.K for view in made.views]
        np.testing.assert_allclose(alignment.K[:4], expected[:4], rtol=1e-3)
        # View 4 has no map of its own: focal length and pose are searched together.
        assert alignment.K[4, 0, 0] == pytest.approx(expected[4][0, 0], rel=0.01)

    def test_align_of_a_plane(self):
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

    def test_align_of_identical_views(self, scene):
        same = replace(
            scene,
            views=(scene.views[0], replace(scene.views[0], name="twin"), scene.views[1]),
            world_from_cam=scene.world_from_cam[[0, 0, 1]],
            points=tuple(scene.points[k] for k in (0, 0, 1)),
        )
        made = predict_like_depth(same, complete_pairs(3, False))
        alignment = align(made.predictions, made.views, CONFIG)
        np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam, atol=1e-5)

    def test_align_of_points_on_one_line_is_finite(self, scene):
        made = predict_like_depth(scene, complete_pairs(5, False))
        line = np.zeros_like(made.predictions[0].confidence_a)
        line[24, ::2] = 1.0
        pairs = [replace(p, confidence_a=line, confidence_b=line) for p in made.predictions]
        alignment = align(pairs, made.views, CONFIG)
        assert np.isfinite(alignment.world_from_cam).all()

    def test_align_of_views_of_different_sizes(self):
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

    def test_align_without_pairs_is_an_error(self, scene):
        with pytest.raises(AlignmentError, match="no pair"):
            align([], scene.views[:1], CONFIG)

    def test_check_pairs_refuses_a_pair_that_does_not_fit_its_views(self, scene):
        made = predict_like_depth(scene, [(0, 1)])
        with pytest.raises(InputError, match=r"\(0, 9\)"):
            align([replace(made.predictions[0], b=9)], made.views, CONFIG)
        small = construct_views(2, (24, 32), seed=0).views
        with pytest.raises(InputError, match=r"64x48.*32x24"):
            align(made.predictions, small, CONFIG)

    def test_fuse_with_a_device_that_is_not_there_is_an_error(self, scene):
        made = predict_like_depth(scene, [(0, 1)])
        config = replace(CONFIG, device="cuda:77")
        alignment = align(made.predictions, made.views[:2], config)
        with pytest.raises(ConfigError, match="cuda:77"):
            fuse(made.predictions, made.views[:2], alignment, config)

    def test_fuse_chooses_a_device_where_none_is_named(self, scene):
        made = predict_like_depth(scene, complete_pairs(3, False))
        views, config = made.views[:3], replace(CONFIG, device="auto")
        alignment = align(made.predictions, views, config)
        np.testing.assert_allclose(alignment.world_from_cam, made.world_from_cam[:3], atol=1e-5)
        world = fuse(made.predictions, views, alignment, config)
        expected = fuse(made.predictions, views, alignment, CONFIG)
        np.testing.assert_array_equal(world.confidence, expected.confidence)


def test_align_names_views_that_show_nothing_in_common(scene):
    """A network answers for any two images: without confidence where they share nothing."""
    made = predict_like_network(scene, complete_pairs(5), PairErrors(scale=0.3))
    pairs = [
        p if (p.a < 3) == (p.b < 3) else replace(p, confidence_b=np.zeros_like(p.confidence_b))
        for p in made.predictions
    ]
    with pytest.raises(AlignmentError, match=r"'cam0', 'cam1', 'cam2'.*'cam3', 'cam4'") as info:
        align(pairs, made.views, CONFIG)
    assert info.value.code is ErrorCode.DISCONNECTED_VIEWS
