"""Pixels that give no points, because they are no part of the scene: the robot's."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from wildseg3d_ros.core.arrays import Array, array_key, as_array, namespace
from wildseg3d_ros.core.types import PairPrediction, View


def without_points(
    predictions: Sequence[PairPrediction], views: Sequence[View]
) -> list[PairPrediction]:
    """The predictions with confidence 0 at the views' ignored pixels."""
    # What pairs share stays shared: it is told by its memory.
    made: dict[tuple[Hashable, int], Array] = {}

    def keep(confidence: Array, view: int) -> Array:
        ignored = views[view].ignored
        if ignored is None or ignored.shape != confidence.shape:
            return confidence
        key = array_key(confidence), view
        if key not in made:
            there = as_array(np.ascontiguousarray(ignored), confidence)
            xp = namespace(confidence)
            made[key] = xp.where(there, xp.zeros_like(confidence), confidence)
        return made[key]

    return [
        replace(
            each,
            confidence_a=keep(each.confidence_a, each.a),
            confidence_b=keep(each.confidence_b, each.b),
        )
        for each in predictions
    ]
