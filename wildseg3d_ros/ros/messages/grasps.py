"""Boxes and poses as messages."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Pose
from numpy.typing import ArrayLike, NDArray
from vision_msgs.msg import BoundingBox3D

from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.ros.messages.conversions import (
    matrix_from_pose,
    point_message,
    quaternion_message,
    vector_message,
)


def box_message(box: OrientedBox, target_from_scene: NDArray[np.float64]) -> BoundingBox3D:
    """Message of a box, its pose carried into another frame."""
    return BoundingBox3D(
        center=pose_message(target_from_scene @ box.frame_from_box),
        size=vector_message(box.size),
    )


def box_from_message(
    message: BoundingBox3D, face_coverage: ArrayLike = (np.nan,) * 6
) -> OrientedBox:
    """The box of a message, and what another field says of its faces."""
    return OrientedBox(
        matrix_from_pose(message.center),
        np.array([message.size.x, message.size.y, message.size.z]),
        np.array(face_coverage, np.float64),
    )


def pose_message(frame_from_body: NDArray[np.float64]) -> Pose:
    """Message of a rigid (4, 4) transform."""
    return Pose(
        position=point_message(frame_from_body[:3, 3]),
        orientation=quaternion_message(frame_from_body[:3, :3]),
    )
