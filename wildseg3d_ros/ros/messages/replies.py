"""Replies of the scene node as arrays and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from wildseg3d_msgs.action import BuildScene, EditObject
from wildseg3d_msgs.msg import Alternative as AlternativeMessage
from wildseg3d_msgs.msg import SceneObject as SceneObjectMessage
from wildseg3d_msgs.msg import Status
from wildseg3d_msgs.srv import DescribeObject, Segment, Undo
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
        object_id: of the scene's object that it is; 0 = none.
        score: expected IoU with what the prompt means.
        larger: whether it is larger than the answer.
        count: number of its points.
        points: (M, 3) float32 metres, in the frame of the answer; empty unless asked for.
        colors: (M, 3) uint8 RGB.
    """

    object_id: int
    score: float
    larger: bool
    count: int
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]

    @classmethod
    def of(cls, message: AlternativeMessage) -> Alternative:
        """Reads a message."""
        found = _plain_cloud(message.cloud)
        points, colors = (
            (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
            if found is None
            else (found.points, found.colors)
        )
        number, score, larger = message.object_id, message.score, message.larger
        return cls(number, score, larger, message.points, points, colors)


@dataclass(frozen=True, eq=False)
class _Answer:
    """What a prompt gave.

    Attributes:
        points: (M, 3) float32 metres in ``frame_id``.
        colors: (M, 3) uint8 RGB.
        box: about the points, in ``frame_id``; its coverage is NaN where it was not asked for.
        object_ids: the scene's objects that the prompt chose; empty where a part of the surface
            answers that is no object.
        frame_id, stamp_ns: frame of the points and time of the images.
        scene_id: the scene that answered.
        warnings: what to know although all went well.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    box: OrientedBox
    object_ids: tuple[int, ...]
    frame_id: str
    stamp_ns: int
    scene_id: str
    warnings: tuple[str, ...]

    @property
    def pose(self) -> PoseStamped:
        """Centre and axes of the box."""
        return PoseStamped(
            header=header(self.frame_id, self.stamp_ns),
            pose=pose_message(self.box.frame_from_box),
        )


def _answer(reply: Segment.Response | DescribeObject.Response) -> dict[str, Any]:
    """Fields of :class:`_Answer`.

    Raises:
        WildSeg3DError: the node's error, with its code and text.
    """
    raise_unless_ok(reply.status)
    points, colors = points_from_cloud(reply.cloud)
    return {
        "points": points,
        "colors": colors,
        "box": box_from_message(reply.box),
        "object_ids": tuple(reply.object_ids),
        "frame_id": reply.header.frame_id,
        "stamp_ns": nanoseconds(reply.header.stamp),
        "scene_id": reply.scene_id,
        "warnings": tuple(reply.warnings),
    }


@dataclass(frozen=True, eq=False)
class Selection(_Answer):
    """The object that a prompt means.

    Attributes:
        score: expected IoU with what the prompt means; NaN where the mask back end does not say.
        ambiguity: how good the best alternative is, relative to the answer; NaN likewise.
        alternatives: what the prompt may mean instead.
    """

    score: float
    ambiguity: float
    alternatives: tuple[Alternative, ...]

    @classmethod
    def of(cls, reply: Segment.Response) -> Selection:
        """Reads a reply; errors as of the node."""
        return cls(
            **_answer(reply),
            score=reply.score,
            ambiguity=reply.ambiguity,
            alternatives=tuple(map(Alternative.of, reply.alternatives)),
        )


@dataclass(frozen=True, eq=False)
class Description(_Answer):
    """More of an object. What was not asked for is None or empty.

    Attributes:
        confidence: (M,) float32.
        view_count: (M,) uint8, number of cameras that see a point.
        normals: (M, 3) float32 unit vectors towards the cameras that saw the points.
        views: (M,) uint32; bit i says that the i-th camera of ``view_points`` sees the point.
        view_points: (3,) place by camera, in the scene's order.
        registration_residual: metres by which given poses and depth differ from the scene, as its
            build reported; NaN where nothing could differ.
        context, surroundings: what lies about the object, and the scene without it.
        masks: (H, W) bool by camera.
        organized: (H, W, 3) float32 by camera, NaN where the object was not measured.
    """

    confidence: NDArray[np.float32]
    view_count: NDArray[np.uint8]
    normals: NDArray[np.float32] | None
    views: NDArray[np.uint32] | None
    view_points: dict[str, NDArray[np.float64]]
    registration_residual: float
    context: PlainCloud | None
    surroundings: PlainCloud | None
    masks: dict[str, NDArray[np.bool_]]
    organized: dict[str, NDArray[np.float32]]

    @classmethod
    def of(cls, reply: DescribeObject.Response) -> Description:
        """Reads a reply; errors as of the node."""
        answer = _answer(reply)
        answer["box"] = box_from_message(reply.box, reply.face_coverage)
        columns = columns_from_cloud(reply.cloud)
        normals = None
        if NORMAL_FIELDS[0] in columns:
            normals = np.stack([columns[name] for name in NORMAL_FIELDS], axis=1)
        return cls(
            **answer,
            confidence=columns["confidence"],
            view_count=columns["view_count"],
            normals=normals,
            views=columns.get("views"),
            view_points={
                each.camera: np.array([each.point.x, each.point.y, each.point.z])
                for each in reply.view_points
            },
            registration_residual=reply.registration_residual,
            context=_plain_cloud(reply.context),
            surroundings=_plain_cloud(reply.surroundings),
            masks={
                each.camera: array_from_image(each.mask, f"mask of '{each.camera}'") > 0
                for each in reply.masks
            },
            organized={
                each.camera: points_from_cloud(each.cloud)[0].reshape(
                    each.cloud.height, each.cloud.width, 3
                )
                for each in reply.organized_clouds
            },
        )


@dataclass(frozen=True)
class Edited:
    """What an edit gave.

    Attributes:
        scene_id: of the scene that answers now.
        object_ids: of the object that was added or corrected, or of those that were there.
        warnings: what to know although all went well.
    """

    scene_id: str
    object_ids: tuple[int, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, result: EditObject.Result) -> Edited:
        """Reads a result; errors as of the node."""
        raise_unless_ok(result.status, list(result.warnings))
        return cls(result.scene_id, tuple(result.object_ids), tuple(result.warnings))


def scene_object(message: SceneObjectMessage) -> SceneObject:
    """Reads a message; an object without points has no box."""
    return SceneObject(
        message.id,
        LEVELS[message.level],
        message.parent,
        message.points,
        message.score,
        message.ambiguity,
        tuple(message.cameras),
        box_from_message(message.box) if message.points else None,
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
