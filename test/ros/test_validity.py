"""The node notices over DDS that its cameras see something else, says so, and builds anew."""

from __future__ import annotations

import copy
import time
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
import table
from diagnostic_msgs.msg import DiagnosticStatus
from listening import Listener, wait_for
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.ros.messages.conversions import image_from_array, transform_from_matrix
from wildseg3d_ros.ros.replay_node import WORLD_FRAME, optical_frame
from wildseg3d_ros.streams.images import array_from_image
from wildseg3d_ros.streams.messages import nanoseconds

VIEWS = table.make_views()
ON_RED = ("front", *table.pixel_on(VIEWS[0], table.RED))
QUICK = {"monitor_period": 0.1, "change_seconds": 0.5}
LEFT = ("left", "image_topic")


def without_green(view: int) -> np.ndarray:
    """The image with the table where the green ball was."""
    image, _, labels = table.trace(table.POSES[table.NAMES[view]])
    image[labels == table.GREEN] = 140
    return image


@pytest.fixture
def live(world):
    node = world.scene_node(**QUICK)
    replay = world.replay()
    client = world.client()
    client.build()
    return node, replay, client


def change(replay, image: np.ndarray, camera: str = "left") -> tuple:
    """The camera sees this from now on; returns what it saw."""
    stream = camera, "image_topic"
    before = replay._streams[stream]
    publisher, message = before
    changed = image_from_array(image, "rgb8", message.header.frame_id)
    replay._streams[stream] = (publisher, changed)
    return before


def test_scene_monitor_stale_scene(live):
    """A stale scene is said in replies and diagnostics."""
    node, replay, client = live
    listener = Listener(client)
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.OK)
    assert node.monitor.stale == ()
    before = change(replay, without_green(1))
    wait_for(lambda: node.monitor.stale == ("left",))
    (warning,) = client.segment([ON_RED]).warnings
    assert "stale: camera 'left' sees something else" in warning
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.WARN)
    assert listener.values("scene")["stale cameras"] == "left"
    # What is put back is as it was.
    replay._streams[LEFT] = before
    wait_for(lambda: not node.monitor.stale)
    assert client.segment([ON_RED]).warnings == ()
    # A new scene is of what is seen now.
    change(replay, without_green(1))
    wait_for(lambda: node.monitor.stale)
    client.build()
    time.sleep(1.0)
    assert node.monitor.stale == ()


def test_scene_monitor_other_light(live):
    """Another light is no other scene."""
    node, replay, _ = live
    dim = (VIEWS[1].image * 0.6).astype(np.uint8)
    change(replay, dim)
    time.sleep(1.5)
    assert node.monitor.stale == ()


def test_node_monitor_rebuilds(world):
    """A stale scene is built anew when that is wanted."""
    node = world.scene_node(**QUICK, rebuild_when_stale=True)
    replay, client = world.replay(), world.client()
    first = client.build()
    assert first.objects == 2
    change(replay, without_green(1))
    wait_for(lambda: client.segment([ON_RED]).scene_id != first.scene_id)
    wait_for(lambda: not node.monitor.stale)


def test_node_monitor_renews_one_view(world, monkeypatch, tmp_path):
    """Only the view that changed is renewed."""
    names = tmp_path / "names"
    monkeypatch.setenv("PATIENT_UNTIL", str(names))
    node = world.scene_node("Renewing", **QUICK, rebuild_when_stale=True)
    replay, client = world.replay(), world.client()
    first = client.build()
    assert not names.exists()
    change(replay, without_green(1))
    wait_for(lambda: client.segment([ON_RED]).scene_id != first.scene_id)
    assert names.read_text() == "left"
    wait_for(lambda: not node.monitor.stale)


