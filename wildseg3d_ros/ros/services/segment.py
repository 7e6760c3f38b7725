"""A segment request answered from the current scene: convert, call once, convert back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from wildseg3d_msgs.msg import Alternative as AlternativeMessage
from wildseg3d_msgs.msg import CameraCloud, CameraMask, ViewPoint
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.core.errors import ErrorCode, WildSeg3DError
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import Alternative, ObjectCloud, Prompt
from wildseg3d_ros.core.types.tree import Selected
from wildseg3d_ros.grasping.graspable import DEFAULT_VOXEL, GraspableScene
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.ros.messages.clouds import (
    cloud_message,
    colored_columns,
    normal_columns,
    xyz_columns,
)
from wildseg3d_ros.ros.messages.conversions import header, image_from_mask, point_message
from wildseg3d_ros.ros.messages.grasps import box_message
from wildseg3d_ros.ros.services.prompt_reader import PromptReader
from wildseg3d_ros.scene.prompting import selected_by
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.voxels import check_voxel_size, voxel_downsample
from wildseg3d_ros.streams.tf.buffer import TF_TOLERANCE, Transforms


@dataclass(frozen=True, eq=False)
class CurrentScene:
    """The scene that answers, with what ROS knew at the time of its images.

    Attributes:
        scene: the snapshot.
        calibrations: of its cameras, by name.
        frame_poses: ``scene_from_frame`` by TF frame at the scene's time.
        warnings: of the capture, for every reply.
        pose_tolerance, view_poses, live: see :class:`PromptReader`.
    """

    scene: Scene
    calibrations: Mapping[str, Lens]
    frame_poses: Mapping[str, NDArray[np.float64]]
    warnings: tuple[str, ...] = ()
    pose_tolerance: float = TF_TOLERANCE
    view_poses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    live: Callable[[str], tuple[str, Lens] | None] = lambda name: None

    @cached_property
    def graspable(self) -> GraspableScene:
        """What is computed from the scene beside the look-up, and cached."""
        return GraspableScene(self.scene)

    def prompt(self, request: Segment.Request, transforms: Transforms) -> Prompt:
        """What a request points at.

        Raises:
            WildSeg3DError: with the code and text of the reply.
        """
        return self._reader(transforms).read(request)

    def _reader(self, transforms: Transforms) -> PromptReader:
        return PromptReader(
            self.scene,
            self.calibrations,
            self.frame_poses,
            transforms,
            self.pose_tolerance,
            self.view_poses,
            self.live,
        )

    def answer(
        self,
        request: Segment.Request,
        transforms: Transforms,
        cloud: ObjectCloud | None = None,
        now_ns: int = 0,
    ) -> Segment.Response:
        """The reply to a request.

        Args:
            request: of the service.
            transforms: for frames that were not known at the time of the capture.
            cloud: of the objects that the request means; None: those of its prompt.
            now_ns: stamp of a reply whose frame is meant as it is now.

        Raises:
            WildSeg3DError: with the code and text of the reply.
        """
        for name in ("voxel_size", "normal_radius", "context_size", "surroundings_voxel_size"):
            check_voxel_size(getattr(request, name), name)
        for name in request.organized_cameras:
            self.scene.view_index(name)
        target = self.target(request.target_frame)
        target_from_scene = self.target_from_scene(target, transforms, request.target_now)
        if cloud is None:
            cloud = segment(self.scene, self.prompt(request, transforms))
        selected = selected_by(self.scene, cloud)
        cloud = voxel_downsample(cloud, request.voxel_size)
        stamp_ns = now_ns if request.target_now else self.scene.stamp_ns
        parts = _Parts(self, request, selected, target, target_from_scene, stamp_ns)
        points = parts.moved(cloud.points)
        return Segment.Response(
            header=header(target, stamp_ns),
            cloud=parts.message({**colored_columns(points, cloud.colors), **parts.fields(cloud)}),
            object_ids=list(cloud.object_ids),
            score=cloud.score,
            ambiguity=cloud.ambiguity,
            scene_id=cloud.scene_id,
            registration_residual=float(self.scene.alignment.registration_residual),
            view_points=[
                ViewPoint(camera=name, point=point_message(apply(target_from_scene, centre)))
                for name, centre in zip(
                    self.scene.view_names, self.scene.world_from_cam[:, :3, 3], strict=True
                )
            ],
            warnings=[
                *self._reader(transforms).warnings(request),
                *self.warnings,
                *self.scene.warnings,
            ],
            **parts.requested(points, cloud),
        )

    def target(self, frame: str) -> str:
        """Name of the frame of a reply: tf2 knows no leading slash; older habits write one."""
        return (frame or self.scene.frame_id).lstrip("/")

    def target_from_scene(
        self, target: str, transforms: Transforms, now: bool = False
    ) -> NDArray[np.float64]:
        """(4, 4), at the time of the scene's images or as TF has it now.

        Raises:
            WildSeg3DError: the frame cannot be reached (UNKNOWN_FRAME).
        """
        if target == self.scene.frame_id.lstrip("/"):
            return np.eye(4)
        known = self.frame_poses.get(target)
        if known is not None and not now:
            return invert(known)
        stamp_ns = 0 if now else self.scene.stamp_ns
        try:
            return transforms.lookup(target, self.scene.frame_id, stamp_ns)
        except WildSeg3DError as error:
            raise WildSeg3DError(
                f"the cloud cannot be given in frame '{target}': {error}", ErrorCode.UNKNOWN_FRAME
            ) from error


@dataclass(frozen=True)
class _Parts:
    """The parts of a reply beside the plain cloud, each made only when it is asked for."""

    current: CurrentScene
    request: Segment.Request
    selected: Selected
    target: str
    target_from_scene: NDArray[np.float64]
    stamp_ns: int

    def moved(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points in the frame of the reply."""
        if self.target == self.current.scene.frame_id.lstrip("/"):
            return points
        return apply(self.target_from_scene, points)

    def message(self, columns: dict[str, NDArray]) -> PointCloud2:
        """A cloud of the reply."""
        return cloud_message(columns, self.target, self.stamp_ns)

    def fields(self, cloud: ObjectCloud) -> dict[str, NDArray]:
        """More columns of the cloud."""
        request, columns = self.request, {}
        if request.include_normals:
            columns |= normal_columns(self._normals())
        if request.include_confidence:
            columns["confidence"] = cloud.confidence
        if request.include_views:
            columns["views"] = self.current.graspable.surface(
                self.selected, request.voxel_size
            ).views
        if request.include_view_count:
            columns["view_count"] = cloud.view_count
        return columns

    def requested(self, points: NDArray[np.float32], cloud: ObjectCloud) -> dict:
        """Further fields of the response by name."""
        request, graspable, parts = self.request, self.current.graspable, {}
        voxel = request.surroundings_voxel_size or DEFAULT_VOXEL
        if request.include_normal_cloud:
            columns = {**xyz_columns(points), **normal_columns(self._normals())}
            parts["normal_cloud"] = self.message(columns)
        if request.include_box:
            parts["box"] = box_message(graspable.box(self.selected), self.target_from_scene)
        if request.include_context:
            near = graspable.context(self.selected, request.context_size, voxel)
            columns = colored_columns(self.moved(near.points), near.colors)
            columns["object"] = near.on_object.astype(np.uint8)
            parts["context"] = self.message(columns)
        if request.include_surroundings:
            rest = graspable.surroundings(self.selected, voxel)
            columns = colored_columns(self.moved(rest.points), rest.colors)
            parts["surroundings"] = self.message(columns)
        if request.include_masks:
            parts["masks"] = [self._mask(name, cloud) for name in self.current.scene.view_names]
        if request.include_alternatives:
            parts["alternatives"] = [self._alternative(each) for each in cloud.alternatives]
        if request.organized_cameras:
            parts["organized_clouds"] = [
                self._organized(name) for name in request.organized_cameras
            ]
        return parts

    def _alternative(self, each: Alternative) -> AlternativeMessage:
        cloud = voxel_downsample(each.cloud, self.request.voxel_size)
        return AlternativeMessage(
            cloud=self.message(colored_columns(self.moved(cloud.points), cloud.colors)),
            object_id=cloud.object_ids[0] if cloud.object_ids else 0,
            score=each.score,
            larger=each.larger,
        )

    def _normals(self) -> NDArray[np.float32]:
        request = self.request
        normals = self.current.graspable.normals(
            self.selected, request.voxel_size, request.normal_radius
        )
        return normals @ self.target_from_scene[:3, :3].T.astype(np.float32)

    def _mask(self, name: str, cloud: ObjectCloud) -> CameraMask:
        scene, view = self.current.scene, self.current.scene.view_index(name)
        mask = self.current.calibrations[name].published_labels(cloud.masks[name])
        image = image_from_mask(mask, scene.camera_frames[view], scene.stamps_ns[view])
        return CameraMask(camera=name, mask=image)

    def _organized(self, name: str) -> CameraCloud:
        scene, view = self.current.scene, self.current.scene.view_index(name)
        points, image = self.current.graspable.organized(self.selected, view)
        # From pinhole pixels, NaN where nothing is, to those of the published image.
        lens = self.current.calibrations[name]
        points = lens.published_labels(self.moved(points), np.nan)
        columns = colored_columns(points, lens.published_labels(image))
        stamp_ns = self.stamp_ns if self.request.target_now else scene.stamps_ns[view]
        cloud = cloud_message(columns, self.target, stamp_ns, lens.size)
        return CameraCloud(camera=name, cloud=cloud)
