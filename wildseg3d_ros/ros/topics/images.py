"""Latched images with their compressed siblings, as image_transport has them."""

from __future__ import annotations

import array
import threading

import cv2
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from wildseg3d_ros.ros.lifecycle import ManagedNode
from wildseg3d_ros.ros.messages.conversions import header, image_from_array
from wildseg3d_ros.ros.qos import latched


class ImageTopic:
    """A latched image, and the same under ``<topic>/compressed``, which is made for listeners.

    Args:
        node: whose topic it is.
        topic: relative name.
        encoding: rgb8, which becomes JPEG, or mono16, whose numbers stay as they are in a PNG.
    """

    def __init__(self, node: ManagedNode, topic: str, encoding: str) -> None:
        self._node, self._encoding = node, encoding
        self._raw = node.create_lifecycle_publisher(Image, topic, latched())
        self._packed = node.create_lifecycle_publisher(
            CompressedImage, f"{topic}/compressed", latched()
        )
        self._newest: tuple[NDArray, str, int] | None = None
        self._sent: tuple[NDArray, str, int] | None = None
        self._lock = threading.Lock()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens to either."""
        return bool(self._raw.get_subscription_count() or self._packed.get_subscription_count())

    def publish(self, pixels: NDArray, frame_id: str, stamp_ns: int) -> None:
        """Publishes an image, compressed as well where somebody listens."""
        self._raw.publish(image_from_array(pixels, self._encoding, frame_id, stamp_ns))
        self._newest = pixels, frame_id, stamp_ns
        self.serve()

    def serve(self) -> None:
        """Publishes the newest image compressed, where somebody has begun to listen."""
        with self._lock:
            newest = self._newest
            if newest is None or newest is self._sent:
                return
            if not self._packed.get_subscription_count():
                return
            pixels, frame_id, stamp_ns = newest
            message = CompressedImage(header=header(frame_id, stamp_ns))
            if self._encoding == "rgb8":
                message.format = "rgb8; jpeg compressed bgr8"
                _, packed = cv2.imencode(".jpg", pixels[..., ::-1])
            else:
                message.format = f"{self._encoding}; png compressed "
                _, packed = cv2.imencode(".png", pixels)
            message.data = array.array("B", packed.tobytes())
            self._packed.publish(message)
            self._sent = newest

    def destroy(self) -> None:
        """Leaves the graph, and with it the latched messages."""
        for publisher in (self._raw, self._packed):
            self._node.destroy_lifecycle_publisher(publisher)
