"""A camera that moves between images, as one on a wrist: which image a click means."""

from __future__ import annotations

import time

import numpy as np
import pytest
import table
from listening import wait_for

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform
from wildseg3d_ros.ros.messages.conversions import transform_from_matrix
from wildseg3d_ros.ros.replay_node import WORLD_FRAME, optical_frame

VIEWS = table.make_views()
AWAY = table.world_from_cam(0.2, distance=0.7, height=0.4)
"""Where camera left stands after the scene was taken."""


def pixel_from(pose: np.ndarray, label: int) -> tuple[float, float]:
    """Pixel of a ball's middle in an image taken from a pose."""
    in_camera = apply(invert(pose), np.array(table.BALLS[label][0]))
    u, v = (table.K @ in_camera)[:2] / in_camera[2]
    return round(u), round(v)


def move(node, replay, pose: np.ndarray, frame: str, number: int) -> int:
    """Has the replay publish that a frame is elsewhere; returns a time when it was there."""
    replay._transforms[number : number + 1] = [transform_from_matrix(pose, WORLD_FRAME, frame)]

    def there() -> bool:
        try:
            return np.allclose(node._transforms.lookup(WORLD_FRAME, frame, 0), pose)
        except WildSeg3DError:
            return False

    wait_for(there)
    return node._transforms._newest[WORLD_FRAME, frame]


@pytest.fixture
def moved(world):
    """A scene, and camera left elsewhere since; gives client, replay and a stamp of there."""
    node = world.scene_node()
    replay, client = world.replay(tf="dynamic"), world.client()
    client.build()
    stamp = move(node, replay, AWAY, optical_frame("left"), 1)
    wait_for(lambda: node.cameras["left"].matcher.newest().stamp_ns > stamp)
    return client, replay, stamp


def test_click_in_a_later_image_of_a_moved_camera(moved):
    client, _, stamp = moved
    for label in (table.RED, table.GREEN):
        there = ("left", *pixel_from(AWAY, label))
        found = client.segment([there], stamps={"left": stamp})
        assert found.object_ids == (label,)
        assert not [text for text in found.warnings if "has moved" in text]
    # In the scene's own image the ball is elsewhere.
    assert there[1:] != table.pixel_on(VIEWS[1], table.GREEN)


def test_click_without_stamp_is_of_the_scene_and_says_so(moved):
    client, *_ = moved
    found = client.segment([("left", *table.pixel_on(VIEWS[1], table.RED))])
    assert found.object_ids == (table.RED,)
    (said,) = [text for text in found.warnings if "has moved" in text]
    assert said.startswith("camera 'left' has moved since the scene was taken")
    still = client.segment([("front", *table.pixel_on(VIEWS[0], table.RED))])
    assert not [text for text in still.warnings if "has moved" in text]


def test_boxes_and_masks_of_a_moved_camera_are_refused(moved):
    client, _, stamp = moved
    box = ("left", 10.0, 10.0, 60.0, 60.0)
    mask = np.zeros(table.SIZE, bool)
    mask[20:50, 30:60] = True
    for options in ({"boxes": [box]}, {"masks": {"left": mask}}):
        with pytest.raises(WildSeg3DError, match="took elsewhere than the scene's") as error:
            client.segment(stamps={"left": stamp}, **options)
        assert error.value.code == ErrorCode.OTHER_SCENE


def test_click_at_a_time_that_tf_does_not_know(moved):
    client, *_ = moved
    with pytest.raises(WildSeg3DError) as error:
        client.segment([("left", 50, 50)], stamps={"left": time.time_ns() + 10**10})
    assert error.value.code == ErrorCode.MISSING_TF


def test_stamped_click_of_a_camera_that_stands_still(live):
    """Any stamp means the same pixel."""
    _, _, client = live
    client.build()
    on_red = ("front", *table.pixel_on(VIEWS[0], table.RED))
    found = client.segment([on_red], stamps={"front": time.time_ns()})
    assert found.object_ids == (table.RED,)


def test_request_for_another_scene_is_refused(live):
    _, _, client = live
    scene_id = client.build().scene_id
    on_red = ("front", *table.pixel_on(VIEWS[0], table.RED))
    assert client.segment([on_red], scene_id=scene_id).scene_id == scene_id
    client.build()
    with pytest.raises(WildSeg3DError, match=f"the request means scene {scene_id}") as error:
        client.segment([on_red], scene_id=scene_id)
    assert error.value.code == ErrorCode.OTHER_SCENE


def test_target_frame_now_of_a_mobile_base(world):
    """A frame that nobody published when the scene was taken, and that drives since."""
    node = world.scene_node()
    replay, client = world.replay(tf="dynamic"), world.client()
    client.build()
    on_red = ("front", *table.pixel_on(VIEWS[0], table.RED))
    in_world = client.segment([on_red])

    def drive(x: float) -> np.ndarray:
        base = make_transform(np.diag([-1.0, -1.0, 1.0]), np.array([x, 0.5, -0.1]))
        move(node, replay, base, "base_link", 3)
        return base

    drive(1.0)
    with pytest.raises(WildSeg3DError, match="base_link") as error:
        client.segment([on_red], target_frame="base_link")
    assert error.value.code == ErrorCode.UNKNOWN_FRAME
    for x in (1.0, 2.0):
        base = drive(x)
        before = time.time_ns()
        found = client.segment([on_red], target_frame="base_link", target_now=True)
        assert found.frame_id == "base_link"
        np.testing.assert_allclose(found.points, apply(invert(base), in_world.points), atol=1e-5)
        assert before <= found.stamp_ns <= time.time_ns()
