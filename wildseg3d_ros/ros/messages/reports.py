"""Reports about cameras as messages."""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from wildseg3d_msgs.msg import CameraOverlap, RigPicture, StreamReport
from wildseg3d_msgs.msg import CameraReport as CameraMessage
from wildseg3d_msgs.srv import CheckRig
from wildseg3d_ros.core.types import CameraVerdict, Verdict, View
from wildseg3d_ros.io.pictures import jpeg
from wildseg3d_ros.rig.check_pictures import Picture
from wildseg3d_ros.rig.live import LiveRig, PackedPicture, PosedVerdict, StreamState
from wildseg3d_ros.ros.messages.conversions import header, matrix_from_pose
from wildseg3d_ros.ros.messages.grasps import pose_message
from wildseg3d_ros.scene.scene import Scene

VERDICTS: tuple[Verdict, ...] = ("ok", "moved", "suspect", "unchecked", "left out")
"""By the constants of CameraReport.msg."""


def scene_reports(scene: Scene) -> list[CameraMessage]:
    """One report per camera of a scene, with its solved pose; and per view that was left out, with
    its given pose."""
    solved = scene.alignment.cameras, scene.camera_frames, scene.world_from_cam
    left_out = [view.verdict for view in scene.left_out]
    frames = [view.frame_id for view in scene.left_out]
    given = [view.world_from_cam for view in scene.left_out]
    return [*camera_reports(*solved), *camera_reports(left_out, frames, given)]


def view_reports(views: Sequence[View], cameras: Sequence[CameraVerdict]) -> list[CameraMessage]:
    """One report per view of which nothing was built, with its given pose."""
    poses = [view.world_from_cam_prior for view in views]
    return camera_reports(cameras, [view.frame_id for view in views], poses)


def camera_reports(
    cameras: Iterable[CameraVerdict],
    frames: Iterable[str],
    poses: Iterable[NDArray[np.float64] | None],
) -> list[CameraMessage]:
    """One message per camera, none where nothing is known of any; a pose that is None is the
    identity."""
    return [
        CameraMessage(
            camera=camera.name,
            optical_frame=frame,
            verdict=VERDICTS.index(camera.verdict),
            reason=camera.why,
            pose_given=camera.posed,
            pose=pose_message(np.eye(4) if pose is None else pose),
            moved=camera.translation,
            turned=camera.rotation,
            moved_deviation=camera.translation_sigma,
            turned_deviation=camera.rotation_sigma,
            agreement=camera.agreement,
            overlaps=[
                CameraOverlap(camera=name, share=float(share))
                for name, share in camera.overlap.items()
            ],
            median_depth=camera.median_depth,
            depth_share=camera.depth_share,
        )
        for camera, frame, pose in zip(cameras, frames, poses, strict=False)
    ]


def camera_report(message: CameraMessage) -> PosedVerdict:
    """The verdict of a message, with the pose; what a message does not carry is NaN."""
    nan = float("nan")
    verdict = CameraVerdict(
        message.camera,
        message.pose_given,
        message.moved,
        message.turned,
        message.moved_deviation,
        message.turned_deviation,
        nan,
        nan,
        VERDICTS[message.verdict],
        message.reason,
        message.agreement,
        {overlap.camera: overlap.share for overlap in message.overlaps},
        message.median_depth,
        message.depth_share,
    )
    return PosedVerdict(verdict, message.optical_frame, matrix_from_pose(message.pose))


def picture_message(picture: Picture, frame_id: str, stamp_ns: int) -> RigPicture:
    """A picture of a check."""
    packed = CompressedImage(
        header=header(frame_id, stamp_ns),
        format="rgb8; jpeg compressed bgr8",
        data=array.array("B", jpeg(picture.image)),
    )
    return RigPicture(title=picture.title, image=packed)


def rig_report(reply: CheckRig.Response) -> LiveRig:
    """What a reply says."""
    return LiveRig(
        VERDICTS[reply.verdict],
        tuple(reply.problems),
        reply.mistake,
        tuple(map(camera_report, reply.cameras)),
        tuple(map(_stream_state, reply.streams)),
        reply.header.frame_id,
        reply.stamp_spread,
        tuple(PackedPicture(each.title, each.image.data.tobytes()) for each in reply.pictures),
    )


def _stream_state(message: StreamReport) -> StreamState:
    values = {field.name: getattr(message, field.name) for field in fields(StreamState)}
    for name in ("publishers", "problems"):
        values[name] = tuple(values[name])
    return StreamState(**values)
