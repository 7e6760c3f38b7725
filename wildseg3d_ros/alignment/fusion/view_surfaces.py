"""From solved pairs to the surfaces of the views."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.fusion.view_maps import (
    Camera,
    Observation,
    PixelMeans,
    PosedPairs,
    is_one_map,
    pose_once,
    probe_pixels,
    stacked,
)
from wildseg3d_ros.alignment.graph.medians import lower_median
from wildseg3d_ros.alignment.graph.pair_maps import PairMap, maps_of
from wildseg3d_ros.alignment.graph.weights import largest_confidence
from wildseg3d_ros.alignment.surfaces.correspondences import Surface, grid_of
from wildseg3d_ros.core.parallel import run_all
from wildseg3d_ros.core.types import MaskCache, PairPrediction, View


def sample_views(
    predictions: Sequence[PairPrediction], views: Sequence[View]
) -> list[list[PairMap]]:
    """Copies of some pixels of all pairs' maps of each view, of whatever library these are: what
    :func:`surfaces_of` needs of them, so that a second solve need not read them again."""

    def read(view: int) -> list[PairMap]:
        return _sampled(maps_of(predictions, view), views[view].size)

    # Reading maps waits for memory: a second thread halves it.
    return run_all(read, range(len(views)))


def _sampled_pixels(size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers, row by row, of a view's probes and of the pixels of its surface's grid."""
    rows, cols = grid_of(size)
    return probe_pixels(size[0] * size[1]), (rows[:, None] * size[1] + cols).ravel()


def _sampled(maps: Sequence[PairMap], size: tuple[int, int]) -> list[PairMap]:
    """Maps of one view, read at :func:`_sampled_pixels`; those that are so already stay.

    An array that several pairs share is read once.
    """
    pixels = np.concatenate(_sampled_pixels(size))
    read: dict[Hashable, PairMap] = {}
    for m in maps:
        if m.key not in read:
            read[m.key] = m if m.points.ndim == 2 else m.at(pixels)
    return [replace(m, points=read[m.key].points, confidence=read[m.key].confidence) for m in maps]


def surfaces_of(
    samples: Sequence[Sequence[PairMap]],
    views: Sequence[View],
    masks: MaskCache | None,
    posed_pairs: PosedPairs,
    world_from_cam: NDArray[np.float64],
    K: NDArray[np.float64],
) -> list[Surface]:
    """:func:`surface_of` each view, for :func:`refine_jointly`; empty where a view has no pair.

    Args:
        samples: of :func:`sample_views`.
        posed_pairs: the solved pairs; world_from_cam: (N, 4, 4) cameras in the same world.
    """
    seen = [posed_pairs.observations(maps) for maps in samples]
    if not all(seen):
        return []
    scores = masks.scores if masks is not None else [None] * len(views)
    return [
        surface_of(seen[v], view.size, scores[v], K[v], world_from_cam[v])
        for v, view in enumerate(views)
    ]


def surface_of(
    seen: Sequence[Observation],
    size: tuple[int, int],
    scores: NDArray[np.float32] | None,
    K: NDArray[np.float64],
    world_from_cam: NDArray[np.float64],
) -> Surface:
    """The mean of a view's observations on the grid of surfaces.

    Args:
        seen: one or more, whole or sampled; scores: (H, W) soft mask, None for 1 everywhere.
        K, world_from_cam: of its camera.
    """
    rows, cols = grid_of(size)
    probe, grid = _sampled_pixels(size)
    points, confidence = stacked(_sampled([o.map for o in seen], size))
    count = len(probe)
    if is_one_map(seen):
        chi, weight = pose_once(seen, world_from_cam, points[0, count:], confidence[0, count:])
        weight = np.minimum(weight, largest_confidence(weight))
    else:
        camera = Camera.of(K, world_from_cam, size[1])
        means = PixelMeans(seen, camera, probe, points[:, :count], confidence[:, :count])
        chi, weight = means.at(grid, points[:, count:], confidence[:, count:])
        chi = chi.T + camera.centre.astype(np.float32)
    weight = weight / np.float32(lower_median(weight[weight > 0], 1.0))
    if scores is not None:
        score = np.nan_to_num(scores.ravel()[grid].astype(np.float32), nan=1.0)
        # Backgrounds constrain the cameras, but objects are wanted.
        background = 0.3
        weight *= background + (1.0 - background) * score
    shape = len(rows), len(cols)
    return Surface(chi.reshape(*shape, 3), weight.reshape(shape), rows, cols, K, world_from_cam)
