"""align() from an earlier answer: the same as a fresh solve."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.initialization import _Placing
from wildseg3d_ros.alignment.graph.reads import Reads
from wildseg3d_ros.core.types import MaskCache
from wildseg3d_testing.cameras import assert_same_cameras
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    complete_pairs,
    construct_views,
    predict_like_network,
)

CONFIG = AlignmentConfig()
FINE = AlignmentConfig(tolerance=1e-7, max_iterations=100)


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
    def test_one_changed_view_alone_is_placed_and_the_answer_is_the_same(
        self, change, monkeypatch
    ):
        scene = construct_views(7, (48, 64), seed=2)
        made = predict_like_network(scene, complete_pairs(6), seed=2).without_priors()
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
            other = predict_like_network(after, complete_pairs(6), seed=9).without_priors()
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


class TestReads:
    def test_maps_that_were_read_before_are_not_read_again(self, with_wrong_pair, monkeypatch):
        made = with_wrong_pair
        maps = {id(m) for p in made.predictions for m in (p.pointmap_a, p.pointmap_b)}
        read, take = [], np.take

        def spy(array, *more, **named):
            read.append(id(array) in maps or id(array.base) in maps)
            return take(array, *more, **named)

        monkeypatch.setattr(np, "take", spy)
        first = align(made.predictions, made.views, CONFIG)
        assert any(read)
        read.clear()
        align(made.predictions, made.views, CONFIG, start=first)
        assert not any(read)
        from_memory = align(made.predictions, made.views, CONFIG, start=first)
        anew = align(made.predictions, made.views, CONFIG, start=replace(first, reads=None))
        assert (from_memory.world_from_cam == anew.world_from_cam).all()

    def test_an_array_that_was_filled_anew_is_read_anew(self):
        rng, pixels = np.random.default_rng(0), np.arange(30)
        array = rng.random((24, 32, 3)).astype(np.float32)
        past = Reads()
        past.points(array, pixels, "some")
        array[:] = rng.random(array.shape)
        read = Reads(past).points(array, pixels, "some")
        assert (array.reshape(-1, 3)[pixels] == read.T).all()

    def test_another_array_in_the_place_of_one_that_is_gone_is_read(self):
        pixels, reads = np.arange(4), Reads()
        for value in range(30):
            array = np.full((2, 2), value, dtype=np.float32)
            reads = Reads(reads)
            assert (reads.values(array, pixels, "all") == value).all()
            del array

    def test_pairs_are_known_by_their_maps(self, with_wrong_pair):
        pair, other = with_wrong_pair.predictions[:2]
        reads = Reads()
        for array in (pair.confidence_a, pair.confidence_b):
            reads.values(array, np.arange(5), "some")
        for array in (pair.pointmap_a, pair.pointmap_b):
            reads.points(array, np.arange(5), "some")
        assert not reads.knows(pair), "of an earlier solve, not of this one"
        assert Reads(reads).knows(pair)
        assert Reads(reads).knows(replace(pair, a=3))
        assert not Reads(reads).knows(other)
        assert not Reads(reads).knows(replace(pair, pointmap_b=pair.pointmap_b.copy()))
        assert not Reads(Reads(reads)).knows(pair), "what is not read again is forgotten"

    def test_an_answer_travels_without_them(self, with_wrong_pair):
        first = align(with_wrong_pair.predictions, with_wrong_pair.views, CONFIG)
        assert first.reads is not None
        assert pickle.loads(pickle.dumps(first)).reads is None