def test_node_monitor_renews_together(world, monkeypatch, tmp_path):
    """What another camera comes to see a little later is no second renewal."""
    names = tmp_path / "names"
    monkeypatch.setenv("PATIENT_UNTIL", str(names))
    patient = {"monitor_period": 0.1, "change_seconds": 2.0, "rebuild_when_stale": True}
    node = world.scene_node("Renewing", **patient)
    replay, client = world.replay(), world.client()
    first = client.build()
    change(replay, without_green(1))
    wait_for(lambda: node.monitor.changing)
    time.sleep(1.0)
    change(replay, without_green(0), "front")
    wait_for(lambda: client.segment([ON_RED]).scene_id != first.scene_id)
    assert not names.exists()  # two of three: all of it is new
    wait_for(lambda: not node.monitor.stale)


def test_scene_monitor_moving_camera(world):
    """As one on a wrist: TF says where it is."""
    node = world.scene_node(**QUICK)
    replay, client = world.replay(tf="dynamic"), world.client()
    listener = Listener(client)
    client.build()
    there = copy.deepcopy(replay._transforms[1])
    away = table.POSES["left"] @ make_transform(np.eye(3), [0.05, 0, 0])
    replay._transforms[1] = transform_from_matrix(away, WORLD_FRAME, optical_frame("left"))
    change(replay, without_green(1))
    wait_for(
        lambda: listener.heard and listener.values("scene").get("cameras elsewhere") == "left"
    )
    time.sleep(1.0)
    assert node.monitor.stale == ()
    replay._transforms[1] = there
    wait_for(lambda: node.monitor.stale == ("left",))


def behind(replay, seconds: float) -> None:
    """TF comes later than the images of its time, as kinematics that are computed do."""
    publish, waiting = replay._moving.publish, deque()

    def late(message: TFMessage) -> None:
        waiting.append(copy.deepcopy(message))
        while waiting and stamp_of(waiting[0]) < stamp_of(message) - seconds * 1e9:
            publish(waiting.popleft())

    def stamp_of(message: TFMessage) -> int:
        return nanoseconds(message.transforms[0].header.stamp)

    replay._moving = SimpleNamespace(publish=late)


def test_scene_monitor_late_pose(world):
    """A camera whose pose comes after its images is compared."""
    node = world.scene_node(**QUICK, tf_timeout=5.0)
    replay = world.replay(tf="dynamic", prepare=lambda node: behind(node, 0.4))
    client = world.client()
    listener = Listener(client)
    client.build()
    change(replay, without_green(1))
    wait_for(lambda: node.monitor.stale == ("left",))
    assert listener.values("scene")["cameras not compared"] == ""


def test_scene_monitor_pose_stopped(world):
    """A camera whose pose no longer comes is named."""
    world.scene_node(**QUICK)
    replay, client = world.replay(tf="dynamic"), world.client()
    listener = Listener(client)
    client.build()
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.OK)
    replay._moving = None
    # Their last transforms grow too old one after the other.
    wait_for(lambda: listener.values("scene").get("cameras not compared") == "front, left, right")
    assert listener.level("scene") == DiagnosticStatus.WARN
    message = listener.heard["scene"].message
    assert (
        "camera 'left' is not compared with the scene: extrapolation: the newest TF of" in message
    )


def test_scene_monitor_long_period(world):
    """Looks may be rarer than what a change takes."""
    node = world.scene_node(monitor_period=1.0, change_seconds=0.2)
    replay, client = world.replay(), world.client()
    client.build()
    change(replay, without_green(1))
    wait_for(lambda: node.monitor.stale == ("left",))


def test_scene_monitor_depth_alone(live):
    """An object of the colour of the table is missed by its depth."""
    node, replay, client = live
    image, depth, labels = table.trace(table.POSES["left"])
    green = labels == table.GREEN
    bare = np.where(green, 140, image.max(axis=-1))
    change(replay, np.repeat(bare[..., None], 3, axis=-1).astype(np.uint8))
    wait_for(lambda: node.monitor.stale)
    client.build()
    time.sleep(1.0)
    assert node.monitor.stale == ()
    publisher, message = replay._streams["left", "depth_topic"]
    depth[green] += 0.1
    changed = image_from_array(depth, "32FC1", message.header.frame_id)
    replay._streams["left", "depth_topic"] = (publisher, changed)
    wait_for(lambda: node.monitor.stale == ("left",))


