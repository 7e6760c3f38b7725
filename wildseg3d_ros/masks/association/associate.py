"""From the masks of each view to one id per object: the steps on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association.evidence import Evidence
from wildseg3d_ros.masks.association.grouping import MIN_GAIN, group_masks
from wildseg3d_ros.masks.association.inputs import (
    check_ids,
    check_labels,
    check_tracks,
    check_world,
)
from wildseg3d_ros.masks.association.levels import arrange_groups, reassign_parts, split_levels
from wildseg3d_ros.masks.association.nodes import MaskNodes
from wildseg3d_ros.masks.association.opposite import join_opposite_sides
from wildseg3d_ros.masks.association.overlap import (
    Overlap,
    draw_samples,
    mask_confidence,
    measure_overlap,
    overlap_evidence,
)
from wildseg3d_ros.masks.association.repair import (
    absorb_fragments,
    adopt_fragments,
    divide_under_segmented,
)
from wildseg3d_ros.masks.association.tracks import (
    Tracks,
    ambiguity_of_tracks,
    cut_tracks,
    measure_tracks,
    track_evidence,
    trust_from_groups,
    trust_of_tracks,
)
from wildseg3d_ros.masks.association.visibility import (
    ObjectVisibility,
    visibility_in_maps,
    visibility_of_groups,
)


@dataclass(frozen=True, eq=False)
class Association:
    """One id per object over all views.

    Attributes:
        maps: by level, whole objects first, by view: (H, W) int32 id of each pixel's object, 0 =
            none.
        object_ids: sorted ids of all levels.
        levels: the level of each, 0 = whole.
        id_of_mask: per view, id by the label that the mask had in that view; of an under-segmented
            mask that was divided among its objects, the largest one's. Masks that only surround
            several objects, or are nested deeper than there are levels, have none.
        visibility: (K, N) int8 of :class:`ObjectVisibility`, of each object in each view.
        cut: (anchor view, its label there, other view) of the tracks that 3D contradicts.
    """

    maps: tuple[tuple[NDArray[np.int32], ...], ...]
    object_ids: tuple[int, ...]
    levels: tuple[int, ...]
    id_of_mask: tuple[Mapping[int, int], ...]
    visibility: NDArray[np.int8]
    cut: tuple[tuple[int, int, int], ...]

    @property
    def labels(self) -> tuple[NDArray[np.int32], ...]:
        """Per view the ids of whole objects."""
        return self.maps[0]

    @property
    def whole_ids(self) -> tuple[int, ...]:
        """Sorted ids of whole objects."""
        levels = zip(self.object_ids, self.levels, strict=True)
        return tuple(i for i, level in levels if level == 0)


def associate(
    labels: Sequence[NDArray[np.integer]],
    world: WorldPointmaps | None = None,
    visibility: Visibility | None = None,
    tracks: Sequence[Tracks] = (),
    known: Sequence[Mapping[int, int]] | None = None,
    known_levels: Mapping[int, int] | None = None,
    first_id: int = 1,
    progress: Callable[[], object] = lambda: None,
) -> Association:
    """Finds which masks of different views show one object, and which objects are parts of others.

    Two sources of evidence, either of which may be absent: the overlap of masks that are lifted
    by the pointmaps into other views, and tracks. A track that 3D contradicts is cut; how reliable
    the other tracks between two views are is learned from the tracks themselves and from how well
    they agree with the result. Masks of all sizes are compared with each other, so that it does
    not matter how deep a view nests them; levels are derived afterwards, from all views.

    Args:
        labels: per view (H, W) labels of its masks, 0 = none, or (L, H, W) in mask layers where
            masks are nested, the outer ones first; names need not agree over views.
        world, visibility: points of all pixels and the depth images drawn from them
            (``Visibility.create``); None without pointmaps.
        tracks: masks followed from some of the views.
        known: per view, ids that masks keep, by label; masks that are not in it are assigned to
            those objects or become new ones. For a view that was replaced give an empty mapping.
        known_levels: levels that objects keep, by id.
        first_id: smallest id of a new object.
        progress: called between the steps; may raise to cancel.

    Raises:
        ValueError: no views; masks that are no integer labels; pointmaps, visibility, tracks or
            known ids that do not belong to them; ids beyond int32.
    """
    check_labels(labels)
    world = check_world(labels, world, visibility)
    check_tracks(labels, tracks)
    nodes = MaskNodes.from_labels(labels)
    check_ids(nodes.views, known, first_id, len(nodes))
    evidence, overlap = Evidence.none(nodes.layer, len(nodes.maps)), None
    if world is not None and visibility is not None and len(nodes):
        confidence = mask_confidence(nodes)
        samples = draw_samples(nodes, world, confidence, visibility)
        progress()
        overlap = measure_overlap(nodes, samples, confidence)
        progress()
        evidence = overlap_evidence(nodes, overlap)
    progress()
    masks = zip(nodes.view.tolist(), nodes.label.tolist(), strict=True)
    id_of_node = np.array([known[v].get(i, 0) if known else 0 for v, i in masks], np.int64)
    start = np.where(id_of_node > 0, id_of_node, -1 - np.arange(len(nodes)))
    movable, nested = id_of_node == 0, nodes.nested()
    both, tracked = evidence, None
    cut = np.zeros((len(nodes), nodes.views), np.bool_)
    if tracks:
        followed = measure_tracks(nodes, tracks)
        cut = cut_tracks(nodes, followed, evidence)
        tracked = (followed.area > 0) & ~cut
        trust = alone = trust_of_tracks(nodes, followed)
        # Without 3D nothing contradicts a wrong track but other tracks.
        ambiguity = MIN_GAIN if overlap else ambiguity_of_tracks(nodes, followed, trust)
        for _ in range(3 if overlap else 1):
            both = evidence + track_evidence(nodes, followed, cut, trust)
            group = group_masks(both, nodes.view, start, movable, nested, ambiguity, progress)
            trust = trust_from_groups(nodes, followed, group, alone)
    else:
        group = group_masks(evidence, nodes.view, start, movable, nested, progress=progress)
    if overlap and world:
        group = join_opposite_sides(nodes, overlap, both, world, group, movable)
    states = visibility_of_groups(nodes, group, overlap.visible if overlap else tracked)
    of_known = zip(group.tolist(), id_of_node.tolist(), strict=True)
    fixed = {g: known_levels[i] for g, i in of_known if i} if known_levels else None
    hierarchy = arrange_groups(nodes, group, states == ObjectVisibility.MISSED, fixed)
    group = reassign_parts(nodes, evidence, group, hierarchy.parent, movable)
    free = movable & ~hierarchy.is_under_segmented[group]
    maps, kept = [], np.full(len(nodes), -1)
    level_of: dict[int, int] = {}
    for k, (mine, index) in enumerate(split_levels(nodes, hierarchy.level[group], movable)):
        progress()
        kept[index] = group[index]
        if overlap:
            here = overlap.of(index, nodes.first_layers)
            kept[index], painted = _repair(
                mine, here, evidence.of(index), group[index], free[index]
            )
        else:
            table = np.append(group[index], -1).astype(np.int32)
            painted = [table[image] for image in mine.maps]
        maps.append(painted)
        for image in painted:
            there = np.flatnonzero(np.bincount(image.ravel() + 1)) - 1
            level_of |= dict.fromkeys(there.tolist(), k)
    ids = _name_groups(kept, maps, id_of_node, first_id)
    progress()
    if overlap and world:
        states = visibility_in_maps(maps, len(ids), world, overlap.samples.visibility)
    else:
        states = visibility_of_groups(nodes, kept, tracked)
    return _finish(nodes, kept, ids, level_of, maps, states, cut)


def _repair(
    nodes: MaskNodes,
    overlap: Overlap,
    evidence: Evidence,
    group: NDArray[np.int64],
    free: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], list[NDArray[np.int32]]]:
    """Groups of the masks of one level after fragments went to their objects and under-segmented
    masks were divided, and per view the group of each pixel, -1 = none."""
    names, group = np.unique(group, return_inverse=True)
    group = adopt_fragments(nodes, overlap, evidence, group.reshape(-1), free)
    divided = divide_under_segmented(nodes, overlap, group, free)
    group = absorb_fragments(nodes, overlap, group, free, divided)
    divided = divide_under_segmented(nodes, overlap, group, free)
    table = np.append(names[group], -1).astype(np.int32)
    maps = [table[image] for image in nodes.maps]
    for node, (pixel, part) in divided.items():
        maps[int(nodes.view[node])].ravel()[pixel] = names[part]
        group[node] = np.bincount(part).argmax()
    return names[group], maps


def _name_groups(
    group: NDArray[np.int64],
    maps: Sequence[Sequence[NDArray[np.int32]]],
    id_of_node: NDArray[np.int64],
    first_id: int,
) -> NDArray[np.int64]:
    """(G,) id of each group; new ones from the largest to the smallest object, as it looks over
    all views. Groups that no map shows have 0."""
    images = [image for level in maps for image in level]
    groups = 1 + max(int(each.max(initial=-1)) for each in (group, *images))
    size = np.zeros(groups)
    for image in images:
        size += np.bincount(image.ravel() + 1, minlength=groups + 1)[1:] / image.size
    ids = np.zeros(groups, np.int64)
    there = group >= 0
    np.maximum.at(ids, group[there], id_of_node[there])
    new = np.flatnonzero((ids == 0) & (size > 0))
    first = max(first_id, int(id_of_node.max(initial=0)) + 1)
    ids[new[np.argsort(-size[new], kind="stable")]] = first + np.arange(len(new))
    return ids


def _finish(
    nodes: MaskNodes,
    group: NDArray[np.int64],
    ids: NDArray[np.int64],
    level_of: Mapping[int, int],
    maps: Sequence[Sequence[NDArray[np.int32]]],
    states: NDArray[np.int8],
    cut: NDArray[np.bool_],
) -> Association:
    """The answer by ids; ``group`` and ``maps`` have -1 for none."""
    order = np.argsort(ids)[np.count_nonzero(ids == 0) :]
    table = np.append(ids, 0).astype(np.int32)  # -1 finds the last entry
    id_of_mask: list[dict[int, int]] = [{} for _ in range(nodes.views)]
    for v, label, name in np.stack([nodes.view, nodes.label, table[group]], axis=1).tolist():
        if name:
            id_of_mask[v][label] = name
    node, other = np.nonzero(cut)
    tracks = np.stack([nodes.view[node], nodes.label[node], other], axis=1).tolist()
    return Association(
        maps=tuple(tuple(table[image] for image in level) for level in maps),
        object_ids=tuple(ids[order].tolist()),
        levels=tuple(level_of[g] for g in order.tolist()),
        id_of_mask=tuple(id_of_mask),
        visibility=states[order],
        cut=tuple((v, label, b) for v, label, b in tracks),
    )
