"""From pairs to the graph: pixels, what the maps say there, and how much it weighs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.medians import middle_values
from wildseg3d_ros.alignment.graph.pair_maps import PairMap, is_identity, maps_of
from wildseg3d_ros.alignment.graph.weights import largest_confidence, point_weights
from wildseg3d_ros.core.arrays import Array, read_pixels, to_numpy
from wildseg3d_ros.core.types import MaskCache, PairPrediction, View


@dataclass(frozen=True, eq=False)
class Samples:
    """What the solve reads of the pairs' maps: copies, which later changes of these leave alone.

    Attributes:
        graph: all pairs, in units of their own; its weights are the confidences.
        matched: (O, n) bool flags of the dynamic adjustment; None where the rule needs none.
    """

    graph: Graph
    matched: NDArray[np.bool_] | None

    @classmethod
    def of(
        cls,
        predictions: Sequence[PairPrediction],
        views: Sequence[View],
        config: AlignmentConfig,
    ) -> Samples:
        """Reads some pixels of all maps. The maps may be arrays of any library."""
        edges = np.array([(p.a, p.b) for p in predictions], dtype=np.int64).reshape(-1, 2)
        maps = [maps_of(predictions, v) for v in range(len(views))]
        observed = [m for of_view in maps for m in of_view]
        edge = np.array([m.pair for m in observed], dtype=np.int64)
        view = np.repeat(np.arange(len(views)), [len(of_view) for of_view in maps])
        side = (edges[edge, 1] == view).astype(np.int64)
        reads = [_read_view(m, v.size, config) for m, v in zip(maps, views, strict=True)]
        pixels = tuple(read[0] for read in reads)
        shape = len(observed), max(1, *(len(p) for p in pixels))
        x, confidence = np.zeros((shape[0], 3, shape[1])), np.zeros(shape)
        for o, (points, values) in enumerate(part for read in reads for part in read[1]):
            x[o, :, : len(values)], confidence[o, : len(values)] = points.T, values
        pair_from_map = np.array([m.pair_from_map for m in observed], np.float64)
        pair_from_map = pair_from_map.reshape(-1, 4, 4)
        _clean(x, confidence, pair_from_map)
        matched = None
        if config.weighting in ("dynamic", "dynamic_confidence"):
            matched = np.zeros(shape, dtype=bool)
            for o, (v, e, s) in enumerate(zip(view, edge, side, strict=True)):
                matched[o, : len(pixels[v])] = _matched(predictions[e], s, pixels[v])
        graph = Graph(
            edges=edges,
            ids=np.arange(len(edges)),
            view=view,
            edge=edge,
            side=side,
            x=x,
            weight=confidence,
            pixels=pixels,
            unit=np.ones(len(edges)),
            fixed=np.array([p.metric for p in predictions], dtype=bool),
            pair_from_map=pair_from_map,
            own_frame=np.array([m.own_frame for m in observed], dtype=bool),
            measured=np.array(
                [len({m.key for m in of}) == 1 and all(m.own_frame for m in of) for of in maps]
            ),
        )
        return cls(graph, matched)


def build_graph(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    config: AlignmentConfig,
    masks: MaskCache | None = None,
) -> Graph:
    """Samples all pairs and weighs the points. Pairs may turn out empty."""
    return weigh(Samples.of(predictions, views, config), config, masks)


def weigh(samples: Samples, config: AlignmentConfig, masks: MaskCache | None = None) -> Graph:
    """The graph of all pairs; with the masks' scores, where there are masks."""
    graph, weight = samples.graph, _weights(samples, config, masks)
    norm = np.sqrt(np.einsum("okn,okn->on", graph.x, graph.x))
    weight *= _nearness(norm, weight > 0)
    unit = _units(norm, weight, graph.edge, graph.fixed)
    x = graph.x / unit[graph.edge][:, None, None]
    return replace(graph, x=x, weight=weight, unit=unit)


def _read_view(
    maps: Sequence[PairMap], size: tuple[int, int], config: AlignmentConfig
) -> tuple[NDArray[np.int64], list[tuple[NDArray, NDArray]]]:
    """Rows and columns (n, 2) of pixels spread evenly, dense enough for the wanted number of valid
    ones, and points (n, 3) and confidences (n,) of a view's maps there."""
    point_maps = {m.key[0]: m.points for m in maps}
    confidences = {m.key[1]: m.confidence for m in maps}

    def grid(rows_wanted: float, cols_wanted: float) -> NDArray[np.int64]:
        return _spread_pixels(size, rows_wanted, cols_wanted)

    def read(arrays: dict[Hashable, Array], flat: NDArray[np.int64]) -> dict[Hashable, NDArray]:
        return {key: read_pixels(array, flat) for key, array in arrays.items()}

    def any_valid(read: dict[Hashable, NDArray]) -> NDArray[np.bool_]:
        # NaN compares False.
        return np.logical_or.reduce([values > 0 for values in read.values()])

    # The share of valid pixels, on a coarse grid, says how fine the grid has to be.
    share = any_valid(read(confidences, grid(48, 48))).mean() if maps else 0.0
    chosen = np.zeros(0, dtype=np.int64)
    if share > 0:
        per_side = np.sqrt(config.samples_per_view / share)
        aspect = np.sqrt(size[0] / size[1])
        chosen = grid(per_side * aspect, per_side / aspect)
    values = read(confidences, chosen)
    valid = any_valid(values) if maps else np.zeros(0, dtype=bool)
    chosen = chosen[valid]
    points = read(point_maps, chosen)
    pixels = np.stack(np.divmod(chosen, size[1]), axis=1)
    return pixels, [(points[m.key[0]], values[m.key[1]][valid]) for m in maps]