@pytest.mark.parametrize("period", [0.1, 0.0], ids=["monitored", "not monitored"])
def test_scene_monitor_other_resolution(world, period):
    """The same pixel means another place, as long as the scene is of the old resolution."""
    node = world.scene_node(monitor_period=period)
    replay, client = world.replay(), world.client()
    client.build()
    u, v = table.pixel_on(VIEWS[0], table.RED)
    assert client.segment([("front", u, v)]).warnings == ()
    for field in ("camera_info_topic", "image_topic", "depth_topic"):
        publisher, message = replay._streams["front", field]
        replay._streams["front", field] = (publisher, twice_as_large(message))
    (warning,) = wait_for(lambda: client.segment([("front", u, v)]).warnings)
    assert "'front' publishes 320x240 now, and its image in the scene is 160x120" in warning
    assert client.segment([("left", *table.pixel_on(VIEWS[1], table.RED))]).warnings == (warning,)
    with pytest.raises(WildSeg3DError, match="publishes 320x240 now") as refused:
        client.segment([("front", 2 * u + 100, 2 * v + 100)])
    assert refused.value.code == ErrorCode.PIXEL_OUTSIDE_IMAGE
    with pytest.raises(WildSeg3DError) as refused:
        client.segment([("left", 300, 200)])
    assert "320x240" not in str(refused.value)
    if period:
        wait_for(lambda: node.monitor.stale == ("front",))
    wait_for(lambda: node.cameras["front"].matcher.newest().info.width == 320)
    client.build()
    selected = client.segment([("front", 2 * u, 2 * v)])
    assert selected.object_ids == (table.RED,)
    assert selected.warnings == ()


def twice_as_large(message: Image | CameraInfo) -> Image | CameraInfo:
    """The same as a camera of twice the resolution publishes it."""
    if isinstance(message, CameraInfo):
        large = copy.deepcopy(message)
        large.width, large.height = 2 * message.width, 2 * message.height
        large.k = (message.k.reshape(3, 3) * [[2], [2], [1]]).ravel()
        return large
    pixels = array_from_image(message, "test").repeat(2, axis=0).repeat(2, axis=1)
    return image_from_array(pixels, message.encoding, message.header.frame_id)


def test_diagnostics_cameras(world, capfd):
    world.scene_node(max_image_age=1.5)
    replay, client = world.replay(), world.client()
    listener = Listener(client)
    wait_for(lambda: listener.level("camera left") == DiagnosticStatus.OK)
    assert "no scene yet" in listener.heard["scene"].message
    wait_for(lambda: 8 < float(listener.values("camera left")["rate [Hz]"]) < 12)
    values = listener.values("camera left")
    assert float(values["age [s]"]) < 1
    assert int(values["complete sets"]) > 10
    assert int(values["images without depth"]) < 5
    assert values["topic"] == "/left/color/image_raw"
    # Depth of another time leaves the images alone.
    depth = replay._streams.pop(("left", "depth_topic"))
    wait_for(lambda: listener.level("camera left") == DiagnosticStatus.ERROR)
    assert "camera 'left' has stopped" in listener.heard["camera left"].message
    assert listener.level("camera right") == DiagnosticStatus.OK
    replay._streams["left", "depth_topic"] = depth
    wait_for(lambda: listener.level("camera left") == DiagnosticStatus.OK)
    log = "".join(capfd.readouterr())
    assert log.count("camera 'left' has stopped") == 1, "said once, not every second"
    assert "camera 'left' is there again" in log


def test_diagnostics_inactive_node(world, capfd):
    """Diagnostics of a node that does not listen."""
    world.scene_node("unloadable_builder")
    listener = Listener(world.client())
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.ERROR)
    assert "weights are not there" in listener.heard["scene"].message
    assert listener.values("scene") == {"state": "unconfigured"}
    assert set(listener.heard) == {"scene"}


