"""The reduced problem: a graph of pairs, each with sampled points of its two views."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.matching import mutual_matches
from wildseg3d_ros.alignment.graph.reads import Reads
from wildseg3d_ros.alignment.graph.weights import largest_confidence, point_weights
from wildseg3d_ros.core.errors import AlignmentError, ErrorCode, InputError
from wildseg3d_ros.core.types import MaskCache, PairPrediction, View

MIN_POINTS = 12
"""Sampled points below which a view's part of a pair says nothing about its pose."""

_IDENTITY = np.eye(4)

_FAR = 4.0
"""Distance in those of an observation's typical point, beyond which points count less."""

_PROBE = 48
"""Rows and columns of the grid on which a view's share of valid pixels is estimated."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Pairs and their sampled points. An observation is one view's part of one pair.

    Observations are ordered by view, so that those of a view are the slice ``of_view[v]``. Sampled
    pixels of a view are the same in all its observations; rows are padded to the longest view with
    weight 0. Points are divided by the pair's ``unit``, so that all pairs have a size near 1.

    Attributes:
        view_count: N.
        edges: (E, 2) int views of each pair; ids: (E,) its index in the predictions.
        view, edge, side: (O,) int of each observation; side 0 is the pair's view a, 1 is b.
        observation: (E, 2) int, the observation of a pair's side.
        of_view: N slices of observations.
        x: (O, 3, n) float64 points in the pair's frame, over the pair's unit.
        weight: (O, n) float64 W, 0 = no point.
        pixels: per view (n_v, 2) int rows and columns of its samples.
        unit: (E,) length that a pair's points were divided by.
        fixed: (E,) bool, pairs whose scale is known.
        pair_from_map: (O, 4, 4) float64, from the frame of the observed array to the pair's.
        own_frame: (O,) bool, whether the observed array is in its own camera's frame.
        measured: (N,) bool, views whose observations all are one array in its camera's frame.
    """

    view_count: int
    edges: NDArray[np.int64]
    ids: NDArray[np.int64]
    view: NDArray[np.int64]
    edge: NDArray[np.int64]
    side: NDArray[np.int64]
    observation: NDArray[np.int64]
    of_view: tuple[slice, ...]
    x: Tensor
    weight: Tensor
    pixels: tuple[NDArray[np.int64], ...]
    unit: NDArray[np.float64]
    fixed: NDArray[np.bool_]
    pair_from_map: NDArray[np.float64]
    own_frame: NDArray[np.bool_]
    measured: NDArray[np.bool_]

    def select(self, keep: NDArray[np.bool_]) -> Graph:
        """The graph with only some of its pairs."""
        if keep.all():
            return self
        kept = keep[self.edge]
        renumbered = np.cumsum(keep) - 1
        index = torch.as_tensor(np.flatnonzero(kept), device=self.x.device)
        return _ordered(
            view_count=self.view_count,
            edges=self.edges[keep],
            ids=self.ids[keep],
            view=self.view[kept],
            edge=renumbered[self.edge[kept]],
            side=self.side[kept],
            x=self.x[index],
            weight=self.weight[index],
            pixels=self.pixels,
            unit=self.unit[keep],
            fixed=self.fixed[keep],
            pair_from_map=self.pair_from_map[kept],
            own_frame=self.own_frame[kept],
            measured=self.measured,
        )

    def to(self, device: torch.device) -> Graph:
        """The same graph with its tensors on another device."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["x"], values["weight"] = self.x.to(device), self.weight.to(device)
        return Graph(**values)

    def strength(self) -> NDArray[np.float64]:
        """(E,) product of the mean weights of a pair's two views: how much it can be trusted."""
        mean = self.weight.sum(1).cpu().numpy() / np.array(
            [max(len(self.pixels[v]), 1) for v in self.view]
        )
        return mean[self.observation[:, 0]] * mean[self.observation[:, 1]]


def _ordered(**values: Any) -> Graph:
    view, edge, side = values["view"], values["edge"], values["side"]
    observation = np.empty((len(values["edges"]), 2), dtype=np.int64)
    observation[edge, side] = np.arange(len(edge))
    bounds = np.searchsorted(view, np.arange(values["view_count"] + 1))
    of_view = tuple(slice(int(s), int(e)) for s, e in pairwise(bounds))
    return Graph(observation=observation, of_view=of_view, **values)


