"""Replies of the scene node as arrays and plain values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_msgs.action import BuildScene
from wildseg3d_msgs.msg import Status
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.errors import Cancelled, ErrorCode, WildSeg3DError
from wildseg3d_ros.ros.conversions import array_from_image, nanoseconds, points_from_cloud


@dataclass(frozen=True)
class BuildReport:
    """What a build gave: see wildseg3d_msgs/action/BuildScene."""

    scene_id: str
    objects: int
    frame_id: str
    scale_sources: tuple[str, ...]
    scale_factor: float
    registration_residual: float
    seconds: float
    stage_seconds: dict[str, float]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, result: BuildScene.Result) -> BuildReport:
        """Reads a result.

        Raises:
            WildSeg3DError: the node's error, with its code and text.
        """
        raise_unless_ok(result.status)
        return cls(
            scene_id=result.scene_id,
            objects=result.objects,
            frame_id=result.frame_id,
            scale_sources=tuple(result.scale_sources),
            scale_factor=result.scale_factor,
            registration_residual=result.registration_residual,
            seconds=result.seconds,
            stage_seconds=dict(zip(result.stage_names, result.stage_seconds, strict=True)),
            warnings=tuple(result.warnings),
        )


@dataclass(frozen=True, eq=False)
class Selection:
    """What a click gave.

    Attributes:
        points: (M, 3) float32 metres in ``frame_id``.
        colors: (M, 3) uint8 RGB.
        object_ids: the scene's objects that the clicks chose.
        frame_id, stamp_ns: frame of the points and time of the images.
        scene_id: the scene that answered.
        masks: (H, W) bool by camera; empty unless asked for.
        warnings: what to know although all went well.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    frame_id: str
    stamp_ns: int
    scene_id: str
    masks: dict[str, NDArray[np.bool_]]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, reply: Segment.Response) -> Selection:
        """Reads a reply.

        Raises:
            WildSeg3DError: the node's error, with its code and text.
        """
        raise_unless_ok(reply.status)
        points, colors = points_from_cloud(reply.cloud)
        return cls(
            points=points,
            colors=colors,
            object_ids=tuple(reply.object_ids),
            frame_id=reply.cloud.header.frame_id,
            stamp_ns=nanoseconds(reply.cloud.header.stamp),
            scene_id=reply.scene_id,
            masks={
                name: array_from_image(mask, f"mask of '{name}'") > 0
                for name, mask in zip(reply.mask_cameras, reply.masks, strict=True)
            },
            warnings=tuple(reply.warnings),
        )


def raise_unless_ok(status: Status) -> None:
    """Raises the error that a reply carries."""
    if status.code == ErrorCode.CANCELLED:
        raise Cancelled(status.message)
    if status.code != ErrorCode.OK:
        raise WildSeg3DError(status.message, ErrorCode(status.code))
