"""What the affinity network reads of a view, and the pixels that its outputs speak of."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

CHANNELS: Final = (
    "lightness", "a", "b", "inverse_depth", "normal_x", "normal_y", "normal_z", "relief", "valid",
)  # fmt: skip
"""Each about 1 in size; colour is 0 where there is none, as are the others without depth."""
PIXELS: Final = 320 * 240
"""Views are brought to about this many pixels: the size of the views that were learned from."""
MULTIPLE: Final = 32
"""Sides of inputs are multiples of this: the network halves them five times."""
STEP: Final = 2
"""Input pixels per output pixel."""
OFFSETS: Final = (
    (0, 1), (1, 0), (0, 2), (2, 0), (2, 2), (2, -2),
    (0, 6), (6, 0), (6, 6), (6, -6), (0, 16), (16, 0),
)  # fmt: skip
"""(row, column) from each output pixel to the one that its affinity is with [output pixels]."""
REACH: Final = (0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3)
"""Of each offset: 2, 4, 12 and 32 input pixels."""


def network_input(
    lab: NDArray[np.float32], depth: NDArray[np.float32], K: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(len(CHANNELS), H, W) for a view of any size, with H and W padded to multiples of 32.

    Args:
        lab: (h, w, 3) CIE Lab, L in 0..100.
        depth: (h, w) along the optical axis, 0 = none, in any unit.
        K: (3, 3).
    """
    height, width = depth.shape
    valid = depth > 0
    out = np.zeros(
        (len(CHANNELS), -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE),
        np.float32,
    )
    here = out[:, :height, :width]
    here[0], here[1], here[2] = lab[..., 0] / 50.0 - 1.0, lab[..., 1] / 40.0, lab[..., 2] / 40.0
    if not valid.any():
        return out
    scaled = np.where(valid, depth / np.median(depth[valid]), 0.0).astype(np.float32)
    here[3][valid] = np.clip(1.0 / scaled[valid] - 1.0, -1.0, 2.0)
    here[4:7] = _normals(scaled, valid, K)
    mean = _mean_of_valid(scaled, valid, 15)
    here[7][valid] = np.clip(50.0 * np.log(scaled[valid] / mean[valid]), -2.0, 2.0)
    here[8] = valid
    return out


def _mean_of_valid(
    values: NDArray[np.float32], valid: NDArray[np.bool_], size: int
) -> NDArray[np.float32]:
    """Means over squares of ``size`` pixels, of what is valid; 0 where nothing is."""
    total = cv2.blur(values * valid, (size, size), borderType=cv2.BORDER_CONSTANT)
    share = cv2.blur(valid.astype(np.float32), (size, size), borderType=cv2.BORDER_CONSTANT)
    return np.where(share > 1e-4, total / np.maximum(share, 1e-4), 0.0).astype(np.float32)


def _normals(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], K: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(3, h, w) unit normals towards the camera of the smoothed surface; 0 where there is none."""
    height, width = depth.shape
    # Inverse depth is linear over a plane: smoothing it keeps planes as they are.
    inverse = np.where(valid, 1.0 / np.maximum(depth, 1e-6), 0.0).astype(np.float32)
    smooth = _mean_of_valid(inverse, valid, 5)
    dv, du = np.zeros_like(smooth), np.zeros_like(smooth)
    dv[2:-2], du[:, 2:-2] = (smooth[4:] - smooth[:-4]) / 4, (smooth[:, 4:] - smooth[:, :-4]) / 4
    v, u = np.mgrid[:height, :width].astype(np.float32)
    # With 1/z = n . (x, y, 1) the gradient over the image is the plane's normal.
    nx, ny = du * np.float32(K[0, 0]), dv * np.float32(K[1, 1])
    nz = smooth - du * (u - np.float32(K[0, 2])) - dv * (v - np.float32(K[1, 2]))
    normal = -np.stack([nx, ny, nz])
    length = np.linalg.norm(normal, axis=0)
    known = valid & (length > 1e-6)
    return np.where(known, normal / np.maximum(length, 1e-6), 0.0).astype(np.float32)
