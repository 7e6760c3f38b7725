"""align() from an earlier answer: the same as a fresh solve."""

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.placement import _Placing
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.testing.cameras import assert_same_cameras
from wildseg3d_ros.testing.pairs import (
    NETWORK_LIKE,
    complete_pairs,
    construct_views,
    predict_like_network,
)
from wildseg3d_ros.types import MaskCache

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
