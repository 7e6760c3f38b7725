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

from wildseg3d_ros.core.errors import WildSeg3DError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.ros.cameras.frames import FrameSet
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.monitoring.change import ChangeDetector, depth_thumbnail, thumbnail
from wildseg3d_ros.ros.parameters import NodeConfig
from wildseg3d_ros.ros.tf.buffer import BUFFER_SECONDS, TransformBuffer
from wildseg3d_ros.ros.tf.errors import TooEarly
from wildseg3d_ros.scene.scene import Scene

_TF_TOLERANCE = 0.003
"""Metres and, for a camera a metre away, radians that TF may differ from what it said before."""
_SCENE_TOLERANCE = 0.02
"""The same, from the pose in a scene, which the alignment refined."""
_PATIENCE = 3.0
"""Seconds without a comparison that need no explanation."""


@dataclass
class _Watched:
    """One camera.

    Attributes:
        detector: compares its images.
        size: (height, width) of its images in the scene.
        world_from_cam: where TF had it for the scene; None is not compared.
        tolerance: of that pose.
        stamp_ns: of the newest image that was compared.
        arrived: monotonic seconds when that came; at first, when the scene did.
        pending: images that TF does not cover yet.
        problem: why the newest images could not be compared.
        compared: monotonic seconds when some last were.
        elsewhere: whether it moved away.
    """

    detector: ChangeDetector
    size: tuple[int, int]
    world_from_cam: NDArray[np.float64] | None
    tolerance: float
    stamp_ns: int
    arrived: float = field(default_factory=time.monotonic)
    pending: FrameSet | None = None
    problem: str = ""
    compared: float = field(default_factory=time.monotonic)
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

    def problems(self, config: NodeConfig) -> dict[str, str]:
        """Why cameras have not been compared with the scene for a while, by their names."""
        since = time.monotonic() - max(_PATIENCE, 3 * config.watch_period)
        return {
            name: watched.problem
            for name, watched in self._watched.items()
            if watched.problem and watched.compared < since
        }

    def warnings(self) -> tuple[str, ...]:
        """For every reply of a stale scene."""
        texts = [self.of_size(name) for name in self._watched]
        others = [name for name, text in zip(self._watched, texts, strict=True) if not text]
        who = ", ".join(f"'{name}'" for name in self._stale if name in others)
        if who:
            texts.append(
                f"the scene is stale: camera {who} sees something else now; build it anew"
            )
        return tuple(filter(None, texts))

    def of_size(self, name: str) -> str:
        """What is to be said of a camera whose images now have another size; else empty.

        Looked up when it is asked for: the very next click may mean another pixel.
        """
        watched = self._watched.get(name)
        size = None if watched is None else self._size_now(name)
        if watched is None or size is None or size == watched.size:
            return ""
        (height, width), (old_height, old_width) = size, watched.size
        return (
            f"the scene is stale: camera '{name}' publishes {width}x{height} now, and its image "
            f"in the scene is {old_width}x{old_height}: a pixel of one is not that of the other; "
            "build it anew"
        )

    def _size_now(self, name: str) -> tuple[int, int] | None:
        frames = self._cameras[name].matcher.newest()
        return None if frames is None else frames.size

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
            watched[name] = _Watched(
                ChangeDetector(thumbnail(scene.images[view]), _depth_of(scene, view)),
                scene.images[view].shape[:2],
                pose,
                tolerance,
                scene.stamps_ns[view],
            )
        with self._lock:
            self._watched, self._stale = watched, ()

    def forget(self) -> None:
        """Watches nothing any more."""
        with self._lock:
            self._watched, self._stale = {}, ()

    def look(self, config: NodeConfig) -> None:
        """Compares once; costs some milliseconds per camera."""
        with self._lock:
            for name, watched in self._watched.items():
                self._look_at(name, watched, config)
            self._stale = tuple(
                name
                for name, watched in self._watched.items()
                if watched.detector.changed(config.change_seconds) >= config.change_share
                or self.of_size(name)
            )

    def _look_at(self, name: str, watched: _Watched, config: NodeConfig) -> None:
        frames = self._compared(name, watched, config)
        if frames is None:
            return
        seconds = frames.arrived - watched.arrived
        watched.arrived, watched.stamp_ns = frames.arrived, frames.stamp_ns
        if watched.elsewhere:
            watched.detector.restart()  # what was seen before says nothing of what lasts
            watched.problem, watched.compared = "", time.monotonic()
            return
        try:
            calibration, image, depth = self._cameras[name].convert(frames)
            if calibration.size != watched.size:
                return  # said by its size
        except WildSeg3DError as error:
            watched.problem = str(error)
            return
        # Of a gap that nobody saw, no more counts than half of what makes a change, so that it
        # takes three looks, or two where looks are rarer than that.
        most = max(config.watch_period, config.change_seconds / 2)
        small = None
        if depth is not None and depth.shape == image.shape[:2]:
            small = depth_thumbnail(depth)
        watched.problem, watched.compared = "", time.monotonic()
        watched.detector.update(thumbnail(image), min(seconds, most), small)

    def _compared(self, name: str, watched: _Watched, config: NodeConfig) -> FrameSet | None:
        """The newest images that were not compared yet and whose camera TF can place.

        TF may lag behind the images, at every look anew: those of an earlier look are kept until
        it covers them.
        """
        matcher = self._cameras[name].matcher
        newest, pending = matcher.newest(), watched.pending
        if newest is None or newest.stamp_ns == watched.stamp_ns:
            return None
        too_old = time.monotonic() - BUFFER_SECONDS
        if pending and (pending.era != matcher.era or pending.arrived < too_old):
            pending = None
        for frames in (newest, pending):
            if frames is None:
                continue
            try:
                watched.elsewhere = self._moved(watched, frames, config)
            except TooEarly as error:
                watched.problem = str(error)
                pending = None
            except WildSeg3DError as error:
                watched.problem = str(error)
            else:
                watched.pending = newest if frames is pending else None
                return frames
        watched.pending = pending or newest
        return None

    def _moved(self, watched: _Watched, frames: FrameSet, config: NodeConfig) -> bool:
        """Raises WildSeg3DError: TF does not have the camera's pose at the images' time."""
        if watched.world_from_cam is None:
            return False
        frame = frames.image.header.frame_id
        now = self._transforms.lookup(config.world_frame, frame, frames.stamp_ns)
        motion = invert(watched.world_from_cam) @ now
        angle = np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1))
        return bool(max(np.linalg.norm(motion[:3, 3]), angle) > watched.tolerance)


def _depth_of(scene: Scene, view: int) -> NDArray[np.float32] | None:
    """Thumbnail of a view's measured depth; None where the depth is an estimate from images."""
    if "metric pairs" not in scene.alignment.scale_sources:
        return None
    points = apply(invert(scene.world_from_cam[view]), scene.world.points[view])
    return depth_thumbnail(points[..., 2])
