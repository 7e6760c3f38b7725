"""A segment request answered from the current scene: convert, call once, convert back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_msgs.msg import Click as ClickMessage
from wildseg3d_msgs.srv import Segment
from wildseg3d_ros.errors import ErrorCode, PromptError, WildSeg3DError
from wildseg3d_ros.geometry.transforms import apply, invert
from wildseg3d_ros.pipeline import segment
from wildseg3d_ros.ros.calibration import Calibration
from wildseg3d_ros.ros.conversions import cloud_from_packed, image_from_mask, pack_cloud
from wildseg3d_ros.ros.transforms import TransformBuffer
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.voxels import voxel_downsample
from wildseg3d_ros.types import Click, Prompt


@dataclass(frozen=True)
class CurrentScene:
    """The scene that answers, with what ROS knew when its images were taken.

    Attributes:
        scene: the snapshot.
        calibrations: of its cameras, by name.
        frame_poses: ``scene_from_frame`` by TF frame at the scene's time.
        warnings: of the taking of the images, for every reply.
    """

    scene: Scene
    calibrations: Mapping[str, Calibration]
    frame_poses: Mapping[str, NDArray[np.float64]]
    warnings: tuple[str, ...] = ()

    def answer(self, request: Segment.Request, transforms: TransformBuffer) -> Segment.Response:
        """The reply to a request.

        Raises:
            WildSeg3DError: with the code and text of the reply.
        """
        prompt = Prompt(tuple(self._click(click) for click in request.clicks))
        # tf2 knows no leading slash; older drivers and habits still write one.
        target = (request.target_frame or self.scene.frame_id).lstrip("/")
        target_from_scene = self._target_from_scene(target, transforms)
        cloud = voxel_downsample(segment(self.scene, prompt), request.voxel_size)
        points = cloud.points
        if target_from_scene is not None:
            points = apply(target_from_scene, points)
        response = Segment.Response(
            cloud=cloud_from_packed(pack_cloud(points, cloud.colors), target, cloud.stamp_ns),
            object_ids=list(cloud.object_ids),
            scene_id=cloud.scene_id,
            warnings=[*self.warnings, *self.scene.warnings],
        )
        if request.include_masks:
            response.mask_cameras = list(self.scene.view_names)
            response.masks = [
                image_from_mask(
                    self.calibrations[name].published_labels(cloud.masks[name]), frame, stamp_ns
                )
                for name, frame, stamp_ns in zip(
                    self.scene.view_names,
                    self.scene.camera_frames,
                    self.scene.stamps_ns,
                    strict=True,
                )
            ]
        return response

    def _click(self, click: ClickMessage) -> Click:
        """The click in the pinhole image; where it lies in the published one is checked here."""
        view = self.scene.view_index(click.camera)
        height, width = self.scene.images[view].shape[:2]
        calibration = self.calibrations[click.camera]
        u, v = float(click.u), float(click.v)
        inside = -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5
        if inside and calibration.distorted:
            u, v = calibration.pinhole_pixel(u, v)
            if not (-0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5):
                raise PromptError(
                    f"pixel ({click.u:g}, {click.v:g}) of camera '{click.camera}' is lost when "
                    "the image is undistorted; click nearer to its centre, or in another camera",
                    ErrorCode.PIXEL_OUTSIDE_IMAGE,
                )
        return Click(click.camera, u, v, click.label)

    def _target_from_scene(
        self, target: str, transforms: TransformBuffer
    ) -> NDArray[np.float64] | None:
        if target == self.scene.frame_id.lstrip("/"):
            return None
        known = self.frame_poses.get(target)
        if known is not None:
            return invert(known)
        try:
            return transforms.lookup(target, self.scene.frame_id, self.scene.stamp_ns)
        except WildSeg3DError as error:
            raise WildSeg3DError(
                f"the cloud cannot be given in frame '{target}': {error}", ErrorCode.UNKNOWN_FRAME
            ) from error
