"""How much of an object was seen, face by face of its box."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.grasping.boxes import OrientedBox


def face_coverage(
    points: NDArray[np.float32], normals: NDArray[np.float32], box: OrientedBox
) -> NDArray[np.float64]:
    """Share of each face of a box behind which the object's surface was seen from that side.

    The outline of the object on a face is the convex hull of its points there. A cell of it counts
    when most of the outermost of the object's points behind it face outwards: of a thing on a
    table, what is outermost at the bottom is the inside of its top, and the rim of its sides.

    Args:
        points: (M, 3).
        normals: (M, 3) unit vectors, outwards.
        box: about them, in their frame.

    Returns:
        (6,) in [0, 1], of the faces -x, +x, -y, +y, -z, +z.
    """
    box_from_frame = invert(box.frame_from_box)
    inside = apply(box_from_frame, np.asarray(points, np.float64))
    outwards = np.asarray(normals, np.float64) @ box_from_frame[:3, :3].T
    # 16 cells along the longest edge; outermost are points up to a quarter of one deeper.
    cell = max(float(box.size.max()) / 16, 1e-9)
    shares = np.zeros(6)
    for axis in range(3):
        across = [other for other in range(3) if other != axis]
        size = np.maximum(box.size[across], cell)
        shape = tuple(int(np.ceil(edge / cell)) for edge in size)
        place = (inside[:, across] + size / 2) / cell
        at = np.clip(place.astype(np.int64), 0, np.array(shape) - 1).astype(np.int32)
        outline = np.zeros(shape[::-1], np.uint8)
        cv2.fillConvexPoly(outline, cv2.convexHull(at), (1.0,))
        flat = at[:, 0] + at[:, 1] * shape[0]
        for side, sign in enumerate((-1.0, 1.0)):
            height = sign * inside[:, axis]
            top = np.full(outline.size, -np.inf)
            np.maximum.at(top, flat, height)
            outermost = height > top[flat] - 0.25 * cell
            # Surfaces up to 75 degrees from the face count as seen from its side.
            facing = outermost & (sign * outwards[:, axis] > 0.25)
            votes = np.bincount(flat[facing], minlength=outline.size)
            seen = 2 * votes > np.bincount(flat[outermost], minlength=outline.size)
            seen &= outline.ravel() > 0
            shares[2 * axis + side] = seen.sum() / max(int(outline.sum()), 1)
    return shares