def test_diagnostics_unfit_topic(world, capfd):
    """A topic that does not fit is a warning before anyone builds."""
    world.scene_node(cameras=["front", "left", "nowhere"], left__reliability="reliable")
    replay = world.replay(prepare=_unreliable)
    assert replay
    listener = Listener(world.client())
    wait_for(lambda: listener.level("camera nowhere") == DiagnosticStatus.ERROR)
    wait_for(lambda: listener.level("camera left") == DiagnosticStatus.ERROR)
    assert listener.level("camera front") == DiagnosticStatus.OK
    log = "".join(capfd.readouterr())
    assert "nobody publishes '/nowhere/color/image_raw'" in log
    assert "set the parameter 'left.reliability' to auto" in log


def test_camera_reliability_follows_publishers(world):
    """Reliable where they are, best effort where one is not; also when one comes later."""
    node = world.scene_node()
    asked = {}
    replay = world.replay()

    def reliability() -> set[str]:
        asked.clear()
        for subscription in node.subscriptions:
            if subscription.topic_name == "/left/color/image_raw":
                asked[subscription] = subscription.qos_profile.reliability.name
        return set(asked.values())

    wait_for(lambda: reliability() == {"RELIABLE"})
    wait_for(lambda: node.cameras["left"].matcher.newest() is not None)
    _unreliable(replay)
    wait_for(lambda: reliability() == {"BEST_EFFORT"})
    heard = node.cameras["left"].matcher.counts.received["image"]
    wait_for(lambda: node.cameras["left"].matcher.counts.received["image"] > heard + 3)
    assert len(asked) == 1


def _unreliable(replay) -> None:
    from rclpy.qos import qos_profile_sensor_data

    publisher, message = replay._streams[LEFT]
    replay.destroy_publisher(publisher)
    topic = "/left/color/image_raw"
    publisher = replay.create_publisher(type(message), topic, qos_profile_sensor_data)
    replay._streams[LEFT] = (publisher, message)


def test_scene_monitor_loaded_scene(live, tmp_path):
    """A scene from a file is monitored too."""
    node, replay, client = live
    saved = str(tmp_path / "table.ws3d")
    client.save_scene(saved)
    change(replay, without_green(1))
    wait_for(lambda: node.monitor.stale)
    client.build()
    assert node.monitor.stale == ()
    # What was saved shows the ball, what is seen does not.
    client.load_scene(saved)
    wait_for(lambda: node.monitor.stale == ("left",))


class Stopped:
    """A clock that stands still, or is behind."""

    def __init__(self, nanoseconds: int) -> None:
        self.nanoseconds = nanoseconds

    def now(self):
        return self


def test_diagnostics_frozen_and_late_cameras(world):
    """Images come in, and all with one stamp; then with stamps of yesterday."""
    world.scene_node()
    replay, client = world.replay(), world.client()
    listener = Listener(client)
    wait_for(lambda: listener.level("camera left") == DiagnosticStatus.OK)
    clock = replay.get_clock
    still = Stopped(time.time_ns())
    replay.get_clock = lambda: still
    wait_for(lambda: "is frozen: its last" in listener.heard["camera left"].message)
    assert listener.level("camera left") == DiagnosticStatus.WARN
    replay.get_clock = clock
    wait_for(lambda: listener.level("camera left") == DiagnosticStatus.OK)
    replay.get_clock = lambda: Stopped(time.time_ns() - 10**14)
    wait_for(lambda: "s before they come" in listener.heard["camera left"].message)


def test_diagnostics_two_nodes_of_one_name(world):
    node = world.scene_node()
    client = world.client()
    listener = Listener(client)
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.WARN)
    twin = rclpy.create_node(
        node.get_name(), context=world.context, namespace=node.get_namespace()
    )
    world.add(twin, threads=1)
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.ERROR)
    assert "1 other node(s) have the name '/wildseg3d'" in listener.heard["scene"].message
