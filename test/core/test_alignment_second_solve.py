"""Aligner: several solves of the same samples, each from the one before."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import Aligner, align, fuse
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.initialization import _Growing, continue_from, initialize
from wildseg3d_ros.alignment.graph.sampling import Samples, build_graph, weigh
from wildseg3d_ros.core.types import MaskCache
from wildseg3d_testing.cameras import assert_same_cameras
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    complete_pairs,
    construct_views,
    predict_like_network,
)

CONFIG = AlignmentConfig()


@pytest.fixture(scope="module")
def with_wrong_pair():
    scene = construct_views(5, (48, 64), seed=6)
    errors = replace(NETWORK_LIKE, wrong_pairs=(3,))
    return predict_like_network(scene, complete_pairs(5), errors, seed=6)


@pytest.fixture(scope="module")
def masks(with_wrong_pair):
    random = np.random.default_rng(0)
    sizes = [view.size for view in with_wrong_pair.views]
    return MaskCache(
        tuple(np.zeros(size, dtype=np.int32) for size in sizes),
        tuple(random.random(size).astype(np.float32) for size in sizes),
        (),
    )


class TestAligner:
    def test_aligner_second_solve_gives_the_answer_of_a_fresh_one_in_fewer_passes(
        self, with_wrong_pair, masks
    ):
        made, config = with_wrong_pair, replace(CONFIG, tolerance=1e-6)
        aligner = Aligner(made.predictions, made.views, config)
        first = aligner.solve()
        again = aligner.solve(masks)
        fresh = align(made.predictions, made.views, config, masks=masks)
        assert np.flatnonzero(~first.pair_used).tolist() == [3]
        assert_same_cameras(again.world_from_cam, fresh.world_from_cam, 2e-4, 2e-4)
        np.testing.assert_allclose(again.pair_scale, fresh.pair_scale, rtol=1e-3)
        assert (again.pair_used == fresh.pair_used).all()
        assert again.iterations < fresh.iterations

    def test_aligner_first_solve_and_fuse_are_those_of_the_functions(self, with_wrong_pair):
        made = with_wrong_pair
        aligner = Aligner(made.predictions, made.views, CONFIG)
        with pytest.raises(RuntimeError, match="solve"):
            aligner.fuse()
        alignment, world = aligner.solve(), aligner.fuse()
        expected = align(made.predictions, made.views, CONFIG)
        np.testing.assert_array_equal(alignment.world_from_cam, expected.world_from_cam)
        fused = fuse(made.predictions, made.views, expected, CONFIG)
        np.testing.assert_array_equal(world.points, fused.points)

    def test_aligner_keeps_the_samples_it_was_made_with(self, with_wrong_pair):
        """Maps that change in place are seen by a new aligner only."""
        made = with_wrong_pair
        pairs = [
            replace(
                p,
                pointmap_a=p.pointmap_a.copy(),
                pointmap_b=p.pointmap_b.copy(),
                confidence_a=p.confidence_a.copy(),
            )
            for p in made.predictions
        ]
        aligner = Aligner(pairs, made.views, CONFIG)
        unchanged = Samples.of(pairs, made.views, CONFIG)
        rows, cols = aligner._samples.graph.pixels[pairs[0].a][::7].T
        pairs[0].pointmap_a[rows, cols] *= 1.5
        pairs[1].pointmap_b[:] = pairs[2].pointmap_b
        pairs[4].confidence_a[rows, cols] = 0.0
        for name in ("x", "weight"):
            kept = getattr(aligner._samples.graph, name)
            np.testing.assert_array_equal(kept, getattr(unchanged.graph, name))
            anew = getattr(Aligner(pairs, made.views, CONFIG)._samples.graph, name)
            assert (anew != kept).any()

    def test_aligner_does_not_read_the_pairs_again_to_solve_again(
        self, with_wrong_pair, monkeypatch
    ):
        aligner = Aligner(with_wrong_pair.predictions, with_wrong_pair.views, CONFIG)
        monkeypatch.setattr(Samples, "of", None)
        before, after = aligner.solve(), aligner.solve()
        assert_same_cameras(after.world_from_cam, before.world_from_cam, 1e-3, 1e-3)

    def test_alignment_can_be_pickled(self, with_wrong_pair):
        first = align(with_wrong_pair.predictions, with_wrong_pair.views, CONFIG)
        copy = pickle.loads(pickle.dumps(first))
        np.testing.assert_array_equal(copy.world_from_pair, first.world_from_pair)


class TestContinueFrom:
    def test_continue_from_keeps_the_world_in_other_units(self, with_wrong_pair, masks):
        samples = Samples.of(with_wrong_pair.predictions, with_wrong_pair.views, CONFIG)
        before = weigh(samples, CONFIG)
        keep = np.arange(len(before.edges)) != 7
        before = before.select(keep)
        after = weigh(samples, CONFIG, masks)
        assert np.abs(after.unit[keep] / before.unit - 1).max() > 1e-3
        kept = np.arange(len(before.edges)) != 3
        poses = initialize(before)
        start, use = continue_from(before, poses, kept, after)
        assert np.flatnonzero(~use).tolist() == [3, 7]
        lengths = [
            (p.scale / g.unit)[e]
            for p, g, e in ((poses, before, slice(None)), (start, after, keep))
        ]
        ratio = lengths[1] / lengths[0]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
        np.testing.assert_allclose(start.translation[keep], ratio[0] * poses.translation)
        assert np.log(start.scale[keep]).mean() == pytest.approx(0.0, abs=1e-12)

    def test_continue_from_gives_up_where_the_views_would_fall_apart(self, with_wrong_pair):
        pairs = with_wrong_pair.predictions
        graph = build_graph(pairs, with_wrong_pair.views, CONFIG)
        kept = (graph.edges != 4).all(1)
        assert continue_from(graph, initialize(graph), kept, graph) is None


def test_initialize_leaves_known_pairs_and_finds_the_others_from_them(
    with_wrong_pair, monkeypatch
):
    graph = build_graph(with_wrong_pair.predictions, with_wrong_pair.views, CONFIG)
    everything = initialize(graph)
    is_known = (graph.edges != 4).all(1)
    found = []
    candidates = _Growing._candidates
    monkeypatch.setattr(
        _Growing, "_candidates", lambda self, v: (found.append(v), candidates(self, v))[1]
    )
    poses = initialize(graph, everything, is_known)
    assert found == [4]
    growth = poses.scale[is_known] / everything.scale[is_known]
    np.testing.assert_allclose(growth, growth[0], rtol=1e-12)
    np.testing.assert_array_equal(poses.rotation[is_known], everything.rotation[is_known])
    others = ~is_known & (np.arange(len(is_known)) != 3)
    np.testing.assert_allclose(poses.rotation[others], everything.rotation[others], atol=0.1)


def test_samples_of_tensors_are_those_of_arrays(with_wrong_pair):
    torch = pytest.importorskip("torch")
    names = ("pointmap_a", "pointmap_b", "confidence_a", "confidence_b")
    tensors = [
        replace(p, **{name: torch.from_numpy(getattr(p, name)) for name in names})
        for p in with_wrong_pair.predictions
    ]
    for weighting in ("sharpened", "dynamic"):
        config = replace(CONFIG, weighting=weighting)
        graphs = [
            build_graph(pairs, with_wrong_pair.views, config)
            for pairs in (with_wrong_pair.predictions, tensors)
        ]
        for name in ("x", "weight", "own_frame", "measured"):
            np.testing.assert_array_equal(*(getattr(graph, name) for graph in graphs))