def check_pairs(predictions: Sequence[PairPrediction], views: Sequence[View]) -> None:
    """Raises InputError unless every pair fits the views it names."""
    for index, pair in enumerate(predictions):
        if not (0 <= pair.a < len(views) and 0 <= pair.b < len(views)) or pair.a == pair.b:
            raise InputError(
                f"pair {index} names the views ({pair.a}, {pair.b}); expected two different "
                f"indices of the {len(views)} views"
            )
        for side, v in (("a", pair.a), ("b", pair.b)):
            shape = getattr(pair, f"pointmap_{side}").shape[:2]
            if shape != views[v].size:
                raise InputError(
                    f"pair {index} ('{views[pair.a].name}', '{views[pair.b].name}'): pointmap_"
                    f"{side} is {shape[1]}x{shape[0]} but the image of '{views[v].name}' is "
                    f"{views[v].size[1]}x{views[v].size[0]}; give both at one size"
                )


def pair_name(pair: PairPrediction, views: Sequence[View]) -> str:
    """The names of a pair's views, for messages."""
    return f"('{views[pair.a].name}', '{views[pair.b].name}')"


def is_identity(transform: NDArray) -> bool:
    """Whether a (4, 4) transform moves nothing."""
    return np.array_equal(transform, _IDENTITY)


