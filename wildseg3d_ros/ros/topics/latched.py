"""Reads the scene node's latched topics once, for scripts."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from wildseg3d_ros.ros.client import SceneClient
from wildseg3d_ros.ros.messages.conversions import array_from_image


def label_maps(
    client: SceneClient, cameras: Sequence[str], timeout: float = 20.0
) -> dict[str, NDArray[np.int32]]:
    """(H, W) int32 object ids of each camera's cached masks, 0 = no object.

    Raises:
        TimeoutError: a camera's labels did not come; the text names it.
    """
    latched = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
    maps: dict[str, NDArray[np.int32]] = {}
    complete = threading.Event()

    def listen(camera: str):
        def take(message: Image) -> None:
            maps[camera] = array_from_image(message, camera).astype(np.int32)
            if len(maps) == len(cameras):
                complete.set()

        return client.node.create_subscription(Image, f"{camera}/labels", take, latched)

    subscriptions = [listen(camera) for camera in cameras]
    try:
        if not complete.wait(timeout):
            missing = ", ".join(camera for camera in cameras if camera not in maps)
            raise TimeoutError(f"no label image of {missing} within {timeout:g} s")
    finally:
        for subscription in subscriptions:
            client.node.destroy_subscription(subscription)
    return maps