def _spread_pixels(
    size: tuple[int, int], rows_wanted: float, cols_wanted: float
) -> NDArray[np.int64]:
    """Flat pixels of an image, one anywhere in each cell of a grid of about so many rows and
    columns, the same ones each time: what is measured at every other pixel alone, as registered
    depth often is, is neither all met nor all missed."""
    edges = [
        np.arange(count + 1) * length // count
        for length, wanted in zip(size, (rows_wanted, cols_wanted), strict=True)
        for count in [int(np.clip(round(wanted), 1, length))]
    ]
    random = np.random.default_rng(0)
    rows, cols = np.meshgrid(*(each[:-1] for each in edges), indexing="ij")
    heights, widths = np.meshgrid(*map(np.diff, edges), indexing="ij")
    rows = rows + (random.random(rows.shape) * heights).astype(np.int64)
    cols = cols + (random.random(cols.shape) * widths).astype(np.int64)
    return (rows * size[1] + cols).ravel()


def _clean(x: NDArray[np.float64], confidence: NDArray, pair_from_map: NDArray) -> None:
    """Brings points into their pairs' frames, in place, and leaves out what is no point."""
    valid = (confidence > 0) & np.isfinite(confidence) & np.isfinite(x).all(1)
    confidence[~valid] = 0.0
    np.minimum(confidence, largest_confidence(confidence), out=confidence)
    np.copyto(x, 0.0, where=~valid[:, None])
    for o, transform in enumerate(pair_from_map):
        if not is_identity(transform):
            x[o] = transform[:3, :3] @ x[o] + transform[:3, 3:]
    # What is no point stays at the origin.
    np.copyto(x, 0.0, where=~valid[:, None])


def _matched(pair: PairPrediction, side: int, pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Flags of the back end's descriptors, else of mutual geometric consistency."""
    from wildseg3d_ros.alignment.graph.matching import mutual_matches

    flags = pair.matched_b if side else pair.matched_a
    if flags is not None:
        return to_numpy(flags)[pixels[:, 0], pixels[:, 1]]
    maps = [to_numpy(pair.pointmap_a), pair.pointmap_b_in_a]
    valid = [
        (to_numpy(c) > 0) & np.isfinite(m).all(-1)
        for c, m in zip((pair.confidence_a, pair.confidence_b), maps, strict=True)
    ]
    other = 1 - side
    return mutual_matches(maps[side], valid[side], maps[other], valid[other], pixels)


def _weights(
    samples: Samples, config: AlignmentConfig, masks: MaskCache | None
) -> NDArray[np.float64]:
    """(O, n) W, scaled to a mean near 1 so that no rule's units reach the solver."""
    graph, confidence = samples.graph, samples.graph.weight
    scores = np.ones((graph.view_count, confidence.shape[1]))
    for v, (rows, cols) in enumerate(pixels.T for pixels in graph.pixels):
        if masks is not None:
            given = masks.scores[v][rows, cols].astype(np.float64)
            scores[v, : len(rows)] = np.nan_to_num(given, nan=1.0)
    positive = confidence[confidence > 0]
    median = float(np.median(positive)) if positive.size else 1.0
    weight = point_weights(config, confidence, scores[graph.view], samples.matched, median)
    total = weight.sum()
    return weight * (np.count_nonzero(weight) / total) if total > 0 else weight


def _nearness(norm: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(O, n) in (0, 1], less than 1 for points much farther than an observation's others.

    What a point of a sky, or of no disparity, pulls at poses with grows with the square of its
    distance; so weighed, it falls with the distance.
    """
    lower, upper = middle_values(np.where(valid, norm, np.nan))
    typical = np.where(valid.any(1), 0.5 * (lower + upper), 1.0)
    # In four times that of an observation's typical point. Pixels at 10 to 1000 times
    # their distance then change errors by less than a twentieth (docs/explanation/alignment.md).
    distance = norm / (4.0 * np.maximum(typical, 1e-300))[:, None]
    np.maximum(distance, 1.0, out=distance)
    return 1.0 / (distance * distance * distance)


def _units(
    norm: NDArray[np.float64],
    weight: NDArray[np.float64],
    edge: NDArray[np.int64],
    fixed: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(E,) weighted mean norm of each pair's points; one common unit for pairs of known scale."""
    total, mass = np.zeros(len(fixed)), np.zeros(len(fixed))
    np.add.at(total, edge, np.nan_to_num(weight * norm).sum(1))
    np.add.at(mass, edge, weight.sum(1))
    unit = np.where((mass > 0) & (total > 0), total / np.where(mass > 0, mass, 1.0), 1.0)
    if fixed.any():
        unit[fixed] = np.median(unit[fixed])
    return unit
