"""What the page draws over images and in the cloud: outlines, thumbnails, colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wildseg3d_ros.grasping.objects import SceneObject
from wildseg3d_ros.io.pictures import RGB, cut_out
from wildseg3d_ros.viewer.source import ShownCamera, ShownScene

_LISTED = 192
"""Width of a captured view in its list [px]."""
_THUMBNAIL = 72  # pixels
_UNLABELLED: RGB = (96, 102, 112)


def outline(mask: NDArray[np.bool_]) -> str:
    """The outline of a mask (H, W) as an SVG path in pixels, holes included; empty for none.

    Corners of the path are pixel centres, and (0, 0) is the corner of the image.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return ""
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    found = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
    parts = []
    for contour in found:
        # Half a pixel: a path that is as the mask, with a fraction of its corners.
        corners = cv2.approxPolyDP(contour, 0.5, closed=True)[:, 0] + [left + 0.5, top + 0.5]
        if len(corners) > 2:
            parts.append("M" + "L".join(f"{u:g} {v:g}" for u, v in corners) + "Z")
    return "".join(parts)


def inner_pixel(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Column and row of the most interior pixel of a mask (H, W)."""
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(column) - 1, int(row) - 1


def outlines(camera: ShownCamera, colors: Mapping[int, RGB]) -> list[dict]:
    """Outline, colour and place of the id of each object of a camera, as its element takes it."""
    drawn = []
    for object_id in np.unique(camera.labels).tolist():
        if object_id not in colors:
            continue
        mask = camera.labels == object_id
        u, v = inner_pixel(mask)
        color = "#{:02x}{:02x}{:02x}".format(*colors[object_id])
        drawn.append({"id": object_id, "d": outline(mask), "color": color, "u": u, "v": v})
    return drawn


def thumbnail(shown: ShownScene, each: SceneObject) -> NDArray[np.uint8] | None:
    """(H, W, 3) the object in the image that shows most of it; None where no image does."""
    best, most = None, 0
    for camera in shown.cameras:
        if camera.image is None or camera.name not in each.cameras:
            continue
        ids = [each.object_id, each.parent]
        mask = next((m for m in (camera.labels == i for i in ids if i) if m.any()), None)
        if mask is not None and mask.shape == camera.image.shape[:2] and mask.sum() > most:
            best, most = (camera.image, mask), int(mask.sum())
    if best is None:
        return None
    image, mask = best
    return cut_out(image, mask, _THUMBNAIL)


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) an image as small as it is listed."""
    height, width = image.shape[:2]
    size = (_LISTED, max(round(_LISTED * height / width), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def label_points(
    shown: ShownScene, clouds: Iterable[tuple[int, NDArray[np.float32]]]
) -> NDArray[np.int32]:
    """(M,) object of each point of the scene's cloud, 0 = none.

    Args:
        shown: the scene.
        clouds: id and points of each whole object; a later one wins.
    """
    labels = np.zeros(len(shown.points), np.int32)
    if not len(labels):
        return labels
    for object_id, points in clouds:
        if len(points):
            low, high = points.min(axis=0) - shown.spacing, points.max(axis=0) + shown.spacing
            near = np.flatnonzero(((shown.points >= low) & (shown.points <= high)).all(axis=1))
            distance = KDTree(points).query(
                shown.points[near], distance_upper_bound=max(shown.spacing, 1e-9)
            )[0]
            labels[near[np.isfinite(distance)]] = object_id
    return labels


def colored_by_object(labels: NDArray[np.int32], colors: Mapping[int, RGB]) -> NDArray[np.uint8]:
    """(M, 3) colours of points by their objects."""
    table = np.tile(np.array(_UNLABELLED, np.uint8), (int(labels.max(initial=0)) + 1, 1))
    for object_id, color in colors.items():
        if object_id < len(table):
            table[object_id] = color
    return table[labels]


def packed(points: NDArray[np.float32], colors: NDArray[np.uint8]) -> bytes:
    """A cloud as the page's 3D pane reads it: M times x, y, z float32, then M times RGB uint8."""
    return points.astype("<f4").tobytes() + colors.astype(np.uint8).tobytes()


def shuffled(points: NDArray[np.float32], colors: NDArray[np.uint8]) -> bytes:
    """The same in random order, of which the first part is the cloud, thinned."""
    order = np.random.default_rng(0).permutation(len(points))
    return packed(points[order], colors[order])
