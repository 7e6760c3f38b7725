"""The services ``list_objects``, ``save_scene``, ``save_poses`` and ``load_scene``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from wildseg3d_msgs.msg import SceneObject
from wildseg3d_msgs.srv import ListObjects, LoadScene, SavePoses, SaveScene
from wildseg3d_ros.core.errors import ErrorCode, FileError, PromptError
from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.geometry.lens import Lens
from wildseg3d_ros.core.types import LEVELS, ObjectRecord
from wildseg3d_ros.grasping.graspable import bounding_boxes
from wildseg3d_ros.ros.cameras.captured import camera_of, is_captured
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.guard import always_replies
from wildseg3d_ros.ros.messages.conversions import header
from wildseg3d_ros.ros.messages.grasps import box_message
from wildseg3d_ros.ros.services.current import CurrentScene
from wildseg3d_ros.ros.services.files import check_replaces, is_scene, path_inside
from wildseg3d_ros.ros.services.prompt_reader import SCENE_TOLERANCE
from wildseg3d_ros.scene.camera_pixels import camera_intrinsics
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.static_transforms import (
    about,
    is_static_transforms,
    optical_frames,
    static_transforms,
)
from wildseg3d_ros.streams.tf.buffer import Transforms


class ObjectServices:
    """Serves questions about the scene as a whole.

    Args:
        node, transforms: of the scene node.
        current: gives the scene that answers, or raises why there is none.
        load: loads a file, and answers from it once the reply is made.
    """

    def __init__(
        self,
        node: Node,
        current: Callable[[], CurrentScene],
        transforms: Transforms,
        load: Callable[[Path, Callable[[CurrentScene], LoadScene.Response]], LoadScene.Response],
    ) -> None:
        self._node, self._current = node, current
        self._transforms, self._load = transforms, load
        for name, kind, handler in (
            ("list_objects", ListObjects, self._list),
            ("save_scene", SaveScene, self._save),
            ("save_poses", SavePoses, self._save_poses),
            ("load_scene", LoadScene, self._load_path),
        ):
            callback = always_replies(handler, kind, node.get_logger())
            group = MutuallyExclusiveCallbackGroup()
            node.create_service(kind, name, callback, callback_group=group)

    def _list(self, request: ListObjects.Request) -> ListObjects.Response:
        current = self._current()
        target = current.target(
            request.target_frame or self._node.get_parameter("target_frame").value
        )
        target_from_scene = current.target_from_scene(target, self._transforms)
        scene, objects = current.scene, []
        records = {record.object_id: record for record in scene.masks.objects}
        for object_id in scene.index.ids.tolist():
            made = _described(scene, object_id, records.get(object_id))
            made.points = scene.index.count(object_id)
            if made.points:
                box = current.graspable.bounding_box((object_id,))
                made.box = box_message(box, target_from_scene)
            objects.append(made)
        return ListObjects.Response(
            header=header(target, scene.stamp_ns), scene_id=scene.scene_id, objects=objects
        )

    def _save(self, request: SaveScene.Request) -> SaveScene.Response:
        path, scene = self._path(request.path, "save to"), self._current().scene
        check_replaces(path, is_scene(path), "scene")
        save_scene(scene, path)
        size = path.stat().st_size
        self._node.get_logger().info(
            f"scene {scene.scene_id} saved to {path} ({size / 1e6:.1f} MB)"
        )
        return SaveScene.Response(path=str(path), bytes=size, scene_id=scene.scene_id)

    def _save_poses(self, request: SavePoses.Request) -> SavePoses.Response:
        path, current = self._path(request.path, "save to"), self._current()
        check_replaces(path, is_static_transforms(path), "file of poses")
        scene = current.scene
        parent = current.target(request.parent_frame)
        parent_from_scene = current.target_from_scene(parent, self._transforms)
        captured = [name for name in scene.view_names if is_captured(name)]
        if captured:
            raise PromptError(
                f"the scene has captured views ({', '.join(captured)}); a camera that moves has "
                "no static transform"
            )
        poses = optical_frames(scene)
        if request.frames:
            poses = self._poses_of(list(request.frames), scene, poses)
        moved = {frame: parent_from_scene @ pose for frame, pose in poses.items()}
        text = static_transforms(parent, moved, about(scene))
        write_bytes(path, text.encode())
        self._node.get_logger().info(f"poses of scene {scene.scene_id} saved to {path}")
        return SavePoses.Response(path=str(path), yaml=text, scene_id=scene.scene_id)

    def _path(self, text: str, what: str) -> Path:
        return path_inside(self._node.get_parameter("scene_folder").value, text, what)

    def _poses_of(
        self, frames: Sequence[str], scene: Scene, optical: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, NDArray[np.float64]]:
        """``scene_from_frame`` of frames that are attached to the cameras, one to each."""
        if len(frames) != len(optical) or len(set(frames)) != len(frames):
            raise PromptError(
                f"frames names one frame for each of the cameras {', '.join(scene.view_names)}, "
                f"or none; got {', '.join(frames)}"
            )
        # The newest: what is attached to a camera does not move against it.
        return {
            frame: pose @ self._transforms.lookup(name, frame, 0)
            for frame, (name, pose) in zip(frames, optical.items(), strict=True)
        }

    def _load_path(self, request: LoadScene.Request) -> LoadScene.Response:
        path = self._path(request.path, "load")
        reply = self._load(path, _load_reply)
        self._node.get_logger().info(f"scene {reply.scene_id} loaded from {path}")
        return reply


def _load_reply(current: CurrentScene) -> LoadScene.Response:
    scene = current.scene
    return LoadScene.Response(
        scene_id=scene.scene_id,
        objects=len(scene.object_ids),
        header=header(scene.frame_id, scene.stamp_ns),
        warnings=[*current.warnings, *scene.warnings],
    )


def _described(scene: Scene, object_id: int, record: ObjectRecord | None) -> SceneObject:
    """The message of an object, by its record or, of a back end that gives none, its labels."""
    if record is not None:
        return SceneObject(
            id=object_id,
            level=LEVELS.index(record.level),
            parent=record.parent,
            score=record.score,
            ambiguity=record.ambiguity,
            cameras=[scene.view_names[view] for view in record.views],
        )
    for level, maps in enumerate(scene.masks.maps):
        names = [n for n, m in zip(scene.view_names, maps, strict=True) if (m == object_id).any()]
        if names:
            return SceneObject(
                id=object_id, level=level, cameras=names, score=math.nan, ambiguity=math.nan
            )
    return SceneObject(id=object_id, score=math.nan, ambiguity=math.nan)


def loaded_scene(path: Path, cameras: Cameras) -> CurrentScene:
    """A saved scene of the node's own cameras.

    Clicks in it are transferred to its pinhole images by the cameras' present lenses.

    Raises:
        FileError: a file that cannot be read, or a scene of other cameras (OTHER_RIG).
    """
    scene = load_scene(path)
    unknown = [name for name in scene.view_names if camera_of(name) not in cameras.names]
    if unknown:
        raise _other_rig(
            path,
            f"it has camera {', '.join(map(repr, unknown))}, and the node's cameras are "
            f"{', '.join(cameras.names)}",
        )
    calibrations, warnings = {}, []
    for view, name in enumerate(scene.view_names):
        size, K = scene.camera_size(view), camera_intrinsics(scene, view)
        present = cameras.calibration(camera_of(name))
        if present is None:
            warnings.append(
                f"camera '{name}' has published no camera_info yet: clicks are taken to be in "
                "the image without lens distortion"
            )
            calibrations[name] = Lens(K, size)
            continue
        if present.size != size:
            raise _other_rig(
                path,
                f"its images of camera '{name}' are {size[1]}x{size[0]}, and the camera now has "
                f"{present.size[1]}x{present.size[0]}",
            )
        assert present.K is not None  # a camera_info without one is refused
        # Calibrations whose focal lengths differ by more are not of one camera.
        if abs(present.K[0, 0] / K[0, 0] - 1.0) > 0.02:
            raise _other_rig(
                path,
                f"the focal length of camera '{name}' is {K[0, 0]:.1f} px in it, and "
                f"{present.K[0, 0]:.1f} px now",
            )
        calibrations[name] = present
    poses = {
        frame.lstrip("/"): pose
        for frame, pose in zip(scene.camera_frames, scene.world_from_cam, strict=True)
        if frame
    }
    boxes = bounding_boxes(scene)
    return CurrentScene(scene, calibrations, poses, tuple(warnings), boxes, SCENE_TOLERANCE)


def _other_rig(path: Path, why: str) -> FileError:
    return FileError(
        f"'{path}' is a scene of another rig: {why}; load it in a node that is configured for "
        "that rig, or build a scene here",
        ErrorCode.OTHER_RIG,
    )
