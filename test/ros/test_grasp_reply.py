"""The parts of a reply that grasp planners ask for, against the constructed scene."""

from __future__ import annotations

import numpy as np
import pytest
import table
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import PointField

from wildseg3d_msgs.srv import DescribeObject
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.ros.messages.clouds import columns_from_cloud
from wildseg3d_ros.ros.messages.conversions import matrix_from_pose
from wildseg3d_ros.ros.messages.requests import describe_request, segment_request
from wildseg3d_ros.ros.replay_node import optical_frame

VIEWS = table.make_views()
POSES = [view.world_from_cam_prior for view in VIEWS]
CENTRE, RADIUS = np.array(table.BALLS[table.RED][0]), table.BALLS[table.RED][1]


def red(view: int = 0) -> tuple[str, int, int]:
    return (VIEWS[view].name, *table.pixel_on(VIEWS[view], table.RED))


@pytest.fixture
def client(live):
    return live[2]


def raw(client, **options) -> DescribeObject.Response:
    return client._call(client._describe, describe_request([red()], options))


def test_describe_reply_plain(client):
    """Nothing is sent that was not asked for."""
    reply = raw(client)
    names = [field.name for field in reply.cloud.fields]
    assert names == ["x", "y", "z", "rgb", "confidence", "view_count"]
    for cloud in (reply.context, reply.surroundings):
        assert (cloud.width, len(cloud.data), len(cloud.fields)) == (0, 0, 0)
    assert not reply.masks
    assert not reply.organized_clouds
    assert np.isnan(reply.coverage)
    assert np.isnan(reply.face_coverage).all()
    # These are small and always there.
    assert [point.camera for point in reply.view_points] == list(table.NAMES)
    assert reply.registration_residual == pytest.approx(0.002)
    plain = client.describe([red()])
    assert (plain.normals, plain.context, plain.views) == (None, None, None)
    lean = client.segment([red()])
    np.testing.assert_array_equal(plain.points, lean.points)
    np.testing.assert_array_equal(plain.box.frame_from_box, lean.box.frame_from_box)
    fields = client._call(client._segment, segment_request([red()], {})).cloud.fields
    assert [field.name for field in fields] == ["x", "y", "z", "rgb"]


def test_describe_reply_residual(client):
    """Not that of each camera's depth with itself, which is 0 here."""
    built = client.build()
    assert built.registration_residual == pytest.approx(0.002)
    assert client.describe([red()]).registration_residual == built.registration_residual


def test_describe_reply_normals_and_views(client):
    """Normals and who saw what."""
    found = client.describe([red()], include_surface=True)
    true = (found.points - CENTRE) / RADIUS
    cosine = (found.normals * true).sum(axis=1)
    assert np.degrees(np.arccos(np.clip(np.median(cosine), -1, 1))) < 2.0
    assert np.degrees(np.arccos(np.clip(np.percentile(cosine, 5), -1, 1))) < 8.0
    np.testing.assert_array_equal(found.confidence, 1.0)
    assert list(found.view_points) == list(table.NAMES)
    counted = np.zeros(len(found.points), int)
    for i, (name, place) in enumerate(found.view_points.items()):
        np.testing.assert_allclose(place, table.POSES[name][:3, 3], atol=1e-9)
        sees = (found.views >> i) & 1 == 1
        counted += sees
        facing = ((place - found.points) * true).sum(axis=1) / np.linalg.norm(
            place - found.points, axis=1
        )
        assert facing[sees].min() > -0.3  # nobody sees through the ball, but for the tolerance
        assert sees[facing > 0.3].mean() > 0.99
    np.testing.assert_array_equal(counted, found.view_count)


def test_describe_reply_surface_and_voxels(client):
    """Names and types of the fields, and thinning."""
    reply = raw(client, include_surface=True, voxel_size=0.01)
    fields = {field.name: field.datatype for field in reply.cloud.fields}
    normals = dict.fromkeys(("normal_x", "normal_y", "normal_z"), PointField.FLOAT32)
    assert list(fields)[4:] == ["confidence", "view_count", *normals, "views"]
    assert normals.items() <= fields.items()
    assert (fields["view_count"], fields["views"]) == (PointField.UINT8, PointField.UINT32)
    assert 50 < len(columns_from_cloud(reply.cloud)["x"]) < 800


