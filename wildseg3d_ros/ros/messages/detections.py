"""The objects of a scene as vision_msgs/Detection3DArray."""

from __future__ import annotations

import math

import numpy as np
from geometry_msgs.msg import PoseWithCovariance
from vision_msgs.msg import (
    Detection3D,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

from wildseg3d_ros.grasping.graspable import GraspableScene
from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.ros.messages.grasps import box_message
from wildseg3d_ros.scene.scene import Scene


def detections(scene: Scene, graspable: GraspableScene) -> Detection3DArray:
    """All objects with a point, in the scene's frame.

    ``id`` is the object's id. The masks know no classes: ``class_id`` is the level, "whole",
    "part" or "sub_part"; ``score`` is the object's, NaN where the back end gives none. The pose is
    that of the box; its covariance is not known, and 0.
    """
    records = {record.object_id: record for record in scene.masks.objects}
    about, found = header(scene.frame_id, scene.stamp_ns), []
    for object_id in scene.index.ids.tolist():
        if not scene.index.count(object_id):
            continue
        box = box_message(graspable.bounding_box((object_id,)), np.eye(4))
        record = records.get(object_id)
        hypothesis = ObjectHypothesis(
            class_id="whole" if record is None else record.level,
            score=math.nan if record is None else float(record.score),
        )
        pose = PoseWithCovariance(pose=box.center)
        found.append(
            Detection3D(
                header=about,
                results=[ObjectHypothesisWithPose(hypothesis=hypothesis, pose=pose)],
                bbox=box,
                id=str(object_id),
            )
        )
    return Detection3DArray(header=about, detections=found)
