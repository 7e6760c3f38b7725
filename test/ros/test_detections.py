"""The topic ``detections`` over real DDS."""

from __future__ import annotations

import math

import numpy as np
import pytest
import rclpy
import table
from listening import wait_for
from vision_msgs.msg import Detection3DArray

from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.ros.messages.grasps import box_from_message
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.scene.file.snapshot import save_scene
from wildseg3d_ros.streams.messages import nanoseconds


def test_detections_of_all_objects(live, tmp_path):
    """Id, class, score, pose and size; to who comes late, and of each new scene."""
    world, _, client = live
    found = client.segment(object_ids=[table.RED])
    ears, heard = rclpy.create_node("ears", context=world.context), []
    ears.create_subscription(Detection3DArray, "detections", heard.append, latched())
    world.add(ears, threads=1)

    def until(met):
        return wait_for(lambda: heard[-1] if heard and met(heard[-1]) else None)

    array = until(lambda message: len(message.detections) == 2)
    assert (array.header.frame_id, nanoseconds(array.header.stamp)) == ("world", found.stamp_ns)
    assert [each.id for each in array.detections] == ["1", "2"]
    for each, thing in zip(array.detections, client.list_objects("world"), strict=True):
        centre, radius = table.BALLS[int(each.id)]
        assert each.header == array.header
        (result,) = each.results
        assert result.hypothesis.class_id == thing.level == "whole"
        np.testing.assert_equal(result.hypothesis.score, thing.score)
        assert result.pose.pose == each.bbox.center
        box = box_from_message(each.bbox)
        np.testing.assert_allclose(box.frame_from_box, thing.box.frame_from_box)
        np.testing.assert_allclose(box.size, thing.box.size)
        # Nobody sees the ball from behind.
        assert np.linalg.norm(box.frame_from_box[:3, 3] - np.array(centre)) < 0.5 * radius
        assert box.size.max() == pytest.approx(2 * radius, abs=0.01)

    scene = table.scene_by_color(table.make_views(), Progress(), "world", found=(table.RED,))
    save_scene(scene, tmp_path / "scene.ws3d")
    client.load_scene(str(tmp_path / "scene.ws3d"))
    (only,) = until(lambda message: len(message.detections) == 1).detections
    assert only.id == str(table.RED)
    assert math.isclose(only.results[0].hypothesis.score, 0.75, rel_tol=1e-6)
    client.build()
    until(lambda message: len(message.detections) == 2)