def array_key(array: NDArray) -> tuple:
    """Equal for arrays that are the same memory seen the same way."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def components(count: int, edges: NDArray[np.int64]) -> list[list[int]]:
    """Connected groups of nodes, largest first, each sorted."""
    root = list(range(count))

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for a, b in edges:
        root[find(int(a))] = find(int(b))
    groups: dict[int, list[int]] = {}
    for node in range(count):
        groups.setdefault(find(node), []).append(node)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def check_connected(
    edges: NDArray[np.int64], views: Sequence[View], empty_pairs: Sequence[str] = ()
) -> None:
    """Raises AlignmentError with the groups of views when the pairs do not connect all of them."""
    groups = components(len(views), edges)
    if len(groups) == 1:
        return
    if not len(edges):
        raise AlignmentError(
            f"no pair has enough points: each needs {MIN_POINTS} sampled ones in either view with "
            "finite coordinates and a confidence above 0; check what the pointmaps are made of "
            "(depth in range, a network's confidence)",
            ErrorCode.DISCONNECTED_VIEWS,
        )
    named = "; ".join(
        "{" + ", ".join(f"'{views[v].name}'" for v in group) + "}" for group in groups
    )
    without = f" Pairs without enough points: {', '.join(empty_pairs)}." if empty_pairs else ""
    raise AlignmentError(
        f"the views fall into {len(groups)} groups that no pair connects: {named}.{without} Each "
        "group would float on its own; add views that see what two groups show, give or allow "
        "more pairs (when building: pairing.max_pairs_per_view, pairing.min_overlap), or take "
        "each group as a scene of its own",
        ErrorCode.DISCONNECTED_VIEWS,
    )


def build_graph(
    predictions: Sequence[PairPrediction],
    views: Sequence[View],
    config: AlignmentConfig,
    masks: MaskCache | None,
    reads: Reads | None = None,
) -> Graph:
    """Samples all pairs and weighs the points. Pairs may turn out empty; see :func:`usable`."""
    reads = reads or Reads()
    edges = np.array([(p.a, p.b) for p in predictions], dtype=np.int64).reshape(-1, 2)
    order = sorted((int(v), e, side) for e, row in enumerate(edges) for side, v in enumerate(row))
    view, edge, side = np.array(order, dtype=np.int64).reshape(-1, 3).T
    samples = [
        _sample_pixels(
            [_confidence(predictions[e], s) for v, e, s in order if v == index],
            views[index].size,
            config.samples_per_view,
            reads,
        )
        for index in range(len(views))
    ]
    pixels = tuple(
        np.stack(np.divmod(sample.flat, view.size[1]), axis=1)
        for sample, view in zip(samples, views, strict=True)
    )
    longest = max(1, *(len(p) for p in pixels))
    x = np.zeros((len(order), 3, longest))
    confidence = np.zeros((len(order), longest))
    pair_from_map = np.tile(np.eye(4), (len(order), 1, 1))
    for o, (v, e, s) in enumerate(order):
        sample, count = samples[v], len(samples[v].flat)
        x[o, :, :count] = reads.points(_points(predictions[e], s), sample.flat, sample.key)
        confidence[o, :count] = reads.values(
            _confidence(predictions[e], s), sample.flat, sample.key
        )
    valid = (confidence > 0) & np.isfinite(confidence) & np.isfinite(x).all(1)
    confidence[~valid] = 0.0
    np.minimum(confidence, largest_confidence(confidence), out=confidence)
    np.copyto(x, 0.0, where=~valid[:, None])
    for o, (_, e, s) in enumerate(order):
        if s == 1 and not is_identity(predictions[e].a_from_map_b):
            pair_from_map[o] = predictions[e].a_from_map_b
            x[o] = pair_from_map[o, :3, :3] @ x[o] + pair_from_map[o, :3, 3:]
    # What is no point stays at the origin.
    np.copyto(x, 0.0, where=~valid[:, None])

    weight = _weigh(predictions, config, masks, order, pixels, confidence)
    weight *= _nearness(x, weight > 0)
    fixed = np.array([p.metric for p in predictions], dtype=bool)
    unit = _units(x, weight, edge, fixed)
    x /= unit[edge][:, None, None]
    own_frame, measured = _frames(predictions, order, len(views))
    return _ordered(
        view_count=len(views),
        edges=edges,
        ids=np.arange(len(edges)),
        view=view,
        edge=edge,
        side=side,
        x=torch.from_numpy(x),
        weight=torch.from_numpy(weight),
        pixels=pixels,
        unit=unit,
        fixed=fixed,
        pair_from_map=pair_from_map,
        own_frame=own_frame,
        measured=measured,
    )


def usable(graph: Graph) -> NDArray[np.bool_]:
    """(E,) bool: pairs with enough points in both views to say how these lie to each other."""
    count = (graph.weight > 0).sum(1).cpu().numpy()
    finite = np.isfinite(graph.pair_from_map).all((1, 2)) & np.isfinite(graph.x.cpu().numpy()).all(
        (1, 2)
    )
    good = (count >= MIN_POINTS) & finite
    return good[graph.observation[:, 0]] & good[graph.observation[:, 1]]


def _points(pair: PairPrediction, side: int) -> NDArray:
    return pair.pointmap_b if side else pair.pointmap_a


def _confidence(pair: PairPrediction, side: int) -> NDArray:
    return pair.confidence_b if side else pair.confidence_a


@dataclass(frozen=True, eq=False)
class _Sample:
    """Pixels of a view: (n,) numbers row by row, and a key that stands for them."""

    flat: NDArray[np.int64]
    key: Hashable


def _sample_pixels(
    confidences: list[NDArray], size: tuple[int, int], wanted: int, reads: Reads
) -> _Sample:
    """A regular grid, dense enough for ``wanted`` valid pixels."""
    nothing = _Sample(np.zeros(0, dtype=np.int64), ())
    distinct = list({array_key(c): c for c in confidences}.values())

    def grid(rows_wanted: float, cols_wanted: float) -> _Sample:
        rows_count = int(np.clip(round(rows_wanted), 1, size[0]))
        cols_count = int(np.clip(round(cols_wanted), 1, size[1]))
        rows = ((np.arange(rows_count) + 0.5) * size[0] / rows_count).astype(np.int64)
        cols = ((np.arange(cols_count) + 0.5) * size[1] / cols_count).astype(np.int64)
        return _Sample((rows[:, None] * size[1] + cols).ravel(), (rows_count, cols_count))

    def any_valid(sample: _Sample) -> NDArray[np.bool_]:
        valid = np.zeros(len(sample.flat), dtype=bool)
        for c in distinct:
            # NaN compares False.
            valid |= reads.values(c, sample.flat, sample.key) > 0
        return valid

    share = any_valid(grid(_PROBE, _PROBE)).mean() if distinct else 0.0
    if share == 0:
        return nothing
    per_side = np.sqrt(wanted / share)
    aspect = np.sqrt(size[0] / size[1])
    chosen = grid(per_side * aspect, per_side / aspect)
    valid = any_valid(chosen)
    return _Sample(chosen.flat[valid], (chosen.key, valid.tobytes()))


def _weigh(
    predictions: Sequence[PairPrediction],
    config: AlignmentConfig,
    masks: MaskCache | None,
    order: list[tuple[int, int, int]],
    pixels: tuple[NDArray[np.int64], ...],
    confidence: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(O, n) W, scaled to a mean near 1 so that no rule's units reach the solver."""
    positive = confidence[confidence > 0]
    median = float(np.median(positive)) if positive.size else 1.0
    weight = np.zeros_like(confidence)
    for o, (v, e, s) in enumerate(order):
        rows, cols = pixels[v].T
        scores = np.ones(len(rows))
        if masks is not None:
            scores = np.nan_to_num(masks.scores[v][rows, cols].astype(np.float64), nan=1.0)
        matched = None
        if config.weighting in ("dynamic", "dynamic_confidence"):
            matched = _matched(predictions[e], s, pixels[v])
        weight[o, : len(rows)] = point_weights(
            config, confidence[o, : len(rows)], scores, matched, median
        )
    total = weight.sum()
    return weight * (np.count_nonzero(weight) / total) if total > 0 else weight