def test_describe_reply_target_frame(client):
    """Everything comes in the frame that is asked for."""
    asked = {
        "include_surface": True, "include_context": True,
        "include_surroundings": True, "organized_cameras": ["front", "right"],
    }  # fmt: skip
    here = client.describe([red()], **asked)
    frame = optical_frame("left")
    there = client.describe([red()], target_frame=frame, **asked)
    cam_from_world = invert(POSES[1])
    assert there.frame_id == there.pose.header.frame_id == frame
    turn = cam_from_world[:3, :3]
    np.testing.assert_allclose(there.points, apply(cam_from_world, here.points), atol=1e-5)
    np.testing.assert_allclose(there.normals, here.normals @ turn.T, atol=1e-5)
    np.testing.assert_allclose(
        there.box.frame_from_box, cam_from_world @ here.box.frame_from_box, atol=1e-6
    )
    np.testing.assert_allclose(there.box.size, here.box.size, atol=1e-9)
    for part in ("context", "surroundings"):
        a, b = getattr(here, part), getattr(there, part)
        np.testing.assert_allclose(b.points, apply(cam_from_world, a.points), atol=1e-5)
    for name in ("front", "right"):
        a, b = here.organized[name], there.organized[name]
        np.testing.assert_allclose(b, apply(cam_from_world, a), atol=1e-5)
    for name, place in there.view_points.items():
        np.testing.assert_allclose(place, apply(cam_from_world, here.view_points[name]), atol=1e-9)


def test_describe_reply_box(client):
    """Box pose and coverage."""
    found = client.describe([red()], include_surface=True)
    assert isinstance(found.pose, PoseStamped)
    np.testing.assert_allclose(matrix_from_pose(found.pose.pose), found.box.frame_from_box)
    np.testing.assert_allclose(found.box.frame_from_box[:3, 2], [0, 0, 1], atol=1e-6)  # upright
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    assert (found.box.corners().min(axis=0) < low + 0.01).all()  # a cell of the fit is 10 mm
    assert (found.box.corners().max(axis=0) > high - 0.01).all()
    assert found.box.face_coverage[5] > 0.8  # from above; its rim is seen at a grazing angle
    assert found.box.face_coverage[4] < 0.5  # where it lies
    assert 0.3 < found.box.coverage < 0.95


def test_describe_reply_context_and_surroundings(client):
    found = client.describe([red()], include_context=True, include_surroundings=True)
    near, rest = found.context, found.surroundings
    assert 0.3 < np.ptp(near.points, axis=0).max() <= 0.33  # twice the ball's 0.16
    on_ball = np.abs(np.linalg.norm(near.points - CENTRE, axis=1) - RADIUS) < 2e-3
    assert near.on_object[on_ball & (near.points[:, 2] > 0.01)].mean() > 0.97
    assert on_ball[near.on_object].mean() > 0.97
    assert (np.abs(near.points[~near.on_object, 2]) < 1e-3).sum() > 500  # the table
    # The scene without the ball still has the other one, and the table, and no ghost.
    assert not (np.abs(np.linalg.norm(rest.points - CENTRE, axis=1) - RADIUS)
                [rest.points[:, 2] > 0.02] < 2e-3).any()  # fmt: skip
    green, radius = np.array(table.BALLS[table.GREEN][0]), table.BALLS[table.GREEN][1]
    assert (np.abs(np.linalg.norm(rest.points - green, axis=1) - radius) < 2e-3).sum() > 100
    assert (np.abs(rest.points[:, 2]) < 1e-3).sum() > 5000
    small = client.describe(
        [red()], include_context=True, context_size=0.1, surroundings_voxel_size=0.01
    ).context
    assert np.ptp(small.points, axis=0).max() <= 0.1
    assert 10 < len(small.points) < len(near.points) / 4


def test_describe_reply_organised_clouds(client):
    """Organised clouds lie on the image."""
    found = client.describe([red()], organized_cameras=["right", "front"], include_masks=True)
    assert list(found.organized) == ["right", "front"]
    for name, points in found.organized.items():
        view = table.NAMES.index(name)
        assert points.shape == (*table.SIZE, 3)
        known = np.isfinite(points).all(axis=-1)
        assert not known[~found.masks[name]].any()
        assert known[found.masks[name]].mean() > 0.97
        _, depth, _ = table.trace(POSES[view])
        z = apply(invert(POSES[view]), points[known].astype(float))[:, 2]
        np.testing.assert_allclose(z, depth[known], atol=1e-4)
    reply = raw(client, organized_cameras=["front"])
    cloud = reply.organized_clouds[0].cloud
    assert (cloud.height, cloud.width, cloud.is_dense) == (*table.SIZE, False)


def test_describe_reply_cached(client):
    """Answers that are kept are those that were computed."""
    asked = {"include_surface": True, "voxel_size": 0.004}
    first, again = client.describe([red()], **asked), client.describe([red(1)], **asked)
    np.testing.assert_array_equal(first.normals, again.normals)
    np.testing.assert_array_equal(first.box.frame_from_box, again.box.frame_from_box)
    client.build()  # a new scene starts anew
    np.testing.assert_allclose(client.describe([red()], **asked).normals, first.normals, atol=1e-3)
