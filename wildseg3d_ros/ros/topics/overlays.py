"""What the node draws: label overlays of the cameras' images, and boxes for RViz."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from wildseg3d_ros.core.geometry.transforms import make_transform
from wildseg3d_ros.core.types.tree import Selected
from wildseg3d_ros.grasping.boxes import OrientedBox
from wildseg3d_ros.io.pictures import draw_labels, object_colors
from wildseg3d_ros.ros.messages.conversions import header, point_message, vector_message
from wildseg3d_ros.ros.messages.grasps import pose_message
from wildseg3d_ros.scene.camera_pixels import camera_image, camera_labels
from wildseg3d_ros.scene.scene import Scene


def label_overlay(scene: Scene, view: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB pinhole image of a view with a tint per cached object."""
    colors = object_colors(scene.object_ids)
    return draw_labels(camera_image(scene, view), camera_labels(scene, view), colors)


def with_selection(
    overlay: NDArray[np.uint8], scene: Scene, view: int, selected: Selected
) -> NDArray[np.uint8]:
    """A label overlay in which objects stand out: as they are, with a bright outline."""
    mask = scene.view_masks(selected)[scene.view_names[view]]
    out = overlay.copy()
    out[mask] = camera_image(scene, view)[mask]
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
    thick = max(2, round(min(mask.shape) / 160))
    cv2.drawContours(out, contours, -1, (60, 230, 90), thick, cv2.LINE_AA)
    return out


def box_markers(box: OrientedBox, text: str, frame_id: str, stamp_ns: int) -> MarkerArray:
    """A box for RViz: a transparent body, its edges, and a text above it.

    The markers have fixed names, so that the next box replaces this one.
    """

    def marker(number: int, kind: int, alpha: float) -> Marker:
        return Marker(
            header=header(frame_id, stamp_ns),
            ns="selected_box",
            id=number,
            type=kind,
            action=Marker.ADD,
            pose=pose_message(box.frame_from_box),
            color=ColorRGBA(r=0.24, g=0.9, b=0.35, a=alpha),
            # A marker that follows its frame is drawn wherever TF has that frame now.
            frame_locked=True,
        )

    body, edges = marker(0, Marker.CUBE, 0.25), marker(1, Marker.LINE_LIST, 1.0)
    # RViz refuses to draw what has no thickness.
    body.scale = vector_message(np.maximum(box.size, 1e-4))
    edges.scale.x = 0.002
    local = OrientedBox(np.eye(4), box.size).corners()
    # Corners of an edge differ in one coordinate: in one bit of their numbers.
    pairs = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]
    edges.points = [point_message(local[corner]) for edge in pairs for corner in edge]
    label = marker(2, Marker.TEXT_VIEW_FACING, 1.0)
    label.scale.z, label.text = 0.02, text
    above = float(np.linalg.norm(box.size)) / 2 + label.scale.z
    top = box.frame_from_box[:3, 3] + np.array([0.0, 0.0, above])
    label.pose = pose_message(make_transform(np.eye(3), top))
    return MarkerArray(markers=[body, edges, label])