def _nearness(x: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(O, n) in (0, 1], less than 1 for points much farther than an observation's others.

    What a point of a sky, or of no disparity, pulls at poses with grows with the square of its
    distance; so weighed, it falls with the distance.
    """
    norm = np.sqrt(np.einsum("okn,okn->on", x, x))
    typical = np.ones(len(x))
    for o in np.flatnonzero(valid.any(1)):
        typical[o] = np.median(norm[o, valid[o]])
    far = norm / (_FAR * np.maximum(typical, 1e-300))[:, None]
    return np.maximum(far, 1.0) ** -3


def _matched(pair: PairPrediction, side: int, pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Flags of the back end's descriptors, else of mutual geometric consistency."""
    flags = pair.matched_b if side else pair.matched_a
    if flags is not None:
        return flags[pixels[:, 0], pixels[:, 1]]
    maps = [pair.pointmap_a, pair.pointmap_b_in_a]
    valid = [
        (c > 0) & np.isfinite(m).all(-1)
        for c, m in zip((pair.confidence_a, pair.confidence_b), maps, strict=True)
    ]
    other = 1 - side
    return mutual_matches(maps[side], valid[side], maps[other], valid[other], pixels)


def _units(x: NDArray, weight: NDArray, edge: NDArray, fixed: NDArray) -> NDArray[np.float64]:
    """(E,) weighted mean norm of each pair's points; one common unit for pairs of known scale."""
    norm = np.sqrt(np.einsum("okn,okn->on", x, x))
    total, mass = np.zeros(len(fixed)), np.zeros(len(fixed))
    np.add.at(total, edge, np.nan_to_num(weight * norm).sum(1))
    np.add.at(mass, edge, weight.sum(1))
    unit = np.where((mass > 0) & (total > 0), total / np.where(mass > 0, mass, 1.0), 1.0)
    if fixed.any():
        unit[fixed] = np.median(unit[fixed])
    return unit


def _frames(
    predictions: Sequence[PairPrediction], order: list[tuple[int, int, int]], view_count: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which observed arrays are in their own camera's frame, and which views have but one array.

    A view's own map is always in its frame. The other view's map is, when the pair carries a
    transform for it (a back end that measures each view once) or when the same array is a view's
    own map elsewhere. With an identity transform both readings say the same pose.
    """
    own_maps = {(p.a, array_key(p.pointmap_a)) for p in predictions}
    own_frame = np.array(
        [
            s == 0
            or not is_identity(predictions[e].a_from_map_b)
            or (v, array_key(predictions[e].pointmap_b)) in own_maps
            for v, e, s in order
        ],
        dtype=bool,
    )
    measured = np.zeros(view_count, dtype=bool)
    for index in range(view_count):
        mine = [(o, e, s) for o, (v, e, s) in enumerate(order) if v == index]
        arrays = {
            (
                array_key(_points(predictions[e], s)),
                array_key(_confidence(predictions[e], s)),
            )
            for _, e, s in mine
        }
        measured[index] = len(arrays) == 1 and all(own_frame[o] for o, _, _ in mine)
    return own_frame, measured


__all__ = [
    "MIN_POINTS",
    "Graph",
    "array_key",
    "build_graph",
    "check_connected",
    "check_pairs",
    "components",
    "is_identity",
    "pair_name",
    "usable",
]
