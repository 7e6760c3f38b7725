"""The robot is left out of what the node builds: the red ball is taken for its hand."""

from __future__ import annotations

import numpy as np
import pytest
import table
from rclpy.node import Node
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.ros.building.process import PIPELINE
from wildseg3d_ros.ros.messages.conversions import transform_from_matrix
from wildseg3d_ros.ros.qos import latched

CENTRE, RADIUS = table.BALLS[table.RED]
URDF = f"""<robot name="arm">
  <link name="hand"><collision><origin xyz="0 0 0.1"/>
    <geometry><sphere radius="{RADIUS}"/></geometry></collision></link>
  <link name="lost"><collision><geometry><box size="0.1 0.1 0.1"/></geometry></collision></link>
</robot>"""
PADDING = 0.015


def robot_state_publisher(world, text=URDF):
    """Says what the robot is and, under a prefix, where its hand is."""
    node = Node("robot_state_publisher", context=world.context)
    if text:
        node.create_publisher(String, "robot_description", latched()).publish(String(data=text))
    hand = make_transform(np.eye(3), np.array(CENTRE) - [0, 0, 0.1])
    transform = transform_from_matrix(hand, "world", "left/hand")
    node.create_publisher(TFMessage, "/tf_static", latched(10)).publish(
        TFMessage(transforms=[transform])
    )
    return world.add(node, 1)


def test_the_robot_of_the_description_is_in_no_cloud(world):
    robot_state_publisher(world)
    node = world.scene_node(
        PIPELINE,
        robot__description_topic="robot_description",
        robot__padding=PADDING,
        robot__frame_prefix="left/",
    )
    world.replay()
    client = world.client()
    built = client.build()
    (said,) = [text for text in built.warnings if "robot" in text]
    assert "link 'lost' of the robot is not left out" in said
    assert "'left/lost'" in said
    views = table.make_views()
    green = client.segment([("front", *table.pixel_on(views[0], table.GREEN))])
    centre, radius = table.BALLS[table.GREEN]
    away = np.linalg.norm(green.points - centre, axis=1)
    assert np.percentile(away, 80) < radius + 0.003
    with pytest.raises(WildSeg3DError) as error:
        client.segment([("front", *table.pixel_on(views[0], table.RED))])
    assert error.value.code in (ErrorCode.NO_OBJECT_AT_PIXEL, ErrorCode.NO_DEPTH_AT_PIXEL)
    scene = node._current.scene
    for v, true in enumerate(views):
        points = scene.world.points[v][scene.world.valid(v)]
        assert len(points) > 5000
        # Registration moves the views by a millimetre.
        away = np.linalg.norm(points - CENTRE, axis=1)
        assert away.min() > RADIUS + PADDING - 0.004
        labels = table.trace(true.world_from_cam_prior)[2]
        assert not scene.masks.labels[v][labels == table.RED].any()


def test_a_description_that_does_not_come_or_is_none_is_said(world):
    world.scene_node(robot__description_topic="robot_description", tf_timeout=0.5)
    world.replay()
    client = world.client()
    with pytest.raises(WildSeg3DError, match="has not come on '/robot_description'") as error:
        client.build()
    assert error.value.code == ErrorCode.BAD_CONFIG
    # Without any of its links in TF, nothing is built either.
    robot_state_publisher(world)
    with pytest.raises(WildSeg3DError, match=r"none of its 2 links .*frame_prefix") as error:
        client.build()
    assert error.value.code == ErrorCode.MISSING_TF
    robot_state_publisher(world, "<robot><link")
    with pytest.raises(WildSeg3DError, match="no readable XML"):
        client.build()


def test_a_description_file_is_read_at_the_start(world, tmp_path):
    path = tmp_path / "arm.urdf"
    path.write_text("<robot/>")
    for text in ("no link with a geometry", "gone.urdf"):
        with pytest.raises(WildSeg3DError, match=text):
            world.scene_node(robot__description_file=str(path))
        path = tmp_path / "gone.urdf"
    with pytest.raises(WildSeg3DError, match="exclude each other"):
        world.scene_node(robot__description_file="a", robot__description_topic="b")
