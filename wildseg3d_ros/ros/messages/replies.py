"""Replies of the scene node as arrays and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from wildseg3d_msgs.action import BuildScene
from wildseg3d_msgs.msg import Alternative as AlternativeMessage
from wildseg3d_msgs.msg import OrientedBox as BoxMessage
from wildseg3d_msgs.msg import SceneObject as SceneObjectMessage
from wildseg3d_msgs.msg import Status
from wildseg3d_msgs.srv import Segment, Undo
from wildseg3d_ros.core.errors import Cancelled, ErrorCode, WildSeg3DError
from wildseg3d_ros.core.types import LEVELS
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.grasping.surroundings import PlainCloud
from wildseg3d_ros.rig.live import PosedVerdict
from wildseg3d_ros.ros.messages.clouds import NORMAL_FIELDS, columns_from_cloud, points_from_cloud
from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.ros.messages.grasps import box_from_message, pose_message
from wildseg3d_ros.ros.messages.reports import camera_report
from wildseg3d_ros.streams.images import array_from_image
from wildseg3d_ros.streams.messages import nanoseconds


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
    cameras: tuple[PosedVerdict, ...]

    @classmethod
    def of(cls, result: BuildScene.Result) -> BuildReport:
        """Reads a result.

        Raises:
            WildSeg3DError: the node's error, with its code, its text and the build's warnings.
        """
        raise_unless_ok(result.status, list(result.warnings))
        return cls(
            scene_id=result.scene_id,
            objects=result.objects,
            frame_id=result.header.frame_id,
            scale_sources=tuple(result.scale_sources),
            scale_factor=result.scale_factor,
            registration_residual=result.registration_residual,
            seconds=result.seconds,
            stage_seconds={each.stage: each.seconds for each in result.stages},
            warnings=tuple(result.warnings),
            cameras=tuple(map(camera_report, result.camera_reports)),
        )


@dataclass(frozen=True, eq=False)
class Alternative:
    """What a prompt may mean instead of its answer.

    Attributes:
        points: (M, 3) float32 metres, in the frame of the answer.
        colors: (M, 3) uint8 RGB.
        object_id: of the scene's object that it is; 0 = none.
        score: expected IoU with what the prompt means.
        larger: whether it is larger than the answer.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    object_id: int
    score: float
    larger: bool

    @classmethod
    def of(cls, message: AlternativeMessage) -> Alternative:
        """Reads a message."""
        points, colors = points_from_cloud(message.cloud)
        return cls(points, colors, message.object_id, message.score, message.larger)


