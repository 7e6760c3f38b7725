"""What a scene node and its cameras publish, as a client that looks on sees it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from wildseg3d_ros.core.types import CameraVerdict, Verdict
from wildseg3d_ros.ros.guard import never_raises
from wildseg3d_ros.ros.messages.clouds import points_from_cloud
from wildseg3d_ros.ros.messages.reports import VERDICTS
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.streams.compressed import rgb_from_compressed
from wildseg3d_ros.streams.images import array_from_image, rgb_from_image
from wildseg3d_ros.streams.messages import nanoseconds

_BUILDING = re.compile(r"building \((.+), (\d+)%\)")


@dataclass(frozen=True)
class NodeState:
    """What the node says about itself on /diagnostics.

    Attributes:
        arrived: monotonic seconds.
        text: about the scene.
        well: whether there is a scene, and nothing wrong with it.
        scene_id: empty while there is none.
        building: stage and fraction of a build; None while none runs.
        topics: of the images, by camera.
        problems: of cameras that give no usable images, by camera.
        verdicts: on the poses of the scene's cameras.
    """

    arrived: float
    text: str
    well: bool
    scene_id: str
    building: tuple[str, float] | None
    topics: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    verdicts: tuple[CameraVerdict, ...] = ()

    @classmethod
    def of(cls, message: DiagnosticArray, node_name: str) -> NodeState | None:
        """Reads a message; None where it is another node's."""
        found = {s.name.removeprefix(f"{node_name}: "): s for s in message.status}
        scene = found.get("scene")
        if scene is None or scene.hardware_id != node_name:
            return None
        said = _BUILDING.search(scene.message)
        cameras = {n[7:]: s for n, s in found.items() if n.startswith("camera ")}
        bad = DiagnosticStatus.ERROR
        return cls(
            time.monotonic(),
            scene.message,
            scene.level == DiagnosticStatus.OK,
            _values(scene).get("scene id", ""),
            (said[1], int(said[2]) / 100) if said else None,
            {name: _values(each).get("topic", "") for name, each in cameras.items()},
            {name: each.message for name, each in cameras.items() if each.level == bad},
            tuple(
                _verdict(name[15:], each)
                for name, each in found.items()
                if name.startswith("pose of camera ")
            ),
        )


class SceneFeed:
    """Subscriptions to a scene node's topics and to those of its cameras.

    Args:
        node: that subscribes, in the namespace of the scene node.
        name: of the scene node.

    Attributes:
        state: the newest; None before there is any.
        labels: stamp [ns] and (H, W) int32 ids, in the published image, by camera.
        cloud: points (M, 3), colours (M, 3) and frame of the whole scene.
        infos: calibration by camera.
        changes: counts labels and clouds.
    """

    def __init__(self, node: Node, name: str = "wildseg3d") -> None:
        self._node = node
        self._name = f"{node.get_namespace().strip('/')}/{name}".lstrip("/")
        self.state: NodeState | None = None
        self.labels: dict[str, tuple[int, NDArray[np.int32]]] = {}
        self.cloud: tuple[NDArray[np.float32], NDArray[np.uint8], str] | None = None
        self.infos: dict[str, CameraInfo] = {}
        self.changes = 0
        self._images: dict[str, Image | CompressedImage] = {}
        self._converted: dict[str, tuple[int, NDArray[np.uint8]]] = {}
        self._topics: dict[str, Subscription] = {}
        self._lock = threading.Lock()
        self._listen(DiagnosticArray, "/diagnostics", self._take_state, QoSProfile(depth=10))
        self._listen(PointCloud2, "scene_cloud", self._take_cloud, latched())

    def image(self, camera: str) -> tuple[int, NDArray[np.uint8]] | None:
        """Stamp [ns] and (H, W, 3) RGB of the camera's newest image; None before there is one.

        Raises:
            InputError: an image that cannot be read.
        """
        message = self._images.get(camera)
        if message is None:
            return None
        stamp_ns = nanoseconds(message.header.stamp)
        with self._lock:
            known = self._converted.get(camera)
            if known is None or known[0] != stamp_ns:
                read = rgb_from_image if isinstance(message, Image) else rgb_from_compressed
                known = stamp_ns, read(message, f"camera '{camera}'")  # type: ignore[arg-type]
                self._converted[camera] = known
        return known

    def watch_info(self, camera: str, topic: str) -> None:
        """Subscribes to a camera's calibration."""
        take = partial(self.infos.__setitem__, camera)
        quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        if self._publishers(topic) and topic not in self._topics:
            self._listen(CameraInfo, topic, take, quality)

    def _take_state(self, message: DiagnosticArray) -> None:
        state = NodeState.of(message, self._name)
        if state is None:
            return
        for camera, topic in state.topics.items():
            if f"{camera}/labels" not in self._topics:
                take = partial(self._take_labels, camera)
                self._listen(Image, f"{camera}/labels", take, latched())
            publishers = self._publishers(topic)
            if publishers and topic not in self._topics:
                kind = CompressedImage if topic.endswith("/compressed") else Image
                self._listen(
                    kind, topic, partial(self._images.__setitem__, camera), _as_offered(publishers)
                )
        self.state = state

    def _take_labels(self, camera: str, message: Image) -> None:
        labels = array_from_image(message, f"labels of '{camera}'").astype(np.int32)
        self.labels[camera] = nanoseconds(message.header.stamp), labels
        self.changes += 1

    def _take_cloud(self, message: PointCloud2) -> None:
        self.cloud = (*points_from_cloud(message), message.header.frame_id)
        self.changes += 1

    def _publishers(self, topic: str) -> list[QoSProfile]:
        found = self._node.get_publishers_info_by_topic(topic) if topic else []
        return [each.qos_profile for each in found]

    def _listen(self, kind: type, topic: str, take: Callable, quality: QoSProfile) -> None:
        guarded = never_raises(take, self._node.get_logger())
        self._topics[topic] = self._node.create_subscription(kind, topic, guarded, quality)


def _as_offered(publishers: list[QoSProfile]) -> QoSProfile:
    """Reliable where all publishers are: a large image is many fragments, and any may be lost."""
    reliable = all(each.reliability == ReliabilityPolicy.RELIABLE for each in publishers)
    policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=1, reliability=policy)


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def _verdict(name: str, status: DiagnosticStatus) -> CameraVerdict:
    verdict, _, why = status.message.partition(": ")
    judged: Verdict = VERDICTS[VERDICTS.index(verdict)] if verdict in VERDICTS else "unchecked"
    values = _values(status)
    nan = float("nan")
    moved, turned, moved_sigma, turned_sigma, agreement = (
        float(values.get(key, "nan"))
        for key in (
            "moved by [m]",
            "turned by [rad]",
            "standard deviation [m]",
            "standard deviation [rad]",
            "agrees with others",
        )
    )
    return CameraVerdict(
        name,
        moved == moved,
        moved,
        turned,
        moved_sigma,
        turned_sigma,
        nan,
        nan,
        judged,
        why,
        agreement,
    )
