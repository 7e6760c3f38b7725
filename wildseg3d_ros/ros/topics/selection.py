"""Latched topics of what was selected last: cloud, box, and the cameras' overlays.

Drawing and publishing images takes longer than an answer may. A thread does it: it shows the
newest selection and skips those in between.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from wildseg3d_ros.core.types.tree import Nodes, Selected
from wildseg3d_ros.ros.lifecycle import ManagedNode
from wildseg3d_ros.ros.messages.clouds import cloud_message, colored_columns
from wildseg3d_ros.ros.qos import latched
from wildseg3d_ros.ros.services.current import CurrentScene
from wildseg3d_ros.ros.topics.images import ImageTopic
from wildseg3d_ros.ros.topics.overlays import box_markers, label_overlay, with_selection
from wildseg3d_ros.scene.prompting import objects_cloud

_Selection = tuple[CurrentScene, tuple[int, ...] | Nodes]


class SelectionTopics:
    """Publishers of a configured node, and the thread that feeds them.

    Topics: ``selected_object``, ``selected_box`` and ``<camera>/overlay``, in the scene's frame.

    Args:
        node: whose topics they are.
        cameras: names.
        images: others that are compressed once somebody listens.
    """

    def __init__(
        self, node: ManagedNode, cameras: Sequence[str], images: Iterable[ImageTopic] = ()
    ) -> None:
        self._node = node
        self._object = node.create_lifecycle_publisher(PointCloud2, "selected_object", latched())
        self._box = node.create_lifecycle_publisher(MarkerArray, "selected_box", latched())
        self._overlays = {name: ImageTopic(node, f"{name}/overlay", "rgb8") for name in cameras}
        self._images = (*self._overlays.values(), *images)
        self._wanted: _Selection | None = None
        self._shown: _Selection | None = None
        self._drawn: dict[str, _Selection] = {}
        self._plain: list[NDArray[np.uint8]] = []
        self._changed, self._ending = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="selection topics", daemon=True)
        self._thread.start()

    def show(self, current: CurrentScene, selected: Selected = ()) -> None:
        """Shows a selection soon; returns at once. Without any a new scene is shown."""
        what = selected if isinstance(selected, Nodes) else tuple(selected)
        with self._changed:
            if self._wanted != (current, what):
                self._wanted = current, what
                self._changed.notify()

    def destroy(self) -> None:
        """Leaves the graph, and with it the latched messages."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()
        for overlay in self._overlays.values():
            overlay.destroy()
        for publisher in (self._object, self._box):
            self._node.destroy_lifecycle_publisher(publisher)

    def _run(self) -> None:
        while True:
            with self._changed:
                # The timeout is for overlays that somebody has subscribed to meanwhile.
                self._changed.wait_for(
                    lambda: self._ending or self._wanted != self._shown, timeout=0.5
                )
                if self._ending:
                    return
                wanted = self._wanted
            if wanted is None:
                continue
            try:
                self._publish(wanted)
                for image in self._images:
                    image.serve()
            except Exception:  # noqa: BLE001  a picture that fails must not end the others
                self._node.get_logger().error(f"selection not shown:\n{traceback.format_exc()}")
            self._shown = wanted
            time.sleep(0.1)  # at most ten pictures a second

    def _publish(self, wanted: _Selection) -> None:
        current, ids = wanted
        scene, before = current.scene, self._shown
        if before is None or before[0].scene is not scene:
            self._plain = [label_overlay(scene, view) for view in range(len(scene.view_names))]
            self._drawn = {}
        if ids and wanted != before:
            cloud = objects_cloud(scene, ids)
            columns = colored_columns(cloud.points, cloud.colors)
            self._object.publish(cloud_message(columns, scene.frame_id, scene.stamp_ns))
            box = current.graspable.bounding_box(ids)
            size = " x ".join(f"{100 * edge:.1f}" for edge in box.size)
            name = (
                f"object {', '.join(map(str, cloud.object_ids))}" if cloud.object_ids else "part"
            )
            text = f"{name}: {size} cm"
            self._box.publish(box_markers(box, text, scene.frame_id, scene.stamp_ns))
        for view, name in enumerate(scene.view_names):
            if name not in self._overlays or self._drawn.get(name) == wanted:
                continue
            # The first one is for late subscribers; later ones need a subscriber to be drawn.
            if name in self._drawn and not self._overlays[name].is_heard:
                continue
            picture = self._plain[view]
            if ids:
                picture = with_selection(picture, scene, view, ids)
            picture = current.calibrations[name].published_labels(picture)
            self._overlays[name].publish(picture, scene.camera_frames[view], scene.stamps_ns[view])
            self._drawn[name] = wanted
