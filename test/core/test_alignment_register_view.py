"""align_view() and fuse_view(): one view onto a world that stands."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align, align_view, fuse, fuse_view
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.errors import AlignmentError, InputError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.core.types import MaskCache
from wildseg3d_testing.cameras import assert_same_cameras
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    PairErrors,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
    sequence_pairs,
)
from wildseg3d_testing.points import errors_after, robust_similarity

CONFIG = AlignmentConfig()
COUNT, LAST = 7, 6


def others(made):
    return [p for p in made.predictions if LAST not in (p.a, p.b)]


def of_last(predictions):
    return [p for p in predictions if LAST in (p.a, p.b)]


def started(made, views=None):
    """The alignment and world of all views but the last."""
    views = made.views[:LAST] if views is None else views
    start = align(others(made), views, CONFIG)
    return start, fuse(others(made), views, start, CONFIG)


def added(made, start, world, masks=None):
    pairs = of_last(made.predictions)
    alignment = align_view(pairs, made.views, LAST, start, world, CONFIG, masks)
    points = fuse_view(pairs, made.views, LAST, alignment, world, CONFIG)
    return alignment, points


@pytest.mark.parametrize("kind", ["network", "depth"])
def test_align_view_without_noise_is_the_fresh_answer(kind):
    scene = construct_views(COUNT, (48, 64), seed=1)
    if kind == "network":
        made = predict_like_network(scene, complete_pairs(COUNT), PairErrors(), seed=1)
    else:
        made = predict_like_depth(scene, complete_pairs(COUNT), noise=0.0, seed=1)
    made = made.without_priors()
    fresh = align(made.predictions, made.views, CONFIG)
    alignment, world = added(made, *started(made))
    assert_same_cameras(alignment.world_from_cam, fresh.world_from_cam, 2e-5, 2e-5)
    np.testing.assert_allclose(alignment.K, fresh.K, rtol=1e-5)
    assert alignment.pair_used.all()
    expected = fuse(made.predictions, made.views, fresh, CONFIG)
    # The scale of a world without metres depends on its pairs.
    size = np.nanmedian(np.linalg.norm(expected.points[LAST], axis=-1))
    for v in range(COUNT):
        np.testing.assert_allclose(world.points[v], expected.points[v], atol=2e-4 * size)


def test_align_view_added_is_as_good_as_fresh_and_others_stay():
    ratios = []
    for seed in range(4):
        scene = construct_views(COUNT, (48, 64), seed=seed)
        made = predict_like_network(scene, complete_pairs(COUNT), seed=seed).without_priors()
        random = np.random.default_rng(seed)
        masks = MaskCache(
            tuple(np.zeros(view.size, dtype=np.int32) for view in made.views),
            tuple(random.random(view.size).astype(np.float32) for view in made.views),
            (),
        )
        start, before = started(made)
        alignment, world = added(made, start, before, masks)
        for v in range(LAST):
            assert world.points[v] is before.points[v]
            assert (alignment.world_from_cam[v] == start.world_from_cam[v]).all()
        assert alignment.metric == start.metric
        assert len(alignment.edges) == len(made.predictions)
        fresh = align(made.predictions, made.views, CONFIG, masks=masks)
        fused = fuse(made.predictions, made.views, fresh, CONFIG)
        ratios.append(errors_of_last(made, world.points) / errors_of_last(made, fused.points))
    assert np.exp(np.mean(np.log(ratios))) < 1.25, ratios


def errors_of_last(made, points):
    """Median distance of the last view's points from the truth, after the best similarity of all
    points: worlds made without given poses have a frame and scale of their own."""
    placed = robust_similarity(points, made.points)
    return np.nanmedian(errors_after(points[LAST], made.points[LAST], placed))


def test_align_view_replaced_forgets_its_past():
    scene = construct_views(COUNT + 1, (48, 64), seed=2)
    made = predict_like_network(scene, complete_pairs(COUNT), seed=2).without_priors()
    start = align(made.predictions, made.views[:COUNT], CONFIG)
    before = fuse(made.predictions, made.views[:COUNT], start, CONFIG)
    # Camera 7 stands where camera 6 stood.
    chosen = [*range(LAST), COUNT]
    after = replace(
        scene,
        views=tuple(scene.views[v] for v in chosen),
        world_from_cam=scene.world_from_cam[chosen],
        points=tuple(scene.points[v] for v in chosen),
        edges=tuple(scene.edges[v] for v in chosen),
    )
    other = predict_like_network(after, complete_pairs(COUNT), seed=9).without_priors()
    now = [
        new if LAST in (new.a, new.b) else same
        for new, same in zip(other.predictions, made.predictions, strict=True)
    ]
    alignment = align_view(of_last(now), other.views, LAST, start, before, CONFIG)
    fresh = align(now, other.views, CONFIG)
    assert_same_cameras(alignment.world_from_cam[:LAST], start.world_from_cam[:LAST], 1e-12, 1e-12)
    # Fresh answers differ by their own error.
    assert_same_cameras(alignment.world_from_cam, fresh.world_from_cam, 0.03, 0.02)
    moved = np.linalg.norm((alignment.world_from_cam - start.world_from_cam)[LAST, :3, 3])
    assert moved > 0.1


def test_align_view_rejects_and_names_a_wrong_pair():
    scene = construct_views(COUNT, (48, 64), seed=4)
    pairs = complete_pairs(COUNT)
    wrong = next(e for e, pair in enumerate(pairs) if LAST in pair)
    errors = replace(NETWORK_LIKE, wrong_pairs=(wrong,))
    made = predict_like_network(scene, pairs, errors, seed=4).without_priors()
    alignment, _ = added(made, *started(made))
    left_out = alignment.edges[~alignment.pair_used]
    assert [tuple(edge) for edge in left_out] == [pairs[wrong]]
    a, b = (made.views[v].name for v in pairs[wrong])
    assert any(f"('{a}', '{b}')" in warning for warning in alignment.warnings)


@pytest.mark.parametrize("count", [3, 5])
def test_align_view_nearly_half_of_its_pairs_wrong(count):
    scene = construct_views(COUNT, (48, 64), seed=4)
    pairs = complete_pairs(COUNT)
    mine = [e for e, pair in enumerate(pairs) if LAST in pair]
    wrong = sorted(np.random.default_rng(count).choice(mine, count, replace=False).tolist())
    errors = replace(NETWORK_LIKE, wrong_pairs=tuple(wrong))
    made = predict_like_network(scene, pairs, errors, seed=4).without_priors()
    alignment, _ = added(made, *started(made))
    left_out = alignment.edges[~alignment.pair_used]
    assert {tuple(edge) for edge in left_out} == {pairs[e] for e in wrong}
    assert alignment.converged


def test_align_view_all_pairs_wrong_is_ambiguous():
    scene = construct_views(COUNT, (48, 64), seed=4)
    pairs = complete_pairs(COUNT)
    wrong = tuple(e for e, pair in enumerate(pairs) if LAST in pair)
    made = predict_like_network(scene, pairs, replace(NETWORK_LIKE, wrong_pairs=wrong), seed=4)
    made = made.without_priors()
    alignment, _ = added(made, *started(made))
    assert any("do not rely" in text for text in alignment.warnings)
    assert not alignment.converged


def test_align_view_sparse_neighbourhood():
    scene = construct_views(COUNT, (48, 64), seed=5)
    made = predict_like_network(scene, sequence_pairs(COUNT, 1), seed=5).without_priors()
    alignment, world = added(made, *started(made))
    fresh = align(made.predictions, made.views, CONFIG)
    assert_same_cameras(alignment.world_from_cam, fresh.world_from_cam, 0.03, 0.03)
    assert np.isfinite(world.points[LAST]).all(-1).mean() > 0.9


def test_align_view_names_a_contradicting_prior():
    scene = construct_views(COUNT, (48, 64), seed=6)
    made = predict_like_network(scene, complete_pairs(COUNT), seed=6)
    start, world = started(made)
    shifted = make_transform(np.eye(3), [0.5, 0.0, 0.0]) @ made.world_from_cam[LAST]
    views = [*made.views[:LAST], replace(made.views[LAST], world_from_cam_prior=shifted)]
    alignment = align_view(of_last(made.predictions), views, LAST, start, world, CONFIG)
    assert alignment.prior_residual[LAST] == pytest.approx(0.5, abs=0.03)
    name = made.views[LAST].name
    assert any("given pose" in text and f"'{name}'" in text for text in alignment.warnings)


@pytest.fixture(scope="module")
def made():
    scene = construct_views(COUNT, (48, 64), seed=7)
    return predict_like_network(scene, complete_pairs(COUNT), seed=7).without_priors()


class TestWrongInput:
    def test_align_view_refuses_pairs_of_other_views(self, made):
        start, world = started(made)
        a, b = (made.views[v].name for v in (made.predictions[0].a, made.predictions[0].b))
        with pytest.raises(InputError, match=f"'{a}', '{b}'.* does not see the changed view"):
            align_view(made.predictions, made.views, LAST, start, world, CONFIG)

    @pytest.mark.parametrize("changed", [-1, COUNT])
    def test_align_view_refuses_an_unknown_view(self, made, changed):
        start, world = started(made)
        pairs = of_last(made.predictions)
        with pytest.raises(InputError, match=f"number {changed}; expected .* {COUNT} views"):
            align_view(pairs, made.views, changed, start, world, CONFIG)

    def test_align_view_refuses_no_pair(self, made):
        start, world = started(made)
        with pytest.raises(AlignmentError, match="no pair that sees the changed view"):
            align_view([], made.views, LAST, start, world, CONFIG)

    def test_fuse_view_refuses_other_pairs(self, made):
        start, world = started(made)
        pairs = of_last(made.predictions)
        alignment = align_view(pairs, made.views, LAST, start, world, CONFIG)
        with pytest.raises(InputError, match="12 pairs, these are 11 other ones"):
            fuse_view(pairs[1:], made.views, LAST, alignment, world, CONFIG)

    def test_align_view_refuses_empty_pairs(self, made):
        start, world = started(made)
        blind = [
            replace(p, confidence_a=0 * p.confidence_a, confidence_b=0 * p.confidence_b)
            if LAST in (p.a, p.b)
            else p
            for p in made.predictions
        ]
        with pytest.raises(AlignmentError, match="Pairs without enough points"):
            align_view(of_last(blind), made.views, LAST, start, world, CONFIG)


def test_align_view_is_checked_by_what_was_measured_alone():
    """A doubtful pair repeats the given poses: it bears out none of them."""
    scene = construct_views(COUNT, (48, 64), seed=1)
    made = predict_like_depth(scene, complete_pairs(COUNT), seed=1)
    start, world = started(made)
    pairs = of_last(made.predictions)
    for measured, verdict, text in (
        (0, "unchecked", "nothing measured checks"),
        (1, "unchecked", "a single other view"),
        (2, "ok", ""),
    ):
        told = [replace(pair, doubtful=k >= measured) for k, pair in enumerate(pairs)]
        alignment = align_view(told, made.views, LAST, start, world, CONFIG)
        found = alignment.cameras[LAST]
        assert found.verdict == verdict
        assert text in found.why
        assert any("nothing" in warning for warning in alignment.warnings) == (measured < 2)
