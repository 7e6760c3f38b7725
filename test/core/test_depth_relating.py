"""Which pairs of depth views are used: where others know a better place, or refute a view."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.core.errors import DisconnectedViews
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, rotation_from_vector
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pointmaps.depth.backend import (
    DepthPointmaps,
    _check_connected,
    _kept,
    _rejected,
)
from wildseg3d_ros.pointmaps.depth.config import DepthPointmapConfig
from wildseg3d_ros.pointmaps.depth.noise import DepthNoise as NoiseModel
from wildseg3d_ros.pointmaps.depth.registration.chain import chained
from wildseg3d_ros.pointmaps.depth.registration.dense import refine
from wildseg3d_ros.pointmaps.depth.registration.pair import Registration
from wildseg3d_ros.pointmaps.depth.registration.prior import PosePrior
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.rigs import with_pose_error
from wildseg3d_testing.scenes import construct_scene

POSES = [
    make_transform(rotation_from_vector([0.1 * k, -0.2 * k, 0.3]), [0.1 * k, 0.2, -0.3 * k])
    for k in range(5)
]
VIEWS = [
    View(f"cam_{k}", np.zeros((4, 4, 3), np.uint8), np.eye(3), None, POSES[k]) for k in range(5)
]


def between(a, b):
    return invert(POSES[a]) @ POSES[b]


def registered(consistency, compared=1000, overlap=0.5, origin="refined"):
    support = round(compared * (2.0 * consistency - 1.0))
    return Registration(
        np.eye(4), origin, overlap, consistency=consistency, support=support, compared=compared
    )


def kept(found):
    return set(_kept(VIEWS, found, _rejected(found), Progress()))


def test_chained_goes_by_others_either_way():
    known = {(0, 1): between(0, 1), (2, 1): between(2, 1), (2, 3): between(2, 3)}
    np.testing.assert_allclose(chained(known, 0, 3), between(0, 3), atol=1e-12)
    np.testing.assert_allclose(chained(known, 3, 0), between(3, 0), atol=1e-12)
    assert chained(known, 0, 4) is None


def test_chained_takes_the_fewest():
    wrong = between(0, 1) @ make_transform(np.eye(3), [1.0, 0, 0])
    known = {(0, 1): wrong, (1, 2): between(1, 2), (2, 3): between(2, 3), (0, 4): between(0, 4),
             (3, 4): between(3, 4)}  # fmt: skip
    np.testing.assert_allclose(chained(known, 0, 3), between(0, 3), atol=1e-12)


def test_refuted_pair_of_views_that_others_bear_out_is_not_used():
    found = {(0, 1): registered(0.98), (1, 2): registered(0.97), (0, 2): registered(0.4)}
    assert _rejected(found) == set()
    assert kept(found) == {(0, 1), (1, 2)}


def test_view_that_nothing_bears_out_and_one_refutes_is_left_out():
    found = {
        (0, 1): registered(0.98),
        (0, 2): registered(0.2),
        # Its given pose would join it to the others.
        (1, 2): registered(0.0, 0, 0.0, "prior"),
    }
    assert _rejected(found) == {2}
    assert kept(found) == {(0, 1)}
    with pytest.raises(DisconnectedViews, match="What 'cam_2' measured contradicts") as error:
        _check_connected(VIEWS[:3], [], list(found), {2})
    assert "contradicts the other views" in error.value.reason


def test_view_that_more_refutes_than_bears_out_is_left_out():
    """It has slid along the table in one pair; right views are not blamed for its others."""
    found = {
        (0, 1): registered(0.98),
        (0, 2): registered(0.98),
        (1, 2): registered(0.98, 400),
        (0, 3): registered(0.95, 900),
        (1, 3): registered(0.1),
        (2, 3): registered(0.02, 1200),
    }
    assert _rejected(found) == {3}
    assert kept(found) == {(0, 1), (0, 2), (1, 2)}


def test_views_with_nothing_in_common_are_joined_by_their_poses():
    found = {(0, 1): registered(0.98), (1, 2): registered(0.0, 0, 0.0, "prior")}
    assert _rejected(found) == set()
    assert kept(found) == {(0, 1), (1, 2)}


def test_two_views_that_refute_each_other_are_kept():
    """Nothing tells which is wrong: the verdicts of both say so."""
    found = {(0, 1): registered(0.2)}
    assert found[0, 1].is_contradicted
    assert _rejected(found) == set()
    assert kept(found) == {(0, 1)}


def test_few_points_refute_nothing():
    assert not registered(0.2, compared=20).is_refuted
    assert not registered(0.2, compared=20).is_contradicted


def test_doubtful_pair_starts_again_from_where_the_others_say():
    truth = construct_scene(3, 160, 120, seed=5, arc_degrees=60, depth_noise=DepthNoise())
    backend, poses = DepthPointmaps(), truth.world_from_cam
    ready = {v: backend._prepare(view, False) for v, view in enumerate(truth.views)}
    right = {(a, b): invert(poses[a]) @ poses[b] for a, b in [(0, 1), (1, 2), (0, 2)]}
    found = {pair: replace(registered(0.98), a_from_b=right[pair]) for pair in [(0, 1), (1, 2)]}
    wrong = right[0, 2] @ make_transform(np.eye(3), [0.05, 0.0, 0.0])
    found[0, 2] = replace(registered(0.7, 500), a_from_b=wrong, support=200)
    with ThreadPoolExecutor(1) as pool:
        again = backend._from_others(pool, ready, found, Progress())
        assert set(again) == {(0, 2)}
        np.testing.assert_allclose(again[0, 2].a_from_b, right[0, 2], atol=0.005)
        assert not again[0, 2].is_doubtful
        # Where more agrees as it is, it stays.
        found[0, 2] = replace(found[0, 2], support=10**6)
        assert backend._from_others(pool, ready, found, Progress()) == {}


def test_poses_that_are_worse_than_is_said_of_them():
    """Those of a ruler, 30 mm and 3 degrees off, given as those of a calibration."""
    made = construct_scene(4, 320, 240, seed=41, arc_degrees=111.0, depth_noise=DepthNoise())
    views = with_pose_error(made.views, np.random.default_rng(3), 0.03, np.radians(3.0))
    config = DepthPointmapConfig(prior_translation_sigma=0.005, prior_rotation_sigma=0.01)
    progress, pairs = Progress(), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    found = DepthPointmaps(config).predict(views, pairs, progress)
    for pair in found:
        truth = invert(made.world_from_cam[pair.a]) @ made.world_from_cam[pair.b]
        if not pair.doubtful:
            np.testing.assert_allclose(pair.a_from_map_b, truth, atol=5e-3)
    assert sum(not pair.doubtful for pair in found) >= 3


def test_noise_of_far_surface_is_no_contradiction():
    """A floor from 0.9 m to 4 m, where noise is 20 times as large as here."""
    K = np.array([[280.0, 0, 160], [0, 280, 120], [0, 0, 1]])
    rows = np.repeat(np.arange(240.0)[:, None], 320, axis=1)
    down = np.sin(0.3) + np.cos(0.3) * (rows - 120) / 280
    depth = np.where(down > 0.15, 0.6 / np.maximum(down, 0.15), 0.0)
    rng, backend, noise = np.random.default_rng(0), DepthPointmaps(), NoiseModel()
    image = rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    frames = []
    for _ in range(2):
        measured = depth + 3.0 * noise.sigma(depth) * rng.normal(size=depth.shape) * (depth > 0)
        view = View("floor", image, K, measured.astype(np.float32))
        frames.append(backend._prepare(view, False).frame)
    found = refine(*frames, PosePrior(np.eye(4), 0.01, 0.01))
    assert found.before.consistency > 0.99
    # Of a camera that is 60 mm higher the floor stands before the other's.
    raised = make_transform(np.eye(3), [0.0, -0.06 * np.cos(0.3), -0.06 * np.sin(0.3)])
    both = [refine(*frames, PosePrior(pose, 1e-4, 1e-4)) for pose in (raised, invert(raised))]
    assert all(each is None or each.before.consistency < 0.8 for each in both)