@dataclass(frozen=True, eq=False)
class Selection:
    """What a prompt gave. What was not asked for is None or empty.

    Attributes:
        points: (M, 3) float32 metres in ``frame_id``.
        colors: (M, 3) uint8 RGB.
        object_ids: the scene's objects that the prompt chose; empty where a part of the surface
            answers that is no object.
        score: expected IoU with what the prompt means; NaN where the mask back end does not say.
        ambiguity: how good the best alternative is, relative to the answer; NaN likewise.
        alternatives: what the prompt may mean instead, where it was asked for.
        frame_id, stamp_ns: frame of the points and time of the images.
        scene_id: the scene that answered.
        masks: (H, W) bool by camera.
        warnings: what to know although all went well.
        normals: (M, 3) float32 unit vectors towards the cameras that saw the points.
        confidence: (M,) float32.
        view_count: (M,) uint8, number of cameras that see a point.
        views: (M,) uint32; bit i says that the i-th camera of ``view_points`` sees the point.
        box: about the object, in ``frame_id``.
        context, surroundings: what lies about the object, and the scene without it.
        organized: (H, W, 3) float32 by camera, NaN where the object was not measured.
        view_points: (3,) place by camera, in the scene's order.
        registration_residual: metres by which given poses and depth differ from the scene, as its
            build reported; NaN where nothing could differ.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    object_ids: tuple[int, ...]
    score: float
    ambiguity: float
    alternatives: tuple[Alternative, ...]
    frame_id: str
    stamp_ns: int
    scene_id: str
    masks: dict[str, NDArray[np.bool_]]
    warnings: tuple[str, ...]
    normals: NDArray[np.float32] | None
    confidence: NDArray[np.float32] | None
    view_count: NDArray[np.uint8] | None
    views: NDArray[np.uint32] | None
    box: OrientedBox | None
    context: PlainCloud | None
    surroundings: PlainCloud | None
    organized: dict[str, NDArray[np.float32]]
    view_points: dict[str, NDArray[np.float64]]
    registration_residual: float

    @property
    def pose(self) -> PoseStamped:
        """Centre and axes of the box.

        Raises:
            ValueError: the box was not asked for.
        """
        if self.box is None:
            raise ValueError("the reply has no box; ask for it with include_box=True")
        return PoseStamped(
            header=header(self.frame_id, self.stamp_ns),
            pose=pose_message(self.box.frame_from_box),
        )

    @classmethod
    def of(cls, reply: Segment.Response) -> Selection:
        """Reads a reply.

        Raises:
            WildSeg3DError: the node's error, with its code and text.
        """
        raise_unless_ok(reply.status)
        columns = columns_from_cloud(reply.cloud)
        points, colors = points_from_cloud(reply.cloud)
        normals = None
        if NORMAL_FIELDS[0] in columns:
            normals = np.stack([columns[name] for name in NORMAL_FIELDS], axis=1)
        return cls(
            points=points,
            colors=colors,
            object_ids=tuple(reply.object_ids),
            score=reply.score,
            ambiguity=reply.ambiguity,
            alternatives=tuple(map(Alternative.of, reply.alternatives)),
            frame_id=reply.header.frame_id,
            stamp_ns=nanoseconds(reply.header.stamp),
            scene_id=reply.scene_id,
            masks={
                each.camera: array_from_image(each.mask, f"mask of '{each.camera}'") > 0
                for each in reply.masks
            },
            warnings=tuple(reply.warnings),
            normals=normals,
            confidence=columns.get("confidence"),
            view_count=columns.get("view_count"),
            views=columns.get("views"),
            box=_box(reply.box),
            context=_plain_cloud(reply.context),
            surroundings=_plain_cloud(reply.surroundings),
            organized={
                each.camera: points_from_cloud(each.cloud)[0].reshape(
                    each.cloud.height, each.cloud.width, 3
                )
                for each in reply.organized_clouds
            },
            view_points={
                each.camera: np.array([each.point.x, each.point.y, each.point.z])
                for each in reply.view_points
            },
            registration_residual=reply.registration_residual,
        )


def scene_object(message: SceneObjectMessage) -> SceneObject:
    """Reads a message; the box is None where boxes were not asked for, too."""
    return SceneObject(
        message.id,
        LEVELS[message.level],
        message.parent,
        message.points,
        message.score,
        message.ambiguity,
        tuple(message.cameras),
        _box(message.box),
    )


@dataclass(frozen=True)
class Undone:
    """A change of the scene that was taken back.

    Attributes:
        scene_id: of the scene that answers now.
        object_id: of the object that the change had added or corrected.
        object_remains: whether the scene still has it.
        remaining: changes that can still be taken back.
    """

    scene_id: str
    object_id: int
    object_remains: bool
    remaining: int

    @classmethod
    def of(cls, reply: Undo.Response) -> Undone:
        """Reads a reply."""
        return cls(reply.scene_id, reply.object_id, reply.object_remains, reply.remaining)


def _box(message: BoxMessage) -> OrientedBox | None:
    """None for a box that was not asked for, which has no extent."""
    size = message.size
    return box_from_message(message) if max(size.x, size.y, size.z) > 0 else None


def _plain_cloud(message: PointCloud2) -> PlainCloud | None:
    if not message.fields:
        return None
    points, colors = points_from_cloud(message)
    on_object = columns_from_cloud(message).get("object", np.zeros(len(points), np.uint8))
    return PlainCloud(points, colors, on_object > 0)


def raise_unless_ok(status: Status, warnings: Sequence[str] = ()) -> None:
    """Raises the error that a reply carries; warnings that its text lacks follow, a line each."""
    said = (f"warning: {warning}" for warning in warnings if warning not in status.message)
    text = "\n".join([status.message, *said])
    if status.code == ErrorCode.CANCELLED:
        raise Cancelled(text)
    if status.code != ErrorCode.OK:
        raise WildSeg3DError(text, ErrorCode(status.code))
