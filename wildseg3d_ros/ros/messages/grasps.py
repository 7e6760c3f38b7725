"""Boxes and poses as messages."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Pose
from numpy.typing import NDArray

from wildseg3d_msgs.msg import OrientedBox as BoxMessage
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.ros.messages.conversions import (
    matrix_from_pose,
    point_message,
    quaternion_message,
    vector_message,
)


def box_message(box: OrientedBox, target_from_scene: NDArray[np.float64]) -> BoxMessage:
    """Message of a box, its pose carried into another frame."""
    return BoxMessage(
        pose=pose_message(target_from_scene @ box.frame_from_box),
        size=vector_message(box.size),
        face_coverage=box.face_coverage.astype(np.float32),
        coverage=box.coverage,
    )


def box_from_message(message: BoxMessage) -> OrientedBox:
    """The box of a message."""
    return OrientedBox(
        matrix_from_pose(message.pose),
        np.array([message.size.x, message.size.y, message.size.z]),
        np.array(message.face_coverage, np.float64),
    )


def pose_message(frame_from_body: NDArray[np.float64]) -> Pose:
    """Message of a rigid (4, 4) transform."""
    return Pose(
        position=point_message(frame_from_body[:3, 3]),
        orientation=quaternion_message(frame_from_body[:3, :3]),
    )
