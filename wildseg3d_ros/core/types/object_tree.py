"""The tree of a scene's masks and the objects in it: the one form that index and answers know."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types.masks import MaskCache
from wildseg3d_ros.core.types.tree import MaskTree


@dataclass(frozen=True, eq=False)
class ObjectTree:
    """A tree of masks, and which of its nodes each object is.

    Attributes:
        tree: of the cache, or derived from its label maps.
        nodes: by id, sorted, of the objects of all levels; disjoint and sorted.
        whole_ids: of the whole objects.
        derived: whether it was derived, so that it knows no part that is no object.
    """

    tree: MaskTree
    nodes: Mapping[int, tuple[int, ...]]
    whole_ids: tuple[int, ...]
    derived: bool

    @classmethod
    def of_cache(cls, cache: MaskCache) -> ObjectTree:
        """The tree of a cache. Where it has none, leaves are the combinations of whole, part and
        sub-part that pixels have, and nodes are the objects. A part in several wholes is several
        nodes. Scores are then the mean quality of the objects' masks, 1 where that is not known,
        and 0 of what a whole has beside its parts."""
        if cache.tree is None:
            tree, nodes = _derived(cache)
            return cls(tree, nodes, cache.object_ids, derived=True)
        nodes = {each.object_id: each.nodes for each in cache.objects}
        return cls(cache.tree, nodes, cache.object_ids, derived=False)

    def runs(self, object_id: int) -> NDArray[np.int32]:
        """(R, 2) runs of leaves of an object.

        Raises:
            KeyError: there is no such object.
        """
        return self.tree.runs(self.nodes[object_id])

    @cached_property
    def id_of_nodes(self) -> Mapping[tuple[int, ...], int]:
        """Id by nodes; of the coarsest object, where a whole is the same as its part."""
        ids = {nodes: i for i, nodes in self.nodes.items() if nodes}
        ids |= {self.nodes[i]: i for i in self.whole_ids if self.nodes.get(i)}
        return ids

    @cached_property
    def several(self) -> tuple[int, ...]:
        """Ids of the objects that are several nodes."""
        return tuple(i for i, nodes in self.nodes.items() if len(nodes) > 1)


def _derived(cache: MaskCache) -> tuple[MaskTree, dict[int, tuple[int, ...]]]:
    """The tree of the label maps, and the nodes of the objects."""
    ids = [np.array(cache.object_ids, np.int32)]
    for maps in cache.finer:
        found = np.unique(np.concatenate([np.unique(labels) for labels in maps]))
        ids.append(found[found > 0].astype(np.int32))
    above = _parents(cache, ids)
    codes = [_codes(ids, above, [m[v] for m in cache.maps]) for v in range(len(cache.labels))]
    if len(ids) == 1:
        known = np.arange(1, len(ids[0]) + 1)
        leaves = tuple((code - 1).astype(np.int32) for code in codes)
    else:
        known = np.unique(np.concatenate([np.unique(code) for code in codes]))
        known = known[known > 0]
        leaves = tuple(_numbered(known, code) for code in codes)
    return _tree_of_codes(leaves, known, ids, _qualities(cache))


def _parents(cache: MaskCache, ids: list[NDArray[np.int32]]) -> list[NDArray[np.int64]]:
    """Per level below the whole, the place + 1 of each object's parent among the ids of the level
    above, 0 = none; the first entry is that of no object."""
    parents = {each.object_id: each.parent for each in cache.objects}
    places = []
    for upper, lower in itertools.pairwise(ids):
        above = np.array([0, *(parents.get(int(i), 0) for i in lower)])
        places.append(np.where(np.isin(above, upper), np.searchsorted(upper, above) + 1, 0))
    return places


def _codes(
    ids: list[NDArray[np.int32]],
    above: list[NDArray[np.int64]],
    labels: list[NDArray[np.int32]],
) -> NDArray[np.int64]:
    """(H, W) one number for the labels of all levels, in lexicographic order; 0 = none. Where a
    view has a mask of a part alone, it is of what that is known to be a part of."""
    places = [
        np.where(of_level > 0, np.searchsorted(known, of_level) + 1, 0)
        for known, of_level in zip(ids, labels, strict=True)
    ]
    for k in reversed(range(1, len(places))):
        places[k - 1] = np.where(places[k - 1] > 0, places[k - 1], above[k - 1][places[k]])
    code = np.zeros(labels[0].shape, np.int64)
    for known, place in zip(ids, places, strict=True):
        code = code * (len(known) + 1) + place
    return code


def _numbered(known: NDArray[np.int64], code: NDArray[np.int64]) -> NDArray[np.int32]:
    """The position of codes among the sorted known ones, -1 for 0."""
    return np.where(code > 0, np.searchsorted(known, code), -1).astype(np.int32)


def _qualities(cache: MaskCache) -> dict[int, float]:
    """Mean quality of each object's masks, by area."""
    qualities = {}
    for each in cache.objects:
        area = max(1, sum(mask.area for mask in each.masks))
        qualities[each.object_id] = sum(m.score * m.area for m in each.masks) / area
    return qualities


def _tree_of_codes(
    leaves: tuple[NDArray[np.int32], ...],
    codes: NDArray[np.int64],
    ids: list[NDArray[np.int32]],
    qualities: Mapping[int, float],
) -> tuple[MaskTree, dict[int, tuple[int, ...]]]:
    """The tree whose leaves have the given codes, and the nodes of the objects."""
    digits, rest = [], codes
    for known in reversed(ids):
        rest, digit = np.divmod(rest, len(known) + 1)
        digits.append(digit)
    labels = [np.append(0, known)[digit] for known, digit in zip(ids, digits[::-1], strict=True)]
    start = list(range(len(codes)))
    stop = [k + 1 for k in start]
    parent, score = [-1] * len(codes), [0.0] * len(codes)
    nodes: dict[int, list[int]] = {int(i): [] for known in ids for i in known}
    top = list(range(len(codes)))  # the topmost node so far that holds each leaf
    for level in reversed(range(len(ids))):
        prefix = np.stack(labels[: level + 1])
        first = np.flatnonzero(np.append(True, (prefix[:, 1:] != prefix[:, :-1]).any(axis=0)))
        for a, b in zip(first.tolist(), [*first[1:].tolist(), len(codes)], strict=True):
            if a == b or not labels[level][a]:
                continue
            node = top[a]
            if stop[node] < b:
                node = len(start)
                for child in sorted(set(top[a:b])):
                    parent[child] = node
                start.append(a)
                stop.append(b)
                parent.append(-1)
                score.append(0.0)
                top[a:b] = [node] * (b - a)
            name = int(labels[level][a])
            nodes[name].append(node)
            score[node] = max(score[node], min(1.0, qualities.get(name, 1.0)))
    first, end, above = (np.array(each, np.int32) for each in (start, stop, parent))
    tree = MaskTree(leaves, first, end, above, np.array(score, np.float32))
    return tree, {name: tuple(sorted(nodes[name])) for name in sorted(nodes)}
