"""The page's two sources, a file and a node that has loaded it, held against each other."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from test.viewer.conftest import KNOWN, until
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.core.types import Box, Click, Point, Prompt
from wildseg3d_ros.evaluation import most_interior_pixel
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.robot.urdf import rotation_from_rpy
from wildseg3d_ros.viewer.file_source import FileSource

pytest.importorskip("rclpy", reason="ROS ABSENT: source a ROS 2, or `make test`")


@contextmanager
def node():
    cameras = "[cam_0, cam_1, cam_2, cam_3]"
    options = ["--ros-args", "-p", f"cameras:={cameras}", "-p", "world_frame:=base"]
    options += ["-p", "scene_folder:=/"]
    command = [sys.executable, "-m", "wildseg3d_ros.ros.scene_node", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def running(scene_file):
    from wildseg3d_ros.ros.client import SceneClient
    from wildseg3d_ros.viewer.ros_source import RosSource

    robot = RobotConfig("robot_description", frame_prefix="left/")
    source = RosSource(robot=robot)
    assert until(lambda: "not there" in source.state.problem)
    with node():
        with SceneClient(timeout=60.0) as client:
            client.load_scene(str(scene_file))
        assert until(lambda: source.shown is not None and source.shown.scene_id)
        assert until(lambda: len(source.shown.cameras) == 4)
        yield source
    assert until(lambda: "does not answer" in source.state.problem)
    with node():
        assert until(lambda: "no scene yet" in source.state.problem), source.state
    source.close()


@pytest.fixture(scope="module")
def file(scene_file):
    return FileSource(scene_file)


def sorted_points(cloud):
    return cloud.points[np.lexsort(cloud.points.T)]


def test_ros_source_shows_the_scene_that_the_file_source_shows(running, file):
    mine, theirs = running.shown, file.shown
    assert mine.scene_id == theirs.scene_id
    assert mine.frame_id == theirs.frame_id
    assert [c.name for c in mine.cameras] == [c.name for c in theirs.cameras]
    for one, other in zip(mine.cameras, theirs.cameras, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
    for one, other in zip(mine.objects, theirs.objects, strict=True):
        assert (one.object_id, one.level, one.points, one.cameras) == (
            other.object_id,
            other.level,
            other.points,
            other.cameras,
        )
        np.testing.assert_allclose(one.box.size, other.box.size, rtol=1e-5)


def test_ros_source_answers_as_the_file_source(running, file, truth):
    pixel = most_interior_pixel(truth.labels[0] == 1)
    rows, columns = np.nonzero(truth.labels[0] == 3)
    corners = map(float, (columns.min(), rows.min(), columns.max(), rows.max()))
    place = Point(*map(float, truth.points[0][pixel[1], pixel[0]]))
    for prompt in (
        Prompt((Click("cam_0", *pixel),)),
        Prompt(boxes=(Box("cam_0", *corners),)),
        Prompt(points=(place,)),
        Prompt(object_ids=KNOWN),
    ):
        one, other = running.ask(prompt), file.ask(prompt)
        np.testing.assert_array_equal(sorted_points(one.cloud), sorted_points(other.cloud))
        assert one.cloud.object_ids == other.cloud.object_ids
        np.testing.assert_allclose(one.box.size, other.box.size, rtol=1e-5)
        for name, mask in other.cloud.masks.items():
            np.testing.assert_array_equal(one.cloud.masks[name], mask)
        sizes = [len(each.cloud) for each in other.cloud.alternatives]
        assert [len(each.cloud) for each in one.cloud.alternatives] == sizes
    click = running.click_at(place)
    view = int(click.view[-1])
    assert truth.labels[view][int(click.v), int(click.u)] == 1


def test_ros_source_shows_the_same_while_nothing_changes(running):
    shown, arrived = running.shown, running._feed.state.arrived
    assert until(lambda: running._feed.state.arrived > arrived + 1.5)
    assert running.shown is shown


def test_ros_source_shows_the_robot_of_the_description_where_tf_has_it(running):
    from std_msgs.msg import String
    from tf2_msgs.msg import TFMessage

    from wildseg3d_ros.ros.messages.conversions import transform_from_matrix
    from wildseg3d_ros.ros.qos import latched

    node, frame = running._client.node, running.shown.frame_id
    descriptions = node.create_publisher(String, "robot_description", latched())
    assert running.robot() == ()
    descriptions.publish(String(data="<robot/>"))
    said = "the robot is not drawn: the robot's description has no link with a geometry"
    assert until(lambda: said in running.state.stale)
    descriptions.publish(
        String(
            data="""<robot name="arm">
              <link name="hand"><visual><origin xyz="0 0 0.1"/>
                <geometry><cylinder radius="0.1" length="0.4"/></geometry></visual></link>
              <link name="lost"><visual><geometry><box size="1 1 1"/></geometry></visual></link>
            </robot>"""
        )
    )
    assert until(lambda: not running.robot() and "frame_prefix" in "".join(running.state.stale))
    moves = node.create_publisher(TFMessage, "/tf", 10)

    def moved_to(place):
        """The robot, while TF says that its hand is somewhere."""
        pose = make_transform(rotation_from_rpy(np.array([np.pi / 2, 0, 0])), np.array(place))
        stamp_ns = node.get_clock().now().nanoseconds
        moved = transform_from_matrix(pose, frame, "left/hand", stamp_ns)
        moves.publish(TFMessage(transforms=[moved]))
        links = running.robot()
        expected = np.array(place) - [0, 0.1, 0]
        return links if links and np.allclose(links[0].pose[:3, 3], expected) else None

    for place in ([0.3, 0.2, 0.1], [0.3, 0.2, 0.4]):
        (link,) = until(lambda place=place: moved_to(place))
        assert link.kind == "cylinder"
        np.testing.assert_allclose(link.half, [0.1, 0.1, 0.2])
    assert not any("robot" in text for text in running.state.stale)
    # Nobody looks any more.
    listeners = lambda: node.count_subscribers("/tf")  # noqa: E731
    before = listeners()
    assert until(lambda: listeners() == before - 1)


def test_ros_source_checks_cameras_that_publish_nothing(running):
    check = running.check()
    assert (check.verdict, check.pictures) == ("unchecked", ())
    assert any("nobody publishes" in text for text in check.problems)


def test_ros_source_passes_errors_on(running):
    with pytest.raises(WildSeg3DError) as refused:
        running.ask(Prompt((Click("cam_7", 1, 1),)))
    assert refused.value.code == ErrorCode.UNKNOWN_CAMERA


def test_ros_source_adds_and_takes_back(running, truth):
    label = next(i for i in truth.object_ids if i not in KNOWN)
    view = max(range(4), key=lambda k: (truth.labels[k] == label).sum())
    pixel = most_interior_pixel(truth.labels[view] == label)
    answer = running.add(Prompt((Click(f"cam_{view}", *pixel),)))
    (added,) = answer.cloud.object_ids
    assert added not in KNOWN
    ids = lambda: [each.object_id for each in running.shown.objects]  # noqa: E731
    assert until(lambda: added in ids())
    running.undo()
    assert until(lambda: added not in ids())
