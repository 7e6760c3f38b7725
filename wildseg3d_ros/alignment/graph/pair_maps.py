"""The maps that pairs have of a view."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.arrays import Array, array_key, read_pixels
from wildseg3d_ros.core.types import PairPrediction


@dataclass(frozen=True, eq=False)
class PairMap:
    """One pair's map of a view, or some of its pixels.

    Attributes:
        pair: index of the pair; points: (H, W, 3) or (n, 3); confidence: (H, W) or (n,).
        key: of the points and of the confidence, equal for maps that are the same arrays.
        pair_from_map: (4, 4); own_frame: whether the map is in its own camera's frame.
        metric: whether the pair is.
    """

    pair: int
    points: Array
    confidence: Array
    key: tuple[Hashable, Hashable]
    pair_from_map: NDArray[np.float64]
    own_frame: bool
    metric: bool

    def at(self, pixels: NDArray[np.int64]) -> PairMap:
        """Its pixels (n,), numbered row by row: copies, as NumPy."""
        points, confidence = read_pixels(self.points, pixels), read_pixels(self.confidence, pixels)
        return replace(self, points=points, confidence=confidence)


def maps_of(predictions: Sequence[PairPrediction], view: int) -> list[PairMap]:
    """All pairs' maps of a view.

    A view's own map always is in its camera's frame. The other view's map is, when the pair
    carries a transform for it (a back end that measures each view once) or when the same array is
    a view's own map elsewhere. With an identity transform both readings say the same pose.
    """
    own_maps = {array_key(p.pointmap_a) for p in predictions if p.a == view}
    out = []
    for e, p in enumerate(predictions):
        if view not in (p.a, p.b):
            continue
        points, confidence, pair_from_map = (
            (p.pointmap_a, p.confidence_a, np.eye(4))
            if p.a == view
            else (p.pointmap_b, p.confidence_b, p.a_from_map_b)
        )
        key = array_key(points), array_key(confidence)
        own_frame = key[0] in own_maps or not is_identity(pair_from_map)
        out.append(PairMap(e, points, confidence, key, pair_from_map, own_frame, p.metric))
    return out


def is_identity(transform: NDArray) -> bool:
    """Whether a (4, 4) transform moves nothing."""
    return np.array_equal(transform, np.eye(4))
