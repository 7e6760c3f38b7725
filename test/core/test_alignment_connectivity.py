"""What an alignment says of pairs that contradict each other, and of what nothing checks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment import align
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.solve.connectivity import ambiguities
from wildseg3d_ros.core.types import RelativePose
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
    sequence_pairs,
)

CONFIG = AlignmentConfig()


def aligned(pairs, wrong=(), seed=0, **options):
    """Network-like pairs of as many views as they name, without given poses."""
    scene = construct_views(1 + max(max(pair) for pair in pairs), (48, 64), seed)
    errors = replace(NETWORK_LIKE, wrong_pairs=tuple(wrong))
    made = predict_like_network(scene, pairs, errors, seed).without_priors()
    return align(made.predictions, made.views, CONFIG, **options)


def about(alignment, text):
    return [warning for warning in alignment.warnings if text in warning]


class TestRejectedPairs:
    @pytest.mark.parametrize("seed", range(3))
    def test_align_names_a_view_with_wrong_pairs_only(self, seed):
        pairs = complete_pairs(6)
        wrong = [e for e, pair in enumerate(pairs) if 5 in pair]
        alignment = aligned(pairs, wrong, seed)
        left = np.count_nonzero(~alignment.pair_used)
        assert about(alignment, "do not rely") == [
            f"{left} of the 10 pairs of 'cam5' contradict the others; do not rely on where it is"
        ]
        assert alignment.pair_used[[e for e in range(30) if e not in wrong]].all()

    def test_align_trusts_a_view_with_a_few_wrong_pairs(self):
        alignment = aligned(complete_pairs(6), [4, 9, 14, 19])
        assert np.flatnonzero(~alignment.pair_used).tolist() == [4, 9, 14, 19]
        assert not about(alignment, "do not rely")
        assert not about(alignment, "nothing")

    @pytest.mark.parametrize("seed", range(3))
    def test_align_names_both_pairs_of_a_tie(self, seed):
        pairs = sequence_pairs(8, 1)
        alignment = aligned(pairs, [pairs.index((2, 3))], seed)
        (warning,) = about(alignment, "nothing else can tell")
        assert "('cam2', 'cam3')" in warning
        assert "('cam3', 'cam2')" in warning
        assert "do not rely on where their views lie" in warning

    def test_align_of_wrong_pairs_only_does_not_converge(self):
        pairs = complete_pairs(6)
        alignment = aligned(pairs, range(len(pairs)))
        assert not alignment.converged
        assert about(alignment, "contradict each other throughout")
        assert "contradict each other throughout" in alignment.stop_reason
        assert not about(alignment, "max_iterations")

    def test_align_of_a_loop_that_one_pair_breaks_does_not_converge(self):
        """Six pairs around: each of them may be the wrong one."""
        ring = [(v, (v + 1) % 6) for v in range(6)]
        scene = construct_views(6, (48, 64), seed=0)
        made = predict_like_depth(scene, ring, 0.003, 0.003, 0.003, wrong_pairs=(1,))
        alignment = align(made.predictions, made.without_priors().views, CONFIG)
        assert not alignment.converged
        (warning,) = about(alignment, "nothing else can tell")
        assert all(f"('cam{a}', 'cam{b}')" in warning for a, b in ring)
        assert alignment.stop_reason == warning

    @pytest.mark.parametrize("seed", [5, 7, 8, 9])
    def test_align_rejects_wrong_metric_pairs(self, seed):
        """Their scale is known, so that they move the right ones as far as themselves."""
        wrong = np.random.default_rng(seed).choice(15, 3, replace=False)
        scene = construct_views(6, (48, 64), seed=seed + 50)
        made = predict_like_depth(
            scene, complete_pairs(6, False), 0.01, 0.01, 0.003, 0.05, tuple(wrong.tolist()), seed
        )
        alignment = align(made.predictions, made.without_priors().views, CONFIG)
        assert sorted(np.flatnonzero(~alignment.pair_used)) == sorted(wrong)


class TestUncheckedViews:
    def test_align_names_a_view_with_one_pair(self):
        alignment = aligned([*complete_pairs(5), (4, 5)])
        assert about(alignment, "nothing checks") == [
            (
                "constrained by a single other view, so that nothing checks where it is: "
                "'cam5' (by 'cam4')"
            )
        ]
        assert np.isnan(alignment.view_residual[5])
        assert np.isfinite(alignment.view_residual[:5]).all()

    def test_align_says_nothing_where_other_pairs_lead_around(self):
        assert not about(aligned(sequence_pairs(6, 2)), "nothing")

    def test_align_counts_a_relative_pose_as_a_check(self):
        scene = construct_views(3, (48, 64), 0)
        made = predict_like_depth(scene, [(0, 1), (1, 2)], noise=0.002).without_priors()
        end = np.linalg.inv(scene.world_from_cam[0]) @ scene.world_from_cam[2]
        known = [RelativePose(0, 2, end, 0.002, 0.002)]
        assert about(align(made.predictions, made.views, CONFIG), "nothing checks")
        told = align(made.predictions, made.views, CONFIG, relative_poses=known)
        assert not about(told, "nothing checks")

    def test_align_counts_given_poses_as_a_check(self):
        scene = construct_views(3, (48, 64), 0)
        made = predict_like_depth(scene, [(0, 1), (1, 2)], noise=0.002)
        assert not about(align(made.predictions, made.views, CONFIG), "nothing checks")
        # One pose says nothing about the others.
        views = [made.views[0], *made.without_priors().views[1:]]
        assert about(align(made.predictions, views, CONFIG), "nothing checks")

    def test_align_of_one_pair_has_no_residual(self):
        alignment = aligned([(0, 1)])
        assert np.isnan(alignment.pair_residual).all()
        assert np.isnan(alignment.view_residual).all()
        assert np.isnan(alignment.typical_residual)
        assert about(alignment, "nothing but their own pairs")


NAMES = tuple("abcdefghij")


def said(pairs, left_out=(), count=8, **known):
    edges = np.array(pairs)
    kept = ~np.isin(np.arange(len(edges)), left_out)
    return ambiguities(edges, kept, np.zeros(len(edges), dtype=bool), NAMES[:count], **known)[0]


class TestAmbiguities:
    def test_ambiguities_of_two_rings_are_the_pair_between_them(self):
        rings = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
        (warning,) = said([*rings, (5, 1)], count=6)
        assert warning.startswith("nothing checks how the views of ('b', 'f') lie")
        assert said([*rings, (5, 1), (0, 3)], count=6) == []

    def test_ambiguities_of_a_broken_ring_are_all_its_pairs(self):
        (warning,) = said([(0, 1), (1, 2), (2, 3), (3, 0)], left_out=[3], count=4)
        assert "the pairs ('d', 'a') (left out) and ('a', 'b'), ('b', 'c'), ('c', 'd')" in warning

    def test_ambiguities_of_both_directions_of_a_pair_are_that_nothing_checks_them(self):
        ring = [(0, 1), (1, 2), (2, 0)]
        (warning,) = said([*ring, (3, 0), (0, 3), (3, 1)], left_out=[5], count=4)
        assert "'d' (by 'a')" in warning

    def test_ambiguities_end_where_poses_of_both_sides_close_a_loop(self):
        chain = [(0, 1), (1, 2), (2, 3)]
        assert said(chain, count=4, posed=[0, 3]) == []
        assert said(chain, count=4, known=[(3, 0)]) == []
        (warning,) = said(chain, count=4, posed=[0, 2])
        assert "'d' (by 'c')" in warning

    def test_ambiguities_cut_a_long_list(self):
        (_, warning) = said([(v, v + 1) for v in range(9)], count=10)
        assert "('f', 'g'), ('g', 'h') and 1 more lie" in warning
