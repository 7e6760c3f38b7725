"""The tree of the geometric masks holds together, and sources of evidence count."""

from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Click, Prompt, View, WorldPointmaps
from wildseg3d_ros.masks.geometric.backend import GeometricMasks
from wildseg3d_ros.masks.surface.graph import PairEvidence
from wildseg3d_ros.scene.prompting import answer
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_testing.exact import alignment_of_cameras
from wildseg3d_testing.scenes import construct_scene


@pytest.fixture(scope="module")
def scene():
    """Views, alignment and world of five boxes and balls on a table, and the true labels."""
    truth = construct_scene(3, 240, 180, 4, 5, 220.0)
    views = truth.recording().views
    poses = [view.world_from_cam_prior for view in views]
    K = [view.K for view in views]
    points = tuple(
        apply(pose, back_project(view.depth, view.K)).astype(np.float32)
        for view, pose in zip(views, poses, strict=True)
    )
    world = WorldPointmaps(points, tuple((v.depth > 0).astype(np.float32) for v in views))
    return views, alignment_of_cameras(K, poses), world, truth.recording().object_masks


def segmented(scene, sources=()):
    return GeometricMasks(sources=sources).segment(*scene[:3], Progress())


def test_segment_tree_holds_the_masks(scene):
    cache = segmented(scene)
    tree = cache.tree
    assert cache.object_ids
    for record in cache.objects:
        assert 0.0 < record.score <= 1.0
        assert 0.0 <= record.ambiguity <= 1.0
        held = tree.leaves_of(record.nodes)
        for labels, leaves in zip(cache.labels, tree.leaves, strict=True):
            mine = (leaves >= 0) & held[leaves]
            np.testing.assert_array_equal(mine, labels == record.object_id)


def test_segment_every_measured_pixel_has_an_answer_or_is_background(scene):
    """A click on an object is answered, wherever it is and whatever became of the object."""
    views, alignment, world, truth = scene
    snapshot = Scene.create(views, alignment, world, segmented(scene))
    rng = np.random.default_rng(0)
    for view, mask in zip(views, truth, strict=True):
        for row, column in rng.permutation(np.argwhere(mask > 0))[:40]:
            cloud = answer(snapshot, Prompt((Click(view.name, float(column), float(row)),)))
            assert len(cloud) > 0
            assert cloud.masks[view.name].any()


class OneThing:
    """Says that patches over two objects are one thing."""

    def __init__(self, points, log_odds):
        self.points, self.log_odds = points, log_odds

    def evidence(self, surface):
        centres = surface.patches.centres
        a, b = (np.linalg.norm(centres - point, axis=1) < 0.06 for point in self.points)
        pairs = np.array([(i, j) for i in np.flatnonzero(a) for j in np.flatnonzero(b) if i != j])
        weight = np.full(len(pairs), 1.0)
        return PairEvidence(np.sort(pairs, axis=1), np.full(len(pairs), self.log_odds), weight)


def size_of_node_about(cache, pixels):
    """Leaves of the smallest node that holds the pixels (row, column) of the first view."""
    tree = cache.tree
    paths = [set(tree.path(int(tree.leaves[0][pixel]))) for pixel in pixels]
    node = min(set.intersection(*paths), key=lambda node: tree.stop[node] - tree.start[node])
    return int(tree.stop[node] - tree.start[node])


def test_segment_evidence_of_another_source_joins_objects(scene):
    cache, world = segmented(scene), scene[2]
    centres, pixels = [], []
    for name in cache.object_ids[:2]:
        points = [p[m == name] for p, m in zip(world.points, cache.labels, strict=True)]
        centres.append(np.median(np.concatenate(points), axis=0))
        apart = np.linalg.norm(world.points[0] - centres[-1], axis=2)
        pixels.append(np.unravel_index(np.nanargmin(apart), apart.shape))
    joined = segmented(scene, [OneThing(centres, 30.0)])
    parted = segmented(scene, [OneThing(centres, -30.0)])
    assert size_of_node_about(joined, pixels) < 0.5 * size_of_node_about(parted, pixels)


def test_segment_of_noise_alone():
    """A thousand patches of points in a box of noise: no error, and no claim to be certain."""
    rng = np.random.default_rng(0)
    K, pose = np.array([[200.0, 0, 119.5], [0, 200.0, 89.5], [0, 0, 1]]), np.eye(4)
    depth = rng.uniform(0.5, 0.9, (180, 240)).astype(np.float32)
    image = rng.integers(0, 255, (180, 240, 3)).astype(np.uint8)
    view = View("noise", image, K=K, depth=depth, world_from_cam_prior=pose)
    world = WorldPointmaps(
        (back_project(depth, K).astype(np.float32),), (np.ones(depth.shape, np.float32),)
    )
    cache = GeometricMasks().segment([view], alignment_of_cameras([K], [pose]), world, Progress())
    assert all(record.score < 0.9 for record in cache.objects)


def test_segment_of_an_object_that_fills_the_image():
    """One box close before the camera: an answer, or background, never an error."""
    K, pose = np.array([[200.0, 0, 119.5], [0, 200.0, 89.5], [0, 0, 1]]), np.eye(4)
    row, column = np.indices((180, 240))
    depth = (0.3 + 0.0005 * np.abs(column - 120)).astype(np.float32)
    image = np.full((180, 240, 3), (180, 60, 50), np.uint8) + (row[..., None] % 3).astype(np.uint8)
    view = View("close", image, K=K, depth=depth, world_from_cam_prior=pose)
    world = WorldPointmaps(
        (back_project(depth, K).astype(np.float32),), (np.ones(depth.shape, np.float32),)
    )
    cache = GeometricMasks().segment([view], alignment_of_cameras([K], [pose]), world, Progress())
    assert len(cache.object_ids) <= 2
    assert cache.tree is not None
