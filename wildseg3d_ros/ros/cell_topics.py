"""What a live cell publishes: cameras, the arm, TF, the time, and what is really there."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import ColorRGBA, String
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.ros.messages.conversions import (
    header,
    image_from_array,
    time_message,
    transform_from_matrix,
    vector_message,
)
from wildseg3d_ros.ros.messages.grasps import pose_message
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.replay_node import WORLD_FRAME, camera_messages, optical_frame
from wildseg3d_ros.sim.arm import LINKS, Arm
from wildseg3d_ros.sim.live import WRIST, LiveCell
from wildseg3d_ros.streams.config import CameraConfig

_DEPTH_HEAD = struct.pack("<iff", 0, 0.0, 0.0)
"""Before the PNG of a depth image of 16 bits, which needs no quantisation."""


class CellTopics:
    """Publishers of a cell.

    Args:
        node: that they belong to.
        compressed: whether images go out compressed as well.

    Attributes:
        arm: that the cell has; None where there is none.
    """

    def __init__(self, node: Node, compressed: bool) -> None:
        self._node, self._compressed = node, compressed
        self.arm: Arm | None = None
        self._publishers: dict[str, Publisher] = {}
        self._qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)

    def publish(self, topic: str, message: Any, qos: QoSProfile | int | None = None) -> None:
        """Publishes on a topic, with the quality of images unless another is given."""
        if topic not in self._publishers:
            made = self._node.create_publisher(type(message), topic, qos or self._qos)
            self._publishers[topic] = made
        self._publishers[topic].publish(message)

    def static(self, cell: LiveCell) -> None:
        """What does not change: poses of the fixed cameras, the arm's base and description."""
        fixed = [
            transform_from_matrix(cell.reported[name], WORLD_FRAME, optical_frame(name))
            for name in cell.cameras
            if name != WRIST
        ]
        if cell.spec.arm:
            self.arm = cell.arm.model
            base = self.arm.world_from_base
            fixed.append(transform_from_matrix(base, WORLD_FRAME, LINKS[0].name))
            self.publish("robot_description", String(data=self.arm.urdf()), latched())
        self.publish("/tf_static", TFMessage(transforms=fixed), latched())

    def cameras(self, cell: LiveCell, sensed: Sequence[View], stamp_ns: int) -> None:
        """What cameras sense now, and where all that moves is at their time."""
        self._moving(cell, any(view.name == WRIST for view in sensed), stamp_ns)
        stamp = time_message(stamp_ns)
        for view in sensed:
            for field, message in camera_messages(view.name, view, "16UC1").items():
                message.header.stamp = stamp
                self.publish(getattr(CameraConfig.of(view.name), field), message)
            if self._compressed:
                self._camera_compressed(view.name, view, stamp_ns)

    def truth(self, cell: LiveCell, stamp_ns: int) -> None:
        """Labels of the fixed cameras; poses and boxes of the things."""
        poses = [pose_message(pose) for pose in cell.poses().values()]
        message = PoseArray(header=header(WORLD_FRAME, stamp_ns), poses=poses)
        self.publish("truth/poses", message, latched())
        self.publish("truth/boxes", _boxes(cell, stamp_ns), latched())
        for name in cell.cameras:
            if name != WRIST:
                frame = optical_frame(name)
                labels = image_from_array(cell.labels(name), "mono8", frame, stamp_ns)
                self.publish(f"truth/{name}/labels", labels, latched())

    def _moving(self, cell: LiveCell, wrist: bool, stamp_ns: int) -> None:
        moved: list[tuple[str, str, np.ndarray]] = []
        if cell.spec.arm:
            moved = cell.arm.model.steps(cell.arm.angles)
            joints, angles = cell.arm.model.joints, cell.arm.angles.tolist()
            state = JointState(header=header("", stamp_ns), name=joints, position=angles)
            self.publish("joint_states", state, 10)
        elif wrist:
            moved = [(WORLD_FRAME, optical_frame(WRIST), cell.reported[WRIST])]
        if moved:
            found = [transform_from_matrix(pose, parent, link) for parent, link, pose in moved]
            for transform in found:
                transform.header.stamp = time_message(stamp_ns)
            self.publish("/tf", TFMessage(transforms=found), 100)

    def _camera_compressed(self, name: str, view: View, stamp_ns: int) -> None:
        where, topics = header(optical_frame(name), stamp_ns), CameraConfig.of(name)
        jpeg = cv2.imencode(".jpg", view.image[..., ::-1])[1].tobytes()
        message = CompressedImage(header=where, format="rgb8; jpeg compressed bgr8", data=jpeg)
        self.publish(f"{topics.image_topic}/compressed", message)
        if view.depth is not None:
            millimetres = np.clip(np.rint(1000.0 * view.depth), 0, 65535).astype(np.uint16)
            data = _DEPTH_HEAD + cv2.imencode(".png", millimetres)[1].tobytes()
            message = CompressedImage(header=where, format="16UC1; compressedDepth png", data=data)
            self.publish(f"{topics.depth_topic}/compressedDepth", message)


def _boxes(cell: LiveCell, stamp_ns: int) -> MarkerArray:
    """A box per thing, its name the namespace and its label the id, after one that clears."""
    markers = [Marker(header=header(WORLD_FRAME, stamp_ns), action=Marker.DELETEALL)]
    for name, (pose, edges) in cell.boxes().items():
        marker = Marker(
            header=header(WORLD_FRAME, stamp_ns),
            ns=name,
            id=cell.label(name),
            type=Marker.CUBE,
            action=Marker.ADD,
            pose=pose_message(pose),
            scale=vector_message(edges),
            color=ColorRGBA(r=0.2, g=0.6, b=1.0, a=0.3),
        )
        markers.append(marker)
    return MarkerArray(markers=markers)
