"""The oracles speak the protocols and say the truth."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.errors import Cancelled, InputError
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.masks import MaskBackend
from wildseg3d_ros.pointmaps import PointmapBackend
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.scenes import construct_scene

PAIRS = [(0, 1), (1, 2), (0, 2)]


@pytest.fixture(scope="module")
def scene():
    return construct_scene(views=3, width=80, height=60, seed=2)


def test_oracle_pointmaps_are_the_truth_in_the_first_cameras_frame(scene):
    backend: PointmapBackend = OraclePointmaps(scene)
    backend.check(scene.views)
    predictions = backend.predict(scene.views, PAIRS, Progress())
    assert [(p.a, p.b) for p in predictions] == PAIRS
    for p in predictions:
        assert p.metric
        np.testing.assert_array_equal(p.a_from_map_b, np.eye(4))
        for view, points, confidence in (
            (p.a, p.pointmap_a, p.confidence_a),
            (p.b, p.pointmap_b_in_a, p.confidence_b),
        ):
            assert points.dtype == np.float32
            assert np.isfinite(points).all()
            seen = scene.depths[view] > 0
            np.testing.assert_array_equal(confidence > 0, seen)
            world = apply(scene.world_from_cam[p.a], points[seen])
            np.testing.assert_allclose(world, scene.points[view][seen], atol=2e-5)


def test_oracle_pointmaps_have_a_scale_per_pair_when_asked(scene):
    metric = OraclePointmaps(scene).predict(scene.views, PAIRS, Progress())
    scaled = OraclePointmaps(scene, scale_spread=0.5).predict(scene.views, PAIRS, Progress())
    scales = []
    for p, q in zip(metric, scaled, strict=True):
        assert not q.metric
        seen = p.confidence_b > 0
        scale, rigid = umeyama(p.pointmap_b[seen], q.pointmap_b[seen])
        np.testing.assert_allclose(rigid, np.eye(4), atol=1e-4)
        np.testing.assert_allclose(q.pointmap_a, scale * p.pointmap_a, rtol=1e-4, atol=1e-5)
        scales.append(scale)
    assert len(np.unique(np.round(scales, 3))) == len(PAIRS)


def test_oracle_pointmaps_match_what_both_views_see(scene):
    oracle = OraclePointmaps(scene)
    for a, b in ((0, 1), (1, 0), (0, 2)):
        matched = oracle.matched(a, b)
        assert 0.2 < matched.mean() < 1.0
        # Independently: nothing lies between the other camera and a matched point.
        eye = scene.world_from_cam[b][:3, 3]
        points = scene.points[a][matched].astype(np.float64)[::7]
        share = np.linspace(0.3, 0.985, 60)
        between = eye + share[:, None, None] * (points - eye)
        inside = [
            (solid.distance(between.reshape(-1, 3)) < -0.002).reshape(60, -1).any(axis=0)
            for solid in scene.solids
        ]
        assert np.any(inside, axis=0).mean() < 0.02


def test_oracle_masks_are_the_truth_and_a_copy(scene):
    backend: MaskBackend = OracleMasks(scene)
    cache = backend.segment(scene.views, None, None, Progress())
    assert cache.object_ids == scene.object_ids
    for k, labels in enumerate(cache.labels):
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, scene.labels[k])
        np.testing.assert_array_equal(cache.scores[k] > 0.5, labels > 0)
        labels[:] = 0
    assert any(labels.any() for labels in scene.labels)


def test_oracle_pointmaps_refuse_other_views(scene):
    other = construct_scene(views=2, width=80, height=60)
    with pytest.raises(InputError, match="knows the views"):
        OraclePointmaps(scene).check(other.views)
    with pytest.raises(InputError, match="knows the views"):
        OracleMasks(scene).segment(other.views, None, None, Progress())


def test_oracle_pointmaps_can_be_cancelled(scene):
    with pytest.raises(Cancelled):
        OraclePointmaps(scene).predict(scene.views, PAIRS, Progress(cancelled=lambda: True))


def test_oracle_pointmaps_leave_out_pairs_that_share_nothing():
    scene = construct_scene(views=2, width=40, height=30)
    other = scene.world_from_cam.copy()
    other[1] = other[1] @ invert(np.diag([-1.0, 1.0, -1.0, 1.0]))  # looks the other way
    elsewhere = type(scene)(
        scene.views, other, scene.depths, scene.labels, scene.points, scene.solids
    )
    assert OraclePointmaps(elsewhere).predict(scene.views, [(0, 1)], Progress()) == []
