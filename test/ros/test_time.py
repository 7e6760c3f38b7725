"""Simulated time, time that goes back, and cameras that start again as other ones."""

from __future__ import annotations

import copy
import time

import numpy as np
import pytest
import rclpy
import table
from listening import PATIENCE, wait_for
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.ros.messages.conversions import image_from_array, time_message
from wildseg3d_ros.streams.messages import nanoseconds

VIEWS = table.make_views()
ON_RED = ("front", *table.pixel_on(VIEWS[0], table.RED))
SECOND = 10**9


class Simulation:
    """Publishes /clock."""

    def __init__(self, world, start: float) -> None:
        self.now_ns = int(start * SECOND)
        node = rclpy.create_node("simulation", context=world.context)
        publisher = node.create_publisher(Clock, "/clock", 10)

        def tick() -> None:
            self.now_ns += SECOND // 100
            publisher.publish(Clock(clock=time_message(self.now_ns)))

        node.create_timer(0.01, tick)
        world.add(node, threads=1)


def test_scene_node_clock_restarts(world, capfd):
    """Simulated time that starts again."""
    simulation = Simulation(world, 1000.0)
    node = world.scene_node(use_sim_time=True, tf_timeout=PATIENCE)
    world.replay(tf="dynamic", parameter_overrides=[Parameter("use_sim_time", value=True)])
    client = world.client()
    for start in (1000, 100):
        simulation.now_ns = start * SECOND
        wait_for(lambda: start <= node.get_clock().now().nanoseconds / SECOND < 2 * start)  # noqa: B023
        assert client.build().warnings == ()
        assert start * SECOND <= client.segment([ON_RED]).stamp_ns < (start + 60) * SECOND
    log = "".join(capfd.readouterr())
    assert "/clock went back by 9" in log


class Shifted:
    """A publisher whose stamps lie in the past by ``seconds``."""

    seconds = 0.0

    def __init__(self, publisher) -> None:
        self._publisher = publisher

    def publish(self, message) -> None:
        message = copy.deepcopy(message)
        for part in getattr(message, "transforms", None) or [message]:
            past_ns = nanoseconds(part.header.stamp) - int(Shifted.seconds * SECOND)
            part.header.stamp = time_message(past_ns)
        self._publisher.publish(message)


@pytest.mark.parametrize("seconds", [4.0, 3600.0])
def test_scene_node_recording_loops(world, monkeypatch, capfd, seconds):
    """Without /clock: all stamps go back, those of TF too; what is of the last round is void."""

    def shift(replay) -> None:
        for key, (publisher, message) in replay._streams.items():
            replay._streams[key] = (Shifted(publisher), message)
        replay._moving = Shifted(replay._moving)

    node = world.scene_node()
    world.replay(tf="dynamic", prepare=shift)
    client = world.client()
    assert client.build().warnings == ()
    before_ns = client.segment([ON_RED]).stamp_ns
    monkeypatch.setattr(Shifted, "seconds", seconds)
    wait_for(lambda: all(node.cameras[name].matcher.counts.restarts for name in table.NAMES))
    # The stamps changed between a transform and its image: that image has no pose, the next has.
    sets = [node.cameras[name].matcher.counts.sets for name in table.NAMES]
    wait_for(
        lambda: all(
            node.cameras[name].matcher.counts.sets > before + 1
            for name, before in zip(table.NAMES, sets, strict=True)
        )
    )
    report = client.build()
    assert report.warnings == ()
    assert before_ns - client.segment([ON_RED]).stamp_ns > (seconds - 3.9) * SECOND
    log = "".join(capfd.readouterr())
    assert "camera 'left': its time went back by" in log
    assert "_color_optical_frame' went back by" in log


@pytest.mark.parametrize("seconds", [-1000.0, 5.0], ids=["time goes back", "before TF begins"])
def test_cameras_take_pose_too_early(world, monkeypatch, seconds):
    """Images whose pose will not come are given up."""

    def shift(replay) -> None:
        for part in ("image_topic", "depth_topic"):
            publisher, message = replay._streams["front", part]
            replay._streams["front", part] = (Shifted(publisher), message)

    monkeypatch.setattr(Shifted, "seconds", seconds)
    node = world.scene_node(tf_timeout=PATIENCE)
    world.replay(tf="dynamic", prepare=shift)
    client = world.client()
    wait_for(lambda: node.cameras["front"].matcher.newest() is not None)

    def begin(stage: str, fraction: float) -> None:
        if (stage, fraction) == ("images", 0.0):
            time.sleep(0.3)  # until the pose is waited for
            monkeypatch.setattr(Shifted, "seconds", 0.0)

    report = client.build(progress=begin)
    assert report.warnings == ()
    assert bool(node.cameras["front"].matcher.counts.restarts) == (seconds < 0)
    assert abs(client.segment([ON_RED]).stamp_ns - time.time_ns()) < 100 * SECOND


def test_cameras_take_other_resolution(world):
    """A camera that starts again with another resolution."""
    world.scene_node()
    replay, client = world.replay(), world.client()
    client.build()
    half = VIEWS[1].image[::2, ::2]
    info = copy.deepcopy(replay._streams["left", "camera_info_topic"][1])
    assert isinstance(info, CameraInfo)
    info.height, info.width = half.shape[:2]
    K = VIEWS[1].K / 2
    K[:2, 2] -= 0.25  # the pixel that is kept is the upper left one of four
    K[2, 2] = 1
    info.k = K.ravel()
    changed = {
        "image_topic": image_from_array(half, "rgb8", info.header.frame_id),
        "depth_topic": image_from_array(VIEWS[1].depth[::2, ::2], "32FC1", info.header.frame_id),
        "camera_info_topic": info,
    }
    for part, message in changed.items():
        assert isinstance(message, Image | CameraInfo)
        replay._streams["left", part] = (replay._streams["left", part][0], message)

    def built():
        """Until all three topics are the new ones, the error says what does not fit."""
        try:
            client.build()
        except WildSeg3DError as error:
            if "80x60" not in str(error):
                raise
            return None
        found = client.describe([ON_RED], include_masks=True)
        return found if found.masks["left"].shape == half.shape[:2] else None

    found = wait_for(built)
    centre, radius = table.BALLS[table.RED]
    off = np.abs(np.linalg.norm(found.points - np.array(centre), axis=1) - radius)
    assert np.median(off) < 0.002
