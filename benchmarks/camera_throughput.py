"""How many of four cameras' images the node receives, and at what processor time.

Four publishers, each a process as a driver is, send 640x480 rgb8 at 30 Hz with their camera_info:
reliable, as most drivers do, and best effort. Counted are the images that the node has received,
and the processor time of its process (the build process is idle). The baseline, in the same run,
is a plain rclpy node with best-effort subscriptions and empty callbacks on a
SingleThreadedExecutor.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.transports import TRANSPORTS, environment

CAMERAS = ("a", "b", "c", "d")
SIZE = (480, 640)
RATE = 30.0
SECONDS = 10.0


def drive(camera: str, reliability: str) -> None:
    """One camera's driver."""
    import numpy as np
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo, Image

    from wildseg3d_ros.ros.messages.conversions import image_from_array

    rclpy.init()
    node = rclpy.create_node(f"driver_{camera}")
    image = image_from_array(np.full((*SIZE, 3), 90, np.uint8), "rgb8", camera)
    info = CameraInfo(height=SIZE[0], width=SIZE[1], k=[500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    qos = QoSProfile(depth=2, reliability=ReliabilityPolicy[reliability.upper()])
    images = node.create_publisher(Image, f"/{camera}/color/image_raw", qos)
    infos = node.create_publisher(CameraInfo, f"/{camera}/color/camera_info", 1)
    sent, start = 0, time.monotonic()
    while rclpy.ok():
        stamp = node.get_clock().now().to_msg()
        image.header.stamp = info.header.stamp = stamp
        # So that a receiver knows how many were sent, on a machine too busy for 30 Hz.
        image.header.frame_id = str(sent)
        images.publish(image)
        infos.publish(info)
        sent += 1
        time.sleep(max(start + sent / RATE - time.monotonic(), 0))


def plain() -> None:
    """The baseline: subscriptions that do nothing but count."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image

    rclpy.init()
    node = rclpy.create_node("plain")
    counts: dict[str, int] = dict.fromkeys(CAMERAS, 0)
    sent: dict[str, int] = dict.fromkeys(CAMERAS, 0)

    def count(camera: str, message: Any) -> None:
        counts[camera] += 1
        sent[camera] = int(message.header.frame_id)

    for camera in CAMERAS:
        topic = f"/{camera}/color/image_raw"
        node.create_subscription(Image, topic, partial(count, camera), qos_profile_sensor_data)
        node.create_subscription(
            CameraInfo, f"/{camera}/color/camera_info", lambda _: None, qos_profile_sensor_data
        )
    _measure(
        lambda: (sum(counts.values()), sum(sent.values())),
        lambda: rclpy.spin_once(node, timeout_sec=0.1),
    )


def scene_node() -> None:
    """The node, receiving."""
    import rclpy
    from rclpy.parameter import Parameter

    from wildseg3d_ros.ros.running import Spinner
    from wildseg3d_ros.ros.scene_node import SceneNode

    rclpy.init()
    values = {"cameras": list(CAMERAS), **{f"{name}.depth_topic": "" for name in CAMERAS}}
    node = SceneNode(parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])
    spinner = Spinner(node)
    node.wait_until_started(lambda: False)

    def count() -> tuple[int, int]:
        newest = [node.cameras[name].matcher.newest() for name in CAMERAS]
        received = sum(node.cameras[name].matcher.counts.received["image"] for name in CAMERAS)
        return received, sum(int(f.image.header.frame_id) for f in newest if f is not None)

    _measure(count, lambda: time.sleep(0.1))
    node.close()
    spinner.stop()
    node.destroy_node()


def _measure(count: Callable[[], tuple[int, int]], step: Callable[[], None]) -> None:
    """Prints images received and sent per second, and cores, after a warm-up."""
    deadline = time.monotonic() + 6.0  # the publishers are found, their streams are regular
    while time.monotonic() < deadline:
        step()
    (received, sent), cpu, start = count(), time.process_time(), time.monotonic()
    while time.monotonic() < start + SECONDS:
        step()
    wall = time.monotonic() - start
    cores = (time.process_time() - cpu) / wall
    received, sent = (
        (now - then) / wall for now, then in zip(count(), (received, sent), strict=True)
    )
    found = {
        "images_per_second": received,
        "sent_per_second": sent,
        "cores": cores,
        "cpu_ms_per_image": 1e3 * cores / max(received, 1e-9),
    }
    print(json.dumps(found), flush=True)


def main() -> dict:
    """Images per second, and cores, of the node and of the baseline."""
    results: dict = {"wanted_per_second": RATE * len(CAMERAS)}
    runs = [(t, reliability) for t in TRANSPORTS for reliability in ("reliable", "best_effort")]
    for number, (transports, reliability) in enumerate(runs):
        variables = environment(transports, number)
        command = [sys.executable, "-m", "benchmarks.camera_throughput"]
        drivers = [
            subprocess.Popen([*command, "drive", camera, reliability], env=variables)
            for camera in CAMERAS
        ]
        found = results.setdefault(f"{transports}, {reliability}", {})
        try:
            for what in ("scene_node", "plain"):
                done = subprocess.run(
                    [*command, what],
                    env=variables,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    check=True,
                )
                found[what] = json.loads(done.stdout.splitlines()[-1])
        finally:
            for driver in drivers:
                driver.kill()
                driver.wait()
        found["cpu_per_image_node_over_plain"] = (
            found["scene_node"]["cpu_ms_per_image"] / found["plain"]["cpu_ms_per_image"]
        )
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["drive"]:
        drive(*sys.argv[2:])
    elif len(sys.argv) > 1:
        {"plain": plain, "scene_node": scene_node}[sys.argv[1]]()
    else:
        print(json.dumps(main(), indent=1))
