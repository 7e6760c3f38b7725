"""The node notices over DDS that its cameras see something else, says so, and builds anew."""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import table
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from wildseg3d_ros.geometry.transforms import make_transform
from wildseg3d_ros.ros.messages.conversions import image_from_array, transform_from_matrix
from wildseg3d_ros.ros.replay_node import WORLD_FRAME, optical_frame

VIEWS = table.make_views()
ON_RED = ("front", *table.pixel_on(VIEWS[0], table.RED))
QUICK = {"watch_period": 0.1, "change_seconds": 0.5}
LEFT = ("left", "image_topic")


def wait_for(condition, seconds: float = 20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


class Listener:
    """The newest diagnostics by the end of their names."""

    def __init__(self, client) -> None:
        self.heard: dict[str, DiagnosticStatus] = {}
        client.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)

    def _take(self, message: DiagnosticArray) -> None:
        assert message.header.stamp.sec > 0
        for status in message.status:
            node, _, name = status.name.partition(": ")
            assert node == status.hardware_id == "wildseg3d"
            self.heard[name] = status

    def level(self, name: str) -> bytes | None:
        status = self.heard.get(name)
        return None if status is None else status.level

    def values(self, name: str) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.heard[name].values}


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


def change(replay, image: np.ndarray) -> tuple:
    """The left camera sees this from now on; returns what it saw."""
    before = replay._streams[LEFT]
    publisher, message = before
    changed = image_from_array(image, "rgb8", message.header.frame_id)
    replay._streams[LEFT] = (publisher, changed)
    return before


def test_a_stale_scene_is_said_in_replies_and_diagnostics(live):
    node, replay, client = live
    listener = Listener(client)
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.OK)
    assert node.stale_cameras == ()
    before = change(replay, without_green(1))
    wait_for(lambda: node.stale_cameras == ("left",))
    (warning,) = client.segment([ON_RED]).warnings
    assert "stale: camera 'left' sees something else" in warning
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.WARN)
    assert listener.values("scene")["stale cameras"] == "left"
    # What is put back is as it was.
    replay._streams[LEFT] = before
    wait_for(lambda: not node.stale_cameras)
    assert client.segment([ON_RED]).warnings == ()
    # A new scene is of what is seen now.
    change(replay, without_green(1))
    wait_for(lambda: node.stale_cameras)
    client.build()
    time.sleep(1.0)
    assert node.stale_cameras == ()


def test_another_light_is_no_other_scene(live):
    node, replay, _ = live
    dim = (VIEWS[1].image * 0.6).astype(np.uint8)
    change(replay, dim)
    time.sleep(1.5)
    assert node.stale_cameras == ()


def test_a_stale_scene_is_built_anew_when_that_is_wanted(world):
    node = world.scene_node(**QUICK, rebuild_when_stale=True)
    replay, client = world.replay(), world.client()
    first = client.build()
    assert first.objects == 2
    change(replay, without_green(1))
    wait_for(lambda: client.segment([ON_RED]).scene_id != first.scene_id)
    wait_for(lambda: not node.stale_cameras)


def test_only_the_view_that_changed_is_renewed(world, monkeypatch, tmp_path):
    names = tmp_path / "names"
    monkeypatch.setenv("PATIENT_UNTIL", str(names))
    node = world.scene_node("Renewing", **QUICK, rebuild_when_stale=True)
    replay, client = world.replay(), world.client()
    first = client.build()
    assert not names.exists()
    change(replay, without_green(1))
    wait_for(lambda: client.segment([ON_RED]).scene_id != first.scene_id)
    assert names.read_text() == "left"
    wait_for(lambda: not node.stale_cameras)


def test_a_camera_that_moves_is_not_compared(world):
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
    assert node.stale_cameras == ()
    replay._transforms[1] = there
    wait_for(lambda: node.stale_cameras == ("left",))


def test_diagnostics_of_cameras(world, capfd):
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


def test_diagnostics_of_a_node_that_does_not_listen(world, capfd):
    world.scene_node("unloadable_builder")
    listener = Listener(world.client())
    wait_for(lambda: listener.level("scene") == DiagnosticStatus.ERROR)
    assert "weights are not there" in listener.heard["scene"].message
    assert listener.values("scene") == {"state": "unconfigured"}
    assert set(listener.heard) == {"scene"}


def test_a_topic_that_does_not_fit_is_a_warning_before_anyone_builds(world, capfd):
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


def test_reliability_follows_the_publishers(world):
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
    wait_for(node.cameras["left"].matcher.newest)
    _unreliable(replay)
    wait_for(lambda: reliability() == {"BEST_EFFORT"})
    heard = node.cameras["left"].matcher.counts.images
    wait_for(lambda: node.cameras["left"].matcher.counts.images > heard + 3)
    assert len(asked) == 1


def _unreliable(replay) -> None:
    from rclpy.qos import qos_profile_sensor_data

    publisher, message = replay._streams[LEFT]
    replay.destroy_publisher(publisher)
    topic = "/left/color/image_raw"
    publisher = replay.create_publisher(type(message), topic, qos_profile_sensor_data)
    replay._streams[LEFT] = (publisher, message)


def test_a_scene_from_a_file_is_watched_too(live, tmp_path):
    node, replay, client = live
    saved = str(tmp_path / "table.ws3d")
    client.save_scene(saved)
    change(replay, without_green(1))
    wait_for(lambda: node.stale_cameras)
    client.build()
    assert node.stale_cameras == ()
    # What was saved shows the ball, what is seen does not.
    client.load_scene(saved)
    wait_for(lambda: node.stale_cameras == ("left",))
