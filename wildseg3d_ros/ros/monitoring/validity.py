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
from wildseg3d_ros.ros.cameras.rig import Cameras
from wildseg3d_ros.ros.monitoring.change import ChangeDetector, depth_thumbnail, thumbnail
from wildseg3d_ros.ros.monitoring.diagnostics import START_SECONDS
from wildseg3d_ros.ros.services.prompt_reader import SCENE_TOLERANCE
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.streams.config import NodeConfig
from wildseg3d_ros.streams.frames import FrameSet
from wildseg3d_ros.streams.tf.buffer import BUFFER_SECONDS, TF_TOLERANCE, Transforms, differ
from wildseg3d_ros.streams.tf.errors import TooEarly


@dataclass
class _Monitored:
    """One camera and the state of its comparison.

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
        elsewhere: whether it moved since.
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


class SceneMonitor:
    """Compares the newest images with those of the current scene.

    Attributes:
        stale: cameras that see something else than the scene's images show.
        changing: whether another one sees something else, but not for long enough yet.
    """

    def __init__(self, cameras: Cameras, transforms: Transforms) -> None:
        self._cameras, self._transforms = cameras, transforms
        self._monitored: dict[str, _Monitored] = {}
        self.stale: tuple[str, ...] = ()
        self.changing = False
        self._lock = threading.Lock()

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Cameras that are not where they stood for the scene."""
        return tuple(name for name, camera in self._monitored.items() if camera.elsewhere)

    def problems(self, config: NodeConfig) -> dict[str, str]:
        """Why cameras have not been compared with the scene for a while, by their names."""
        since = time.monotonic() - max(START_SECONDS, 3 * config.monitor_period)
        return {
            name: camera.problem
            for name, camera in self._monitored.items()
            if camera.problem and camera.compared < since
        }

    def warnings(self) -> tuple[str, ...]:
        """For every reply of a stale scene."""
        texts = [self.size_warning(name) for name in self._monitored]
        others = [name for name, text in zip(self._monitored, texts, strict=True) if not text]
        who = ", ".join(f"'{name}'" for name in self.stale if name in others)
        if who:
            texts.append(
                f"the scene is stale: camera {who} sees something else now; build it anew"
            )
        return tuple(filter(None, texts))

    def size_warning(self, name: str) -> str:
        """The warning about a camera whose images now have another size; else empty.

        Determined at each call: the very next click may mean another pixel.
        """
        camera = self._monitored.get(name)
        frames = self._cameras[name].matcher.newest() if camera else None
        size = frames.size if frames else None
        if camera is None or size is None or size == camera.size:
            return ""
        (height, width), (old_height, old_width) = size, camera.size
        return (
            f"the scene is stale: camera '{name}' publishes {width}x{height} now, and its image "
            f"in the scene is {old_width}x{old_height}: a pixel of one is not that of the other; "
            "build it anew"
        )

    def start(
        self, scene: Scene, tf_poses: Mapping[str, NDArray[np.float64]], world_frame: str
    ) -> None:
        """Monitors a new scene instead of the one before.

        Args:
            scene: that answers from now on.
            tf_poses: ``world_from_cam`` by camera as TF had it; for others the scene's own counts.
            world_frame: that they refer to.
        """
        monitored = {}
        for view, name in enumerate(scene.view_names):
            if name not in self._cameras.names:
                continue
            pose, tolerance = tf_poses.get(name), TF_TOLERANCE
            if pose is None and scene.frame_id == world_frame and not tf_poses:
                pose, tolerance = scene.world_from_cam[view], SCENE_TOLERANCE
            monitored[name] = _Monitored(
                ChangeDetector(thumbnail(scene.images[view]), _depth_of(scene, view)),
                scene.camera_size(view),
                pose,
                tolerance,
                scene.stamps_ns[view],
            )
        with self._lock:
            self._monitored, self.stale, self.changing = monitored, (), False

    def stop(self) -> None:
        """Monitors nothing any more."""
        with self._lock:
            self._monitored, self.stale, self.changing = {}, (), False

    def compare(self, config: NodeConfig) -> None:
        """Compares once; takes some milliseconds per camera."""
        with self._lock:
            for name, camera in self._monitored.items():
                self._compare_camera(name, camera, config)
            self.stale = tuple(
                name
                for name, camera in self._monitored.items()
                if camera.detector.changed(config.change_seconds) >= config.change_share
                or self.size_warning(name)
            )
            self.changing = any(
                camera.detector.changed(0.0) >= config.change_share
                for name, camera in self._monitored.items()
                if name not in self.stale
            )

    def _compare_camera(self, name: str, camera: _Monitored, config: NodeConfig) -> None:
        frames = self._next_frames(name, camera, config)
        if frames is None:
            return
        seconds = frames.arrived - camera.arrived
        camera.arrived, camera.stamp_ns = frames.arrived, frames.stamp_ns
        if camera.elsewhere:
            camera.detector.restart()  # what was seen before says nothing of what lasts
            camera.problem, camera.compared = "", time.monotonic()
            return
        try:
            calibration, image, depth = self._cameras[name].decoder.convert(frames)
            if calibration.size != camera.size:
                return  # see size_warning
        except WildSeg3DError as error:
            camera.problem = str(error)
            return
        # Of the time between two comparisons, no more counts than half of change_seconds, so that
        # a change takes three comparisons, or two where the period is longer than that.
        max_seconds = max(config.monitor_period, config.change_seconds / 2)
        small = None
        if depth is not None and depth.shape == image.shape[:2]:
            small = depth_thumbnail(depth)
        camera.problem, camera.compared = "", time.monotonic()
        camera.detector.update(thumbnail(image), min(seconds, max_seconds), small)

    def _next_frames(self, name: str, camera: _Monitored, config: NodeConfig) -> FrameSet | None:
        """The newest images that were not compared yet and for which TF has the camera's pose.

        TF may lag behind the images at every comparison: images of an earlier one are kept until
        TF covers them.
        """
        matcher = self._cameras[name].matcher
        newest, pending = matcher.newest(), camera.pending
        if newest is None or newest.stamp_ns == camera.stamp_ns:
            return None
        too_old = time.monotonic() - BUFFER_SECONDS
        if pending and (pending.era != matcher.era or pending.arrived < too_old):
            pending = None
        for frames in (newest, pending):
            if frames is None:
                continue
            try:
                camera.elsewhere = self._moved(camera, frames, config)
            except TooEarly as error:
                camera.problem = str(error)
                pending = None
            except WildSeg3DError as error:
                camera.problem = str(error)
            else:
                camera.pending = newest if frames is pending else None
                return frames
        camera.pending = pending or newest
        return None

    def _moved(self, camera: _Monitored, frames: FrameSet, config: NodeConfig) -> bool:
        """Raises WildSeg3DError: TF does not have the camera's pose at the images' time."""
        if camera.world_from_cam is None:
            return False
        frame = frames.image.header.frame_id
        now = self._transforms.lookup(config.world_frame, frame, frames.stamp_ns)
        return differ(camera.world_from_cam, now, camera.tolerance)


def _depth_of(scene: Scene, view: int) -> NDArray[np.float32] | None:
    """Thumbnail of a view's measured depth; None where the depth is an estimate from images."""
    if "metric pairs" not in scene.alignment.scale_sources:
        return None
    points = apply(invert(scene.world_from_cam[view]), scene.world.points[view])
    return depth_thumbnail(points[..., 2])
