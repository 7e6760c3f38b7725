"""What the node publishes of a scene, latched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, PointCloud2
from vision_msgs.msg import Detection3DArray

from wildseg3d_ros.grasping.surroundings import PlainCloud
from wildseg3d_ros.ros.lifecycle import ManagedNode
from wildseg3d_ros.ros.messages.clouds import cloud_message, colored_columns
from wildseg3d_ros.ros.messages.conversions import info_from_lens
from wildseg3d_ros.ros.messages.detections import detections
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.services.current import CurrentScene
from wildseg3d_ros.ros.topics.images import ImageTopic
from wildseg3d_ros.ros.topics.selection import SelectionTopics
from wildseg3d_ros.scene.camera_pixels import camera_labels

_MAX_MONO16 = int(np.iinfo(np.uint16).max)


def as_mono16(labels: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Labels as the topics carry them; 0 where an id is too large, rather than another's id."""
    return np.where(labels <= _MAX_MONO16, labels, 0).astype(np.uint16)


class SceneTopics:
    """Publishers of the scene, and of what is selected in it; the node publishes while active.

    Args:
        node: whose topics they are.
        cameras: the topic of the calibration that each camera publishes, by its name.
    """

    def __init__(self, node: ManagedNode, cameras: Mapping[str, str]) -> None:
        self._node = node
        self._cloud = node.create_lifecycle_publisher(PointCloud2, "scene_cloud", latched())
        self._detections = node.create_lifecycle_publisher(
            Detection3DArray, "detections", latched()
        )
        self._labels = {name: ImageTopic(node, f"{name}/labels", "mono16") for name in cameras}
        # Beside labels and overlay, where image_transport looks for it. A driver that has its own
        # there has published it already.
        self._infos = {
            name: node.create_lifecycle_publisher(CameraInfo, topic, latched())
            for name, theirs in cameras.items()
            if node.resolve_topic_name(topic := f"{name}/camera_info")
            != node.resolve_topic_name(theirs)
        }
        self.selection = SelectionTopics(node, tuple(cameras), self._labels.values())

    def publish_cloud(self, current: CurrentScene, overview: PlainCloud) -> None:
        """Shows the cloud of all of a scene."""
        scene, columns = current.scene, colored_columns(overview.points, overview.colors)
        self._cloud.publish(cloud_message(columns, scene.frame_id, scene.stamp_ns))

    def publish_objects(self, current: CurrentScene) -> None:
        """Shows the objects of a scene: as detections, and as labels in its cameras' images."""
        scene = current.scene
        self._detections.publish(detections(scene, current.graspable))
        if max(scene.object_ids, default=0) > _MAX_MONO16:
            self._node.get_logger().error(
                f"object ids above {_MAX_MONO16} do not fit into the topics of labels, which "
                "show 0 there; a scene that is built anew numbers its objects from 1"
            )
        for view, name in enumerate(scene.view_names):
            if name not in self._labels:  # a captured view
                continue
            labels = as_mono16(camera_labels(scene, view))
            lens, frame = current.calibrations[name], scene.camera_frames[view]
            labels, stamp_ns = lens.published_labels(labels), scene.stamps_ns[view]
            self._labels[name].publish(labels, frame, stamp_ns)
            if name in self._infos and lens.K is not None:
                self._infos[name].publish(info_from_lens(lens, frame, stamp_ns))

    def destroy(self) -> None:
        """Leaves the graph, and with it the latched messages."""
        self.selection.destroy()
        for topic in self._labels.values():
            topic.destroy()
        for publisher in (self._cloud, self._detections, *self._infos.values()):
            self._node.destroy_lifecycle_publisher(publisher)
