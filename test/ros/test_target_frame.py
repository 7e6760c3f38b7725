"""Frames of replies: the parameter, the request, and TF that stopped."""

from __future__ import annotations

import numpy as np
import pytest
import table
from listening import images_of
from rclpy.parameter import Parameter

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.ros.replay_node import optical_frame

VIEWS = table.make_views()
ON_RED = ("front", *table.pixel_on(VIEWS[0], table.RED))


def test_target_frame_parameter(world):
    """The parameter is for requests that name no frame."""
    node = world.scene_node(target_frame=optical_frame("left"))
    world.replay()
    client = world.client()
    client.build()
    in_world = client.segment([ON_RED], target_frame="world")
    assert in_world.frame_id == "world"
    found = client.segment([ON_RED])
    assert found.frame_id == optical_frame("left")
    expected = apply(invert(VIEWS[1].world_from_cam_prior), in_world.points)
    np.testing.assert_allclose(found.points, expected, atol=1e-5)

    def use(frame: str) -> None:
        (result,) = node.set_parameters([Parameter("target_frame", value=frame)])
        assert result.successful

    # One of the objects' boxes, by either way to ask.
    listed = client.list_objects()
    there = client.list_objects(optical_frame("left"))
    np.testing.assert_array_equal(listed[0].box.frame_from_box, there[0].box.frame_from_box)
    elsewhere = client.list_objects("world")[0].box.frame_from_box
    assert np.linalg.norm(elsewhere[:3, 3] - listed[0].box.frame_from_box[:3, 3]) > 0.1

    use("shelf")
    with pytest.raises(WildSeg3DError, match="'shelf'"):
        client.list_objects()
    with pytest.raises(WildSeg3DError, match=r"frame 'shelf'.*does not know") as unknown:
        client.segment([ON_RED])
    assert unknown.value.code == ErrorCode.UNKNOWN_FRAME
    use("")
    assert client.segment([ON_RED]).frame_id == "world"


def test_target_frame_tf_stopped(world):
    """An arm's driver died: its last pose is of another time than the images."""
    node = world.scene_node(tf_timeout=0.3)
    replay, client = world.replay(tf="dynamic"), world.client()
    assert client.build().warnings == ()
    replay._moving = None
    images_of(node, *table.NAMES)
    with pytest.raises(WildSeg3DError, match="older than asked for") as refused:
        client.build()
    assert refused.value.code == ErrorCode.MISSING_TF
    assert str(refused.value).startswith("extrapolation: the newest TF of 'world' -> ")
    node.set_parameters([Parameter("allow_missing_poses", value=True)])
    warnings = client.build().warnings
    assert f"the scene is in the frame '{optical_frame('front')}'" in warnings[0]
    found = client.segment([ON_RED])
    assert found.frame_id == optical_frame("front")
    assert found.warnings == warnings
