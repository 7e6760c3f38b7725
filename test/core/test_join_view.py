"""A view joins a standing scene: what is computed, what stays, and what is aligned anew."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wildseg3d_ros.core.errors import InputError, PromptError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.masks.geometric.backend import GeometricMasks
from wildseg3d_ros.masks.interactive.joining import join_labels
from wildseg3d_ros.pipeline import build_scene, update_scene
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.oracles import OracleMasks
from wildseg3d_testing.scenes import construct_scene


class Counting:
    """Back ends that keep what they were asked for."""

    def __init__(self):
        self.pointmaps, self.masks = DepthPointmaps(), GeometricMasks()
        self.pairs, self.segmented = [], []

    def check(self, views, changed=None):
        self.pointmaps.check(views)

    def predict(self, views, pairs, progress):
        self.pairs += list(pairs)
        return self.pointmaps.predict(views, pairs, progress)

    def segment(self, views, *rest):
        self.segmented.append([view.name for view in views])
        return self.masks.segment(views, *rest)

    def update(self, *given):
        raise AssertionError("a view that joins is segmented alone")


@pytest.fixture(scope="module")
def truth():
    return construct_scene(4, 240, 180, 5, 3, 90.0, DepthNoise(), 0.002, 0.003)


def first(truth):
    """The truth about three of the views."""
    parts = {n: getattr(truth, n)[:3] for n in ("views", "world_from_cam", "depths", "labels",
                                                "points")}  # fmt: skip
    return dataclasses.replace(truth, **parts)


def iou_by_object(labels, true):
    """(id, IoU) of the best object for each true one of a view."""
    found = {}
    for label in np.unique(true[true > 0]).tolist():
        mine = true == label
        ids, counts = np.unique(labels[mine & (labels > 0)], return_counts=True)
        scores = [
            (n / np.count_nonzero(mine | (labels == i)), int(i))
            for i, n in zip(ids, counts, strict=True)
        ]
        found[label] = max(scores, default=(0.0, 0))
    return found


def test_update_scene_joins_a_view_at_the_cost_of_one(truth):
    """The others keep points, masks and ids, and the new view shows the same objects by the same
    ids."""
    backend = Counting()
    scene = build_scene(truth.views[:3], pointmaps=backend, masks=backend)
    backend.pairs.clear()
    backend.segmented.clear()
    joined = update_scene(scene, truth.views, "cam_3", pointmaps=backend, masks=backend)
    assert backend.pairs
    assert all(3 in pair for pair in backend.pairs)
    assert backend.segmented == [["cam_3"]]
    assert joined.view_names == ("cam_0", "cam_1", "cam_2", "cam_3")
    assert set(scene.object_ids) <= set(joined.object_ids)
    for v in range(3):
        np.testing.assert_array_equal(joined.masks.labels[v], scene.masks.labels[v])
        np.testing.assert_array_equal(joined.world.points[v], scene.world.points[v])
    place = np.linalg.inv(joined.world_from_cam[0]) @ joined.world_from_cam[3]
    true = np.linalg.inv(truth.world_from_cam[0]) @ truth.world_from_cam[3]
    assert np.linalg.norm(place[:3, 3] - true[:3, 3]) < 0.008
    before = [iou_by_object(scene.masks.labels[v], truth.labels[v]) for v in range(3)]
    found = iou_by_object(joined.masks.labels[3], truth.labels[3])
    assert len(found) >= 4
    for label, (score, object_id) in found.items():
        shown = [each[label] for each in before if label in each]
        assert object_id == max(shown)[1]
        # Two flush things are one object in the scene of three views, and stay so.
        assert score > min(shown)[0] - 0.1, label
    assert joined.masks.tree is not None
    assert len(joined.masks.tree.leaves) == 4


def test_update_scene_joins_a_view_without_a_tree_of_masks(truth):
    masks, pointmaps = OracleMasks(truth), DepthPointmaps()
    scene = build_scene(truth.views[:3], pointmaps=pointmaps, masks=OracleMasks(first(truth)))
    joined = update_scene(scene, truth.views, "cam_3", pointmaps=pointmaps, masks=masks)
    assert joined.object_ids == scene.object_ids
    for score, _ in iou_by_object(joined.masks.labels[3], truth.labels[3]).values():
        assert score > 0.9


def test_update_scene_aligns_anew_where_the_pose_of_a_view_that_joins_is_wrong(truth):
    wrong = make_transform(np.eye(3), [0.12, 0.0, 0.0]) @ truth.views[3].world_from_cam_prior
    views = (*truth.views[:3], dataclasses.replace(truth.views[3], world_from_cam_prior=wrong))
    masks, pointmaps = OracleMasks(truth), DepthPointmaps()
    scene = build_scene(truth.views[:3], pointmaps=pointmaps, masks=OracleMasks(first(truth)))
    joined = update_scene(scene, views, "cam_3", pointmaps=pointmaps, masks=masks)
    assert any("'cam_3' does not fit the scene" in text for text in joined.warnings)
    assert joined.object_ids == scene.object_ids
    anew = build_scene(views, pointmaps=pointmaps, masks=masks)
    np.testing.assert_allclose(joined.world_from_cam, anew.world_from_cam, atol=2e-3)


def test_update_scene_names_what_cannot_join(truth):
    masks, pointmaps = OracleMasks(truth), DepthPointmaps()
    scene = build_scene(truth.views[:3], pointmaps=pointmaps, masks=OracleMasks(first(truth)))
    with pytest.raises(PromptError, match="cam_9"):
        update_scene(scene, truth.views, "cam_9", pointmaps=pointmaps, masks=masks)
    with pytest.raises(InputError, match="an update takes the scene's 3 views"):
        update_scene(scene, truth.views[1:], "cam_3", pointmaps=pointmaps, masks=masks)


def test_join_labels():
    """Each row: what others see of one of the view's own masks, 200 pixels long."""
    known, seen = np.zeros((5, 200), np.int32), np.zeros((5, 200), np.bool_)
    known[0, :120], seen[0, :120] = 4, True  # object 4, and its unseen end
    seen[1, :150] = True  # background, and its unseen end
    seen[2, :20] = True  # hardly seen: something new
    known[3, 10:], seen[3] = 7, True  # the same thing but for its outline
    known[4, :100], seen[4] = 8, True  # others see an object in a part of it
    found = np.repeat(np.arange(1, 6, dtype=np.int32)[:, None], 200, axis=1)
    found[4, 50:] = 0
    labels = join_labels(known, seen, found, 11)
    assert labels[0].tolist() == [4] * 200
    assert labels[1].tolist() == [0] * 200
    assert labels[2].tolist() == [0] * 20 + [11] * 180
    assert labels[3].tolist() == [7] * 200
    assert labels[4].tolist() == [8] * 100 + [0] * 100
