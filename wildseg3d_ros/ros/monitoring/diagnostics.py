"""The state of cameras in lines for /diagnostics, as rqt_robot_monitor and its like show them."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from wildseg3d_ros.core.types import CameraVerdict
from wildseg3d_ros.ros.cameras.diagnostics import why_no_set
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.streams.config import NodeConfig

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
_SAME_STAMPS = 3
"""Images of one stamp from which a camera is frozen: a driver may send one twice."""
_LATE = 5.0
"""Seconds that no driver takes from exposure to publication."""
START_SECONDS = 3.0
"""In which publishers are found, first images come and TF covers them: no problem is reported."""


def status(name: str, level: bytes, message: str, **values: object) -> DiagnosticStatus:
    """One line of the diagnostics; numbers are written with three decimals."""
    pairs = [
        KeyValue(key=key, value=f"{value:.3f}" if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)


def pose_status(camera: CameraVerdict) -> DiagnosticStatus:
    """What a scene's build found about the given pose of a camera."""
    text = camera.verdict if not camera.why else f"{camera.verdict}: {camera.why}"
    return status(
        f"pose of camera {camera.name}",
        OK if camera.verdict == "ok" else WARN,
        text,
        **{
            "moved by [m]": camera.translation,
            "turned by [rad]": camera.rotation,
            "standard deviation [m]": camera.translation_sigma,
            "standard deviation [rad]": camera.rotation_sigma,
            "agrees with others": camera.agreement,
            "sees the same as": ", ".join(camera.overlap),
        },
    )


def steady_timer(node: Node, seconds: float, callback: Callable[[], None]) -> None:
    """A timer that does not use the node's clock: simulated time may stand still, or be absent."""
    clock = Clock(clock_type=ClockType.STEADY_TIME)
    node.create_timer(seconds, callback, MutuallyExclusiveCallbackGroup(), clock)


class CameraMonitor:
    """The state of one camera; a problem goes to the log when it begins and when it ends."""

    def __init__(self, cameras: Cameras, name: str, node: Node) -> None:
        self._cameras, self._name, self._node = cameras, name, node
        self._problem = ""
        self._before = (0, 0)
        self._stamp = (0, 0)  # of the newest image, and how many had come when it first did

    def status(self, config: NodeConfig) -> DiagnosticStatus:
        """One status: rate, age, losses, and what is wrong."""
        camera = self._cameras[self._name]
        matcher = camera.matcher
        counts, age = matcher.counts, matcher.age()
        name = f"camera {self._name}"
        values = {
            "rate [Hz]": matcher.rate(),
            "age [s]": math.nan if age is None else age,
            "images": counts.received["image"],
            "depth images": counts.received["depth"],
            "complete sets": counts.sets,
            "lost images": counts.lost,
            "images without depth": counts.unpaired,
            "restarts of its time": counts.restarts,
            "topic": self._node.resolve_topic_name(camera.image.topic),
        }
        if matcher.newest(config.max_image_age) is None:
            if time.monotonic() - camera.since < START_SECONDS:
                return status(name, WARN, "no images yet", **values)
            problem = str(why_no_set(camera, config, self._node))
            self._log(problem)
            return status(name, ERROR, problem, **values)
        odd = self._odd_stamps()
        if odd:
            self._log(odd)
            return status(name, WARN, odd, **values)
        self._log("")
        dropped = counts.lost + counts.unpaired
        new_sets = max(counts.sets - self._before[0], 0)
        new_dropped = max(dropped - self._before[1], 0)
        self._before = counts.sets, dropped
        if new_dropped > 0.2 * (new_sets + new_dropped):
            text = f"{new_dropped} of {new_sets + new_dropped} images came to nothing: lost, or "
            return status(name, WARN, f"{text}without depth within sync_slop", **values)
        return status(name, OK, "images come in", **values)

    def _odd_stamps(self) -> str:
        """What is wrong with the stamps of images that do come; mostly nothing."""
        camera = self._cameras[self._name]
        heard = camera.matcher.heard("image")
        if heard is None:
            return ""
        received = camera.matcher.counts.received["image"]
        (stamp_ns, before), self._stamp = self._stamp, (heard.stamp_ns, received)
        if heard.stamp_ns == stamp_ns:
            self._stamp = stamp_ns, before
            if received - before >= _SAME_STAMPS:
                return (
                    f"{camera.who} is frozen: its last {received - before + 1} images have one "
                    "stamp; restart its driver"
                )
        late = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9 - heard.age
        if stamp_ns and late > _LATE:
            return (
                f"{camera.who}: its images are stamped {late:.1f} s before they come; bring the "
                "clocks in step, or set use_sim_time for a recording that is played"
            )
        return ""

    def _log(self, problem: str) -> None:
        # Times in the text grow while the problem stays the same.
        kind = re.sub(r"\d+(\.\d+)?", "", problem)
        if kind == self._problem:
            return
        if problem:
            self._node.get_logger().warning(problem)
        else:
            self._node.get_logger().info(f"camera '{self._name}' is there again")
        self._problem = kind
