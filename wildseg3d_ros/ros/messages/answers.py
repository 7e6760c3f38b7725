"""What ``segment`` and ``describe_object`` say of one prompt, as one answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import Alternative, ObjectCloud, ViewMasks
from wildseg3d_ros.ros.messages.replies import Description, Selection


def object_cloud(reply: Selection, more: Description) -> ObjectCloud:
    """Replies about one prompt as the core's answer; its masks are those that were asked for."""

    def alternative(each) -> Alternative:
        def cut() -> ObjectCloud:
            size = each.count
            return ObjectCloud(
                each.points,
                each.colors,
                np.zeros(size, np.float32),
                np.zeros(size, np.uint8),
                (each.object_id,) if each.object_id else (),
                _masks({}),
                reply.frame_id,
                reply.stamp_ns,
                reply.scene_id,
                score=each.score,
            )

        return Alternative((), each.score, each.larger, each.count, cut)

    return ObjectCloud(
        reply.points,
        reply.colors,
        more.confidence,
        more.view_count,
        reply.object_ids,
        _masks(more.masks),
        reply.frame_id,
        reply.stamp_ns,
        reply.scene_id,
        score=reply.score,
        ambiguity=reply.ambiguity,
        alternatives=tuple(map(alternative, reply.alternatives)),
    )


def _masks(masks: dict[str, NDArray[np.bool_]]) -> ViewMasks:
    leaves = [np.where(mask, 0, -1).astype(np.int32) for mask in masks.values()]
    return ViewMasks(list(masks), leaves, np.array([[0, 1]], np.int32))
