"""One camera's image is replaced: what is found again, and what stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, rotation_from_vector
from wildseg3d_ros.pipeline import build_scene, update_scene
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_ros.scene.replaced_view import has_moved
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.scenes import construct_scene

CHANGED = 2


class Counting:
    """A back end that keeps what it was asked for."""

    def __init__(self, backend):
        self.backend, self.asked = backend, []

    def check(self, views):
        self.backend.check(views)

    def predict(self, views, pairs, progress):
        self.asked += list(pairs)
        return self.backend.predict(views, pairs, progress)


def errors(scene, truth):
    """Position [m] and angle [rad] of each camera from the truth, in the first camera's frame."""
    off = []
    for v in range(len(truth.views)):
        found = invert(scene.world_from_cam[0]) @ scene.world_from_cam[v]
        exact = invert(truth.world_from_cam[0]) @ truth.world_from_cam[v]
        step = invert(exact) @ found
        angle = np.arccos(np.clip((np.trace(step[:3, :3]) - 1) / 2, -1, 1))
        off.append((np.linalg.norm(step[:3, 3]), angle))
    return np.array(off)


@pytest.mark.parametrize("saved", [False, True])
def test_update_scene_compares_new_pairs_only(saved, tmp_path):
    """Only pairs with the new image are compared and cameras stay."""
    noise = DepthNoise()
    truth = construct_scene(5, 160, 120, 6, 7, 200.0, noise, 0.004, 0.006)
    again = construct_scene(5, 160, 120, 6, 7, 200.0, noise, 0.004, 0.006)
    views = list(truth.views)
    # The same place at another time: other noise, a little darker.
    mirrored = again.views[CHANGED]
    fresh_depth = mirrored.depth * (1 + np.float32(0.0005))
    views[CHANGED] = dataclasses.replace(
        mirrored, image=(mirrored.image * 0.9).astype(np.uint8), depth=fresh_depth
    )
    counting = Counting(DepthPointmaps())
    masks = OracleMasks(truth)
    scene = build_scene(truth.views, pointmaps=counting, masks=masks)
    assert len(counting.asked) > 6
    if saved:
        save_scene(scene, tmp_path / "scene.ws3d")
        scene = load_scene(tmp_path / "scene.ws3d")
    counting.asked.clear()
    updated = update_scene(scene, views, f"cam_{CHANGED}", pointmaps=counting, masks=masks)
    assert counting.asked
    assert all(CHANGED in pair for pair in counting.asked)
    rebuilt = build_scene(views, pointmaps=DepthPointmaps(), masks=masks)
    assert set(map(tuple, updated.alignment.edges.tolist())) == set(
        map(tuple, rebuilt.alignment.edges.tolist())
    )
    # As good as a scene that is built anew.
    one, other = errors(updated, truth), errors(rebuilt, truth)
    assert one[:, 0].max() < max(1.5 * other[:, 0].max(), 0.002)
    assert one[:, 1].max() < max(1.5 * other[:, 1].max(), 0.003)
    assert updated.object_ids == scene.object_ids
    assert updated.frame_id == scene.frame_id
    np.testing.assert_array_equal(updated.images[CHANGED], views[CHANGED].image)
    for v in range(5):
        there = updated.world.valid(v) & rebuilt.world.valid(v)
        assert there.mean() > 0.5
        apart = np.linalg.norm(updated.world.points[v] - rebuilt.world.points[v], axis=2)[there]
        assert np.median(apart) < 0.004


def test_update_scene_pairs_without_metric_scale():
    """Pairs of a network without metres keep the scenes shape."""
    truth = construct_scene(4, 120, 90, 5, 3, with_depth=False, with_priors=False)
    oracle = OraclePointmaps(truth, scale_spread=0.3)
    counting = Counting(oracle)
    scene = build_scene(truth.views, pointmaps=counting, masks=OracleMasks(truth))
    assert not scene.alignment.metric
    counting.asked.clear()
    updated = update_scene(
        scene, truth.views, "cam_1", pointmaps=counting, masks=OracleMasks(truth)
    )
    assert {1} == set.intersection(*(set(pair) for pair in counting.asked))
    assert not updated.alignment.metric
    # Up to its unit, the scene is what it was.
    before = invert(scene.world_from_cam[0]) @ scene.world_from_cam
    after = invert(updated.world_from_cam[0]) @ updated.world_from_cam
    unit = float(np.linalg.norm(after[1:, :3, 3]) / np.linalg.norm(before[1:, :3, 3]))
    np.testing.assert_allclose(after[:, :3, :3], before[:, :3, :3], atol=2e-3)
    np.testing.assert_allclose(after[:, :3, 3], unit * before[:, :3, 3], atol=3e-3 * unit)


def test_update_scene_moved_camera():
    """A camera that was moved is compared with all."""
    truth = construct_scene(4, 120, 90, 5, 3)
    elsewhere = make_transform(rotation_from_vector([0.0, 0.1, 0.0]), [0.05, 0.0, 0.0])
    poses = [pose.copy() for pose in truth.world_from_cam]
    poses[1] = poses[1] @ elsewhere
    moved = construct_scene(4, 120, 90, 5, 3, poses=poses)
    scene = build_scene(truth.views, pointmaps=DepthPointmaps(), masks=OracleMasks(truth))
    assert not has_moved(scene, truth.views[1], 1)
    assert has_moved(scene, moved.views[1], 1)
    counting = Counting(DepthPointmaps())
    updated = update_scene(
        scene, moved.views, "cam_1", SceneConfig(), None, counting, OracleMasks(moved)
    )
    assert any(1 not in pair for pair in counting.asked)
    np.testing.assert_allclose(updated.world_from_cam, moved.world_from_cam, atol=2e-3)
