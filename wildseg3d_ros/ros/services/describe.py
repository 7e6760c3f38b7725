"""What grasp planners ask of an object beyond its cloud, as the reply of ``describe_object``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_msgs.msg import CameraCloud, CameraMask, ViewPoint
from wildseg3d_msgs.srv import DescribeObject
from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import ObjectCloud
from wildseg3d_ros.core.types.tree import Selected
from wildseg3d_ros.grasping.graspable import DEFAULT_VOXEL
from wildseg3d_ros.grasping.surroundings import PlainCloud
from wildseg3d_ros.ros.messages.clouds import cloud_message, colored_columns, normal_columns
from wildseg3d_ros.ros.messages.conversions import image_from_mask, point_message
from wildseg3d_ros.ros.messages.grasps import box_message
from wildseg3d_ros.ros.services.current import CurrentScene, ReplyFrame
from wildseg3d_ros.scene.prompting import selected_by
from wildseg3d_ros.scene.voxels import check_voxel_size, voxel_downsample


def check_describe(request: DescribeObject.Request, current: CurrentScene) -> None:
    """Refuses what cannot be given, before anything is computed.

    Raises:
        WildSeg3DError: with the code and text of the reply.
    """
    for name in ("voxel_size", "normal_radius", "context_size", "surroundings_voxel_size"):
        check_voxel_size(getattr(request, name), name)
    cameras = list(request.organized_cameras)
    for name in cameras:
        current.scene.view_index(name)
    twice = next((name for name in cameras if cameras.count(name) > 1), None)
    if twice is not None:
        raise PromptError(f"organized_cameras names '{twice}' twice; name each camera once")


def describe(
    current: CurrentScene, request: DescribeObject.Request, cloud: ObjectCloud, frame: ReplyFrame
) -> DescribeObject.Response:
    """The reply about what a request's prompt means.

    Raises:
        WildSeg3DError: with the code and text of the reply.
    """
    parts = _Parts(current, request, selected_by(current.scene, cloud), frame)
    scene, graspable = current.scene, current.graspable
    thinned = voxel_downsample(cloud, request.voxel_size)
    columns = colored_columns(frame.moved(thinned.points), thinned.colors)
    columns |= {"confidence": thinned.confidence, "view_count": thinned.view_count}
    box, coverage = graspable.bounding_box(parts.selected), [math.nan] * 7
    if request.include_surface:
        columns |= parts.surface()
        box = graspable.box(parts.selected)
        coverage = [*box.face_coverage.tolist(), box.coverage]
    reply = DescribeObject.Response(
        header=frame.header,
        scene_id=scene.scene_id,
        object_ids=list(cloud.object_ids),
        cloud=frame.cloud(columns),
        box=box_message(box, frame.target_from_scene),
        face_coverage=coverage[:6],
        coverage=coverage[6],
        view_points=parts.view_points(),
        registration_residual=float(scene.alignment.registration_residual),
        organized_clouds=[parts.organized(name) for name in request.organized_cameras],
    )
    voxel = request.surroundings_voxel_size or DEFAULT_VOXEL
    if request.include_context:
        near = graspable.context(parts.selected, request.context_size, voxel)
        reply.context = frame.cloud(
            parts.columns(near) | {"object": near.on_object.astype(np.uint8)}
        )
    if request.include_surroundings:
        reply.surroundings = frame.cloud(
            parts.columns(graspable.surroundings(parts.selected, voxel))
        )
    if request.include_masks:
        reply.masks = [parts.mask(name, cloud) for name in scene.view_names]
    return reply


@dataclass(frozen=True)
class _Parts:
    """The parts of a reply, each made only when it is asked for."""

    current: CurrentScene
    request: DescribeObject.Request
    selected: Selected
    frame: ReplyFrame

    def columns(self, cloud: PlainCloud) -> dict[str, NDArray]:
        return colored_columns(self.frame.moved(cloud.points), cloud.colors)

    def surface(self) -> dict[str, NDArray]:
        graspable, voxel = self.current.graspable, self.request.voxel_size
        normals = graspable.normals(self.selected, voxel, self.request.normal_radius)
        normals = normals @ self.frame.target_from_scene[:3, :3].T.astype(np.float32)
        return {
            **normal_columns(normals),
            "views": graspable.surface(self.selected, voxel).views,
        }

    def view_points(self) -> list[ViewPoint]:
        scene, moved = self.current.scene, self.frame.target_from_scene
        return [
            ViewPoint(camera=name, point=point_message(apply(moved, centre)))
            for name, centre in zip(scene.view_names, scene.world_from_cam[:, :3, 3], strict=True)
        ]

    def mask(self, name: str, cloud: ObjectCloud) -> CameraMask:
        scene, view = self.current.scene, self.current.scene.view_index(name)
        mask = self.current.calibrations[name].published_labels(cloud.masks[name])
        image = image_from_mask(mask, scene.camera_frames[view], scene.stamps_ns[view])
        return CameraMask(camera=name, mask=image)

    def organized(self, name: str) -> CameraCloud:
        scene, view = self.current.scene, self.current.scene.view_index(name)
        points, image = self.current.graspable.organized(self.selected, view)
        # From pinhole pixels, NaN where nothing is, to those of the published image.
        lens = self.current.calibrations[name]
        points = lens.published_labels(self.frame.moved(points), np.nan)
        columns = colored_columns(points, lens.published_labels(image))
        stamp_ns = self.frame.stamp_ns if self.frame.is_now else scene.stamps_ns[view]
        cloud = cloud_message(columns, self.frame.target, stamp_ns, lens.size)
        return CameraCloud(camera=name, cloud=cloud)
