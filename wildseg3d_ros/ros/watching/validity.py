"""Whether the cameras still see the scene that was built.

A camera that TF moves, as one on a wrist, is compared only where it stood for the scene.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import WildSeg3DError
from wildseg3d_ros.geometry.transforms import invert
from wildseg3d_ros.ros.cameras.frames import FrameSet
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.parameters import NodeConfig
from wildseg3d_ros.ros.tf.buffer import TransformBuffer
from wildseg3d_ros.scene.change import ChangeDetector, thumbnail
from wildseg3d_ros.scene.scene import Scene

_TF_TOLERANCE = 0.003
"""Metres and, for a camera a metre away, radians that TF may differ from what it said before."""
_SCENE_TOLERANCE = 0.02
"""The same, from the pose in a scene, which the alignment refined."""


@dataclass
class _Watched:
    detector: ChangeDetector
    world_from_cam: NDArray[np.float64] | None
    tolerance: float
    stamp_ns: int
    looked: float = field(default_factory=time.monotonic)
    elsewhere: bool = False


class SceneWatch:
    """Compares the newest images with those of the current scene.

    Args:
        cameras: of the node.
        transforms: for cameras that move.
    """

    def __init__(self, cameras: Cameras, transforms: TransformBuffer) -> None:
        self._cameras, self._transforms = cameras, transforms
        self._watched: dict[str, _Watched] = {}
        self._stale: tuple[str, ...] = ()
        self._lock = threading.Lock()

    @property
    def stale(self) -> tuple[str, ...]:
        """Cameras that see something else than the scene's images show."""
        return self._stale

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Cameras that moved away from where they stood for the scene."""
        return tuple(name for name, watched in self._watched.items() if watched.elsewhere)

    def warnings(self) -> tuple[str, ...]:
        """For every reply of a stale scene."""
        if not self._stale:
            return ()
        who = ", ".join(f"'{name}'" for name in self._stale)
        return (f"the scene is stale: camera {who} sees something else now; build it anew",)

    def watch(
        self, scene: Scene, tf_poses: Mapping[str, NDArray[np.float64]], world_frame: str
    ) -> None:
        """Takes what a new scene shows as what is to be seen.

        Args:
            scene: that answers from now on.
            tf_poses: ``world_from_cam`` by camera as TF had it; for others the scene's own counts.
            world_frame: that they refer to.
        """
        watched = {}
        for view, name in enumerate(scene.view_names):
            if name not in self._cameras.names:
                continue
            pose, tolerance = tf_poses.get(name), _TF_TOLERANCE
            if pose is None and scene.frame_id == world_frame and not tf_poses:
                pose, tolerance = scene.world_from_cam[view], _SCENE_TOLERANCE
            detector = ChangeDetector(thumbnail(scene.images[view]))
            watched[name] = _Watched(detector, pose, tolerance, scene.stamps_ns[view])
        with self._lock:
            self._watched, self._stale = watched, ()

    def forget(self) -> None:
        """Watches nothing any more."""
        with self._lock:
            self._watched, self._stale = {}, ()

    def look(self, config: NodeConfig) -> None:
        """Compares once; costs a millisecond per camera."""
        with self._lock:
            for name, watched in self._watched.items():
                self._look_at(name, watched, config)
            self._stale = tuple(
                name
                for name, watched in self._watched.items()
                if watched.detector.changed(config.change_seconds) >= config.change_share
            )

    def _look_at(self, name: str, watched: _Watched, config: NodeConfig) -> None:
        now = time.monotonic()
        camera = self._cameras[name]
        frames = camera.matcher.newest()
        if frames is None or frames.stamp_ns == watched.stamp_ns:
            return
        seconds, watched.looked, watched.stamp_ns = now - watched.looked, now, frames.stamp_ns
        moved = self._moved(watched, frames, config)
        if moved is None:
            return  # TF is not there yet
        watched.elsewhere = moved
        if moved or seconds > config.change_seconds:
            # What was seen before says nothing of what lasts.
            watched.detector.restart()
        if moved:
            return
        try:
            watched.detector.update(thumbnail(camera.pinhole(frames)), seconds)
        except WildSeg3DError:
            return  # an image that cannot be used: a build says so

    def _moved(self, watched: _Watched, frames: FrameSet, config: NodeConfig) -> bool | None:
        if watched.world_from_cam is None:
            return False
        frame = frames.image.header.frame_id
        try:
            now = self._transforms.lookup(config.world_frame, frame, frames.stamp_ns)
        except WildSeg3DError:
            return None
        motion = invert(watched.world_from_cam) @ now
        angle = np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1))
        return bool(max(np.linalg.norm(motion[:3, 3]), angle) > watched.tolerance)
