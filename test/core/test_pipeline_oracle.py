"""End to end with oracle back ends: what is lost, the pipeline itself lost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from wildseg3d_ros.alignment import align
from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.geometry.similarity import umeyama
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Click, Prompt
from wildseg3d_ros.pipeline import build_scene, segment
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps
from wildseg3d_testing.scenes import construct_scene


def most_interior(mask):
    """(u, v) of the pixel that is farthest from the mask's border."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return float(column), float(row)


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.fixture(
    scope="module", params=["metric", "unknown scales"], ids=["metric", "unknown-scales"]
)
def built(request):
    scale_spread = 0.0 if request.param == "metric" else 0.4
    truth = construct_scene(views=4, objects=9, seed=1)
    scene = build_scene(
        truth.views,
        pointmaps=OraclePointmaps(truth, scale_spread=scale_spread),
        masks=OracleMasks(truth),
    )
    return truth, scene


def test_segment_gives_each_object_in_every_view_by_one_click(built):
    truth, scene = built
    for label in truth.object_ids:
        for k, view in enumerate(truth.views):
            mask = truth.labels[k] == label
            if mask.sum() < 40:
                continue
            cloud = segment(scene, Prompt((Click(view.name, *most_interior(mask)),)))
            assert cloud.object_ids == (label,)
            for other, expected in zip(truth.views, truth.labels, strict=True):
                assert iou(cloud.masks[other.name], expected == label) > 0.99


def test_segment_clouds_lie_on_the_true_objects(built):
    truth, scene = built
    for label in truth.object_ids:
        k = int(np.argmax([(labels == label).sum() for labels in truth.labels]))
        click = Click(truth.views[k].name, *most_interior(truth.labels[k] == label))
        cloud = segment(scene, Prompt((click,)))
        assert len(cloud) > 50
        assert truth.distance_to_object(label, cloud.points).max() < 1e-3
        assert cloud.frame_id == "world"
        # Not a part of it: the cloud spans what all views together see of the object.
        seen = np.concatenate(
            [p[labels == label] for p, labels in zip(truth.points, truth.labels, strict=True)]
        )
        np.testing.assert_allclose(cloud.points.min(0), seen.min(0), atol=0.006)
        np.testing.assert_allclose(cloud.points.max(0), seen.max(0), atol=0.006)


def test_build_scene_keeps_true_cameras(built):
    truth, scene = built
    np.testing.assert_allclose(scene.world_from_cam, truth.world_from_cam, atol=1e-3)
    assert scene.warnings == ()


def test_build_scene_without_poses_is_right_up_to_a_similarity():
    truth = construct_scene(4, 96, 72, 6, seed=3, with_priors=False)
    scene = build_scene(
        truth.views,
        pointmaps=OraclePointmaps(truth, scale_spread=0.4),
        masks=OracleMasks(truth),
    )
    given = scene.world_from_cam[:, :3, 3]
    scale, rigid = umeyama(given, truth.world_from_cam[:, :3, 3])
    moved = scale * given @ rigid[:3, :3].T + rigid[:3, 3]
    np.testing.assert_allclose(moved, truth.world_from_cam[:, :3, 3], atol=1e-3)
    assert any("no camera pose is given" in text for text in scene.warnings)
    assert scene.frame_id == truth.views[0].frame_id


def test_build_scene_names_and_locates_a_view_without_a_pose():
    truth = construct_scene(4, 96, 72, 6, seed=3)
    views = list(truth.views)
    views[2] = dataclasses.replace(views[2], world_from_cam_prior=None)
    scene = build_scene(views, pointmaps=OraclePointmaps(truth), masks=OracleMasks(truth))
    (warning,) = scene.warnings
    assert f"no pose is given for camera {views[2].name};" in warning
    assert scene.frame_id == "world"
    np.testing.assert_allclose(scene.world_from_cam, truth.world_from_cam, atol=1e-3)


def test_build_scene_finds_and_names_unknown_focal_lengths():
    truth = construct_scene(4, 96, 72, 6, seed=3)
    views = [
        dataclasses.replace(view, K=None) if k in (1, 3) else view
        for k, view in enumerate(truth.views)
    ]
    scene = build_scene(
        views, pointmaps=OraclePointmaps(truth, scale_spread=0.4), masks=OracleMasks(truth)
    )
    np.testing.assert_allclose(scene.K, [view.K for view in truth.views], rtol=1e-3)
    (warning,) = scene.warnings
    assert "no intrinsics are given for camera 'cam_1' (91 px), 'cam_3' (91 px)" in warning
    assert "found from the pointmaps" in warning


@pytest.mark.parametrize(("stretched", "degrees"), [(10.0, 158), (0.05, 3)])
def test_align_warns_of_a_focal_length_that_no_lens_has(stretched, degrees):
    truth = construct_scene(2, 96, 72, 4, seed=3, arc_degrees=20, with_depth=False)
    views = [dataclasses.replace(view, K=None, world_from_cam_prior=None) for view in truth.views]
    (pair,) = OraclePointmaps(truth).predict(truth.views, [(0, 1)], Progress())
    aside = np.float32([stretched, stretched, 1.0])
    pair = dataclasses.replace(
        pair, pointmap_a=pair.pointmap_a * aside, pointmap_b=pair.pointmap_b * aside
    )
    warnings = align([pair], views, SceneConfig().alignment).warnings
    (warning,) = (text for text in warnings if "'cam_0'" in text and "field of view" in text)
    assert f"of {degrees} degrees along 96 px" in warning


def test_build_scene_keeps_its_shape_with_wrong_kinematics():
    truth = construct_scene(4, 96, 72, 6, seed=5, translation_sigma=0.004, rotation_sigma=0.004)
    scene = build_scene(truth.views, pointmaps=OraclePointmaps(truth), masks=OracleMasks(truth))
    # The world is the kinematics' as a whole, so it may be off as a whole; its shape may not.
    given = scene.world_from_cam[:, :3, 3]
    _, rigid = umeyama(given, truth.world_from_cam[:, :3, 3], with_scale=False)
    moved = given @ rigid[:3, :3].T + rigid[:3, 3]
    np.testing.assert_allclose(moved, truth.world_from_cam[:, :3, 3], atol=1e-3)
