"""What the network's confidence means: a standard deviation in proportion to the depth.

The network is trained with ``confidence * |error| - c * log(confidence)`` (the paper's depth loss,
as of DUSt3R, eq. 4), whose minimum over the confidence is at ``c / |error|``: the expected error
goes with one over the confidence. ``c`` and the unit of the error are not published, so that the
middle of all confidences stands for a relative deviation that is set or measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.pointmaps.confidence import edge_quality


def relative_precision(
    depths: Sequence[NDArray[np.float32]],
    confidences: Sequence[NDArray[np.float32]],
    intrinsics: Sequence[NDArray[np.float64]],
) -> list[NDArray[np.float32]]:
    """Per view (h, w): one over the standard deviation of the depth, in units of that of a pixel
    of middle confidence; lowered beside depth edges, 0 at flying pixels and where there is none.

    Args:
        depths, confidences: per view (h, w), in one unit; 0 where there is no depth.
        intrinsics: (3, 3) for the pixels of the maps.
    """
    known = [c[d > 0] for c, d in zip(confidences, depths, strict=True)]
    middle = float(np.median(np.concatenate(known)))
    made = []
    for depth, confidence, K in zip(depths, confidences, intrinsics, strict=True):
        # Errors of a network are smooth: a step that no surface makes is an edge, however unsure
        # the depth itself.
        quality = edge_quality(depth, K, np.zeros_like(depth))
        made.append((confidence / np.float32(middle) * quality).astype(np.float32))
    return made
