"""Choice of pairs: connected, bounded, and by what the views have in common."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pairing import (
    choose_pairs,
    pairs_from_angles,
    pairs_from_exhaustive,
    parted_groups,
    viewing_angles,
    with_bridges,
)
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pairing.covisibility import pairs_from_covisibility
from wildseg3d_ros.pairing.similarity import image_similarity, pairs_from_similarity
from wildseg3d_ros.pairing.visibility import visibility
from wildseg3d_ros.sim.cameras import look_at
from wildseg3d_testing.scenes import construct_scene, fan_poses

K = np.array([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])


def blank(name, pose=None, depth=None, K=K, size=(48, 64)):
    return View(name, np.full((*size, 3), 90, np.uint8), K, depth, pose)


def strip(count, spacing, depth=1.0):
    """Cameras side by side that look at a wall."""
    turn = np.diag([1.0, -1.0, -1.0, 1.0])
    views = []
    for k in range(count):
        pose = turn.copy()
        pose[:3, 3] = [k * spacing, 0.0, depth]
        views.append(blank(f"c{k}", pose, np.full((48, 64), depth, np.float32)))
    return views


def degrees(count, pairs):
    return np.bincount(np.array(pairs).ravel(), minlength=count)


def assert_proper(count, pairs):
    """Ordered, each once, connected."""
    assert all(a < b for a, b in pairs)
    assert list(pairs) == sorted(set(pairs))
    assert set(components(count, pairs)) == {0}


@pytest.mark.parametrize("count", [2, 3, 7])
def test_choose_pairs_compares_all_of_few_views(count):
    views = [blank(f"c{k}") for k in range(count)]
    pairs = choose_pairs(views)
    assert pairs == pairs_from_exhaustive(count)
    assert len(pairs) == count * (count - 1) // 2


def test_pairs_from_covisibility_pairs_neighbours_on_a_strip():
    # A view is 1.05 m wide on the wall; cameras more than one metre apart see nothing in common.
    views = strip(20, 0.3)
    pairs = choose_pairs(views, PairingConfig(max_pairs_per_view=4))
    assert_proper(20, pairs)
    assert {(k, k + 1) for k in range(19)} <= set(pairs)
    assert max(b - a for a, b in pairs) <= 3
    assert degrees(20, pairs).max() <= 4


def test_pairs_from_covisibility_keeps_and_uses_the_bound():
    scene = construct_scene(12, 64, 48, 5, arc_degrees=330)
    for bound in (3, 6):
        pairs = choose_pairs(scene.views, PairingConfig(max_pairs_per_view=bound))
        assert_proper(12, pairs)
        assert degrees(12, pairs).max() <= bound
        assert len(pairs) > 0.7 * bound * 12 / 2


def test_pairs_from_covisibility_go_beyond_nearest_neighbours():
    """Forty almost equal views: taking the largest overlaps alone would only link neighbours."""
    views = strip(40, 0.02)
    pairs = choose_pairs(views, PairingConfig(max_pairs_per_view=6))
    assert_proper(40, pairs)
    assert np.median([b - a for a, b in pairs]) > 3


def test_pairs_from_covisibility_connect_without_overlap():
    views = strip(10, 5.0)
    pairs = pairs_from_covisibility(views, PairingConfig(max_pairs_per_view=2))
    assert_proper(10, pairs)
    assert len(pairs) == 9, "only what connects them"


def test_visibility_ends_at_a_wall():
    facing = strip(2, 0.05)
    pose = look_at(np.array([0.0, 0.0, -1.0]), np.array([0.0, 0.001, 0.0]))
    wall_between = blank("behind", pose, np.full((48, 64), 0.9, np.float32))
    similarity, _ = visibility([*facing, wall_between])
    assert (similarity[0, 1] > 0).mean() > 0.9
    assert (similarity[0, 2] > 0).mean() == 0.0


def test_visibility_parallax_is_the_angle_between_rays():
    similarity, parallax = visibility(strip(2, 0.2))
    seen = similarity[0, 1] > 0
    assert 0.7 < seen.mean() < 0.9, "a fifth of a metre of a view of one metre is out of sight"
    # Isosceles in the middle between the cameras, which is where both rays are steepest.
    assert parallax[0, 1][seen].max() == pytest.approx(2 * np.arctan(0.1), rel=0.01)
    assert similarity[0, 1][seen] == pytest.approx(np.cos(parallax[0, 1][seen]), abs=1e-6)


def test_pairs_from_covisibility_without_depth():
    scene = construct_scene(14, 64, 48, 4, arc_degrees=340, with_depth=False)
    pairs = choose_pairs(scene.views, PairingConfig(max_pairs_per_view=4))
    assert_proper(14, pairs)
    axes = scene.world_from_cam[:, :3, 2]
    between = np.rad2deg([np.arccos(axes[a] @ axes[b]) for a, b in pairs])
    every = np.rad2deg(
        [np.arccos(np.clip(axes[a] @ axes[b], -1, 1)) for a, b in pairs_from_exhaustive(14)]
    )
    assert np.median(between) < 0.7 * np.median(every)


def test_choose_pairs_by_poses_alone():
    """RGB views without depth and without intrinsics: a usual lens will do."""
    scene = construct_scene(14, 64, 48, 4, arc_degrees=340, with_depth=False)
    views = [View(v.name, v.image, None, None, v.world_from_cam_prior) for v in scene.views]
    config = PairingConfig(max_pairs_per_view=4)

    def never(_):
        raise AssertionError("similarity is a guess; poses are known")

    pairs = choose_pairs(views, config, never)
    assert_proper(14, pairs)
    assert degrees(14, pairs).max() <= 4
    exact = set(choose_pairs(scene.views, config))
    assert len(exact & set(pairs)) > 0.7 * len(exact)


def test_choose_pairs_by_similarity_where_poses_are_missing():
    """Three views in a row look alike, whatever their order says."""
    similarity = np.full((9, 9), 0.1)
    for group in ((0, 4, 8), (1, 3, 7), (2, 5, 6)):
        similarity[np.ix_(group, group)] = 0.9
    np.fill_diagonal(similarity, 0.0)
    views = [blank(f"c{k}", K=None) for k in range(9)]
    pairs = choose_pairs(views, PairingConfig(max_pairs_per_view=4), lambda _: similarity)
    assert_proper(9, pairs)
    for group in ((0, 4, 8), (1, 3, 7), (2, 5, 6)):
        assert {(a, b) for a in group for b in group if a < b} <= set(pairs)


def test_choose_pairs_attaches_views_without_poses_to_similar_ones():
    scene = construct_scene(12, 160, 120, 8, arc_degrees=150, with_priors=False)
    similarity = image_similarity(scene.views)
    assert similarity == pytest.approx(similarity.T)
    next_door = np.mean([similarity[k, k + 1] for k in range(11)])
    far_away = np.mean([similarity[k, k + 8] for k in range(4)])
    assert next_door > 1.5 * far_away
    pairs = pairs_from_similarity(similarity, PairingConfig(max_pairs_per_view=5))
    assert_proper(12, pairs)
    assert {(k, k + 1) for k in range(11)} <= set(pairs)


def test_choose_pairs_some_views_with_poses():
    scene = construct_scene(12, 160, 120, 8, arc_degrees=150)
    views = [
        View(v.name, v.image, v.K, v.depth, None if k in (4, 9) else v.world_from_cam_prior)
        for k, v in enumerate(scene.views)
    ]
    pairs = choose_pairs(views, PairingConfig(max_pairs_per_view=5))
    assert_proper(12, pairs)
    for unposed in (4, 9):
        partners = {b if a == unposed else a for a, b in pairs if unposed in (a, b)}
        assert len(partners) >= 5
        assert partners & {unposed - 1, unposed + 1}


@pytest.mark.parametrize("bound", [3, 4, 6])
@pytest.mark.parametrize("unposed", [(0,), (3, 4, 5), tuple(range(2, 14))])
def test_choose_pairs_keeps_the_bound_where_some_have_poses(bound, unposed):
    """All the others look most like one view with a pose."""
    views = [
        View(v.name, v.image, v.K, None, None if k in unposed else v.world_from_cam_prior)
        for k, v in enumerate(strip(16, 0.1))
    ]
    random = np.random.default_rng(0)
    similarity = random.uniform(0.1, 0.2, (16, 16))
    similarity = (similarity + similarity.T) / 2
    similarity[:, 1] = similarity[1] = 0.9
    np.fill_diagonal(similarity, 0.0)
    pairs = choose_pairs(views, PairingConfig(max_pairs_per_view=bound), lambda _: similarity)
    assert_proper(16, pairs)
    counts = degrees(16, pairs)
    assert counts.max() <= bound
    # Those without a pose get what there is, and those with one still meet each other.
    assert counts[list(unposed)].min() >= bound - 1
    posed = [pair for pair in pairs if not set(unposed) & set(pair)]
    assert len(posed) >= 15 - len(unposed)


def test_choose_pairs_only_one_view_with_a_pose():
    scene = construct_scene(10, 64, 48, 4, with_priors=False)
    views = list(scene.views)
    views[3] = View("cam_3", views[3].image, views[3].K, views[3].depth, np.eye(4))
    assert_proper(10, choose_pairs(views, PairingConfig(max_pairs_per_view=4)))


@pytest.mark.parametrize("bound", [2, 4, 7])
def test_pairs_from_similarity_keep_the_bound_of_a_common_view(bound):
    similarity = np.random.default_rng(bound).uniform(0.05, 0.1, (20, 20))
    similarity = (similarity + similarity.T) / 2
    similarity[0], similarity[:, 0] = 0.9, 0.9
    np.fill_diagonal(similarity, 0.0)
    pairs = pairs_from_similarity(similarity, PairingConfig(max_pairs_per_view=bound))
    assert np.bincount(np.array(pairs).ravel()).max() <= bound
    assert len(set(components(20, pairs))) == 1
    assert sum(0 in pair for pair in pairs) == bound


def test_choose_pairs_connects_blank_images_by_order():
    views = [blank(f"c{k}", K=None) for k in range(12)]
    pairs = choose_pairs(views, PairingConfig(max_pairs_per_view=3))
    assert_proper(12, pairs)


def test_choose_pairs_is_repeatable():
    scene = construct_scene(10, 64, 48, 4)
    config = PairingConfig(max_pairs_per_view=4)
    assert choose_pairs(scene.views, config) == choose_pairs(scene.views, config)


@pytest.mark.parametrize("seed", range(5))
def test_with_bridges_and_components_are_scipys(seed):
    rng = np.random.default_rng(seed)
    count = 14
    weights = np.triu(rng.random((count, count)) * (rng.random((count, count)) < 0.2), 1)
    pairs = [(int(a), int(b)) for a, b in np.argwhere(weights)]
    heaviest_first = sorted(pairs, key=lambda pair: -weights[pair])
    tree = with_bridges(count, [], heaviest_first)
    expected = minimum_spanning_tree(csr_matrix(np.where(weights > 0, 2.0 - weights, 0.0)))
    assert len(tree) == expected.nnz
    assert sum(2.0 - weights[pair] for pair in tree) == pytest.approx(expected.sum())
    given = heaviest_first[:4]
    bridged = with_bridges(count, given, pairs)
    assert set(given) <= bridged
    assert (components(count, sorted(bridged)) == components(count, pairs)).all()
    assert parted_groups(count, sorted(bridged), pairs) == []
    parted = parted_groups(count, given, pairs)
    for a, b in pairs:
        assert any(a in group for group in parted) == any(b in group for group in parted)
    alone, whole = components(count, given), components(count, pairs)
    assert {v for group in parted for v in group} == {
        v for v in range(count) if len(set(alone[whole == whole[v]])) > 1
    }
    for group in parted:
        assert len(set(alone[group])) == 1
    _, labels = connected_components(csr_matrix(weights), directed=False)
    group = components(count, pairs)
    for a in range(count):
        assert [labels[a] == label for label in labels] == [group[a] == g for g in group]
        assert group[a] == min(b for b in range(count) if labels[b] == labels[a])


class TestAngles:
    LIMITS = (np.deg2rad(5.0), np.deg2rad(20.0), np.deg2rad(35.0))

    def chosen(self, positions_degrees, config=PairingConfig()):
        """Cameras on a circle that look at its middle."""
        turn = np.deg2rad(np.abs(np.subtract.outer(positions_degrees, positions_degrees)))
        return pairs_from_angles(turn, np.ones_like(turn), self.LIMITS, config)

    def test_viewing_angles_of_cameras_at_one_point(self):
        scene = construct_scene(3, 80, 60, poses=fan_poses(3, 12.0), with_depth=False)
        angle, overlap = viewing_angles(scene.views)
        assert np.isnan(np.diag(angle)).all()
        np.testing.assert_allclose(np.rad2deg(angle[0, [1, 2]]), [12.0, 24.0], rtol=0.1)
        np.testing.assert_allclose(angle, angle.T)
        assert (overlap[0, 1:] > 0.7).all()

    def test_pairs_from_angles_between_the_limits(self):
        assert self.chosen([0, 2, 10, 40 - 15]) == [(0, 2), (1, 2), (2, 3)]

    def test_pairs_from_angles_bound_keeps_the_best(self):
        pairs = self.chosen(np.arange(12) * 5.0, PairingConfig(max_pairs_per_view=2))
        assert components(12, pairs).tolist() == [0] * 12
        apart = [5 * (b - a) for a, b in pairs]
        assert set(apart) == {10} or apart.count(10) >= len(pairs) - 3

    def test_pairs_from_angles_wide_pair_only_bridges(self):
        pairs = self.chosen([0, 10, 40, 50])
        assert pairs == [(0, 1), (1, 2), (2, 3)]

    def test_pairs_from_angles_groups_apart_beyond_the_bridge(self):
        pairs = self.chosen([0, 10, 80, 90])
        assert components(4, pairs).tolist() == [0, 0, 2, 2]
