"""Pairs of a scene that a new image of one camera leaves as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.geometry.transforms import apply, invert
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.types import Alignment, PairPrediction, View

MOVED, TURNED = 0.02, 0.035
"""How far a camera's given pose may be from where the scene has it, beyond what such poses are off
[m], [rad], before it stands elsewhere."""


def pairs_of_view(scene: Scene, view: int) -> list[tuple[int, int]]:
    """Pairs (a, b) that hold the view and were of use."""
    edges = scene.alignment.edges[scene.alignment.pair_used]
    return sorted({(int(a), int(b)) for a, b in edges if view in (a, b)})


def has_moved(scene: Scene, view: View, index: int) -> bool:
    """Whether the camera's given pose says that it stands elsewhere than in the scene."""
    prior = view.world_from_cam_prior
    if prior is None or not scene.alignment.in_prior_frame:
        return False
    step = invert(scene.world_from_cam[index]) @ prior
    off = scene.alignment.prior_residual
    usual = float(np.nanmax(off)) if np.isfinite(off).any() else 0.0
    turn = np.arccos(np.clip((np.trace(step[:3, :3]) - 1.0) / 2.0, -1.0, 1.0))
    return bool(np.linalg.norm(step[:3, 3]) > MOVED + usual or turn > TURNED)


def with_kept_pairs(
    scene: Scene, changed: int, fresh: Sequence[PairPrediction]
) -> tuple[list[PairPrediction], Alignment]:
    """All pairs of a scene after those of one view were predicted anew.

    The others are what their alignment made of them: the views' points in the scene, and the
    solved poses. So nothing need be kept of their predictions, whose maps are two for each pair.
    A map that was measured (``PairPrediction``) is used as it is, for all pairs of its view.

    Args:
        scene: of the images before.
        changed: index of the view with a new image.
        fresh: predictions of pairs that hold it.

    Returns:
        The pairs, and where they are to start.
    """
    found = scene.alignment
    kept = np.flatnonzero(found.pair_used & (found.edges != changed).all(axis=1))
    maps = _measured_maps(fresh)
    for view in {int(v) for v in found.edges[kept].ravel()} - maps.keys():
        points = apply(invert(scene.world_from_cam[view]), scene.world.points[view])
        points = np.nan_to_num(points, nan=0.0).astype(np.float32)
        maps[view] = (points, scene.world.confidence[view])
    predictions = []
    for a, b in found.edges[kept].tolist():
        a_from_b = invert(scene.world_from_cam[a]) @ scene.world_from_cam[b]
        one, other = maps[a], maps[b]
        predictions.append(
            PairPrediction(a, b, one[0], other[0], one[1], other[1], a_from_b, found.metric)
        )
    start = dataclasses.replace(
        found,
        edges=found.edges[kept],
        world_from_pair=scene.world_from_cam[found.edges[kept, 0]],
        pair_scale=np.ones(len(kept)),
        pair_used=np.ones(len(kept), np.bool_),
        pair_residual=found.pair_residual[kept],
        pair_residual_px=np.zeros(0),
        reads=None,
    )
    return [*predictions, *fresh], start


def _measured_maps(
    fresh: Sequence[PairPrediction],
) -> dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Maps and confidences by view, of those that all pairs of a view share."""
    maps = {}
    for pair in fresh:
        if pair.metric and not np.array_equal(pair.a_from_map_b, np.eye(4)):
            maps[pair.a] = (pair.pointmap_a, pair.confidence_a)
            maps[pair.b] = (pair.pointmap_b, pair.confidence_b)
    return maps
