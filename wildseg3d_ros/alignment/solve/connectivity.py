"""What fixes the pose of each view, and whether anything checks it.

An error of a pair shows only where other pairs, or given poses, lead around it. These are warnings
for people: a pair that nothing contradicts is used, right or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order

from wildseg3d_ros.core.types import Verdict

_THROUGHOUT = 0.1
"""Typical contradiction of pairs, in shares of the scene's size, beyond which they are no pairs of
one scene: a network's come to 0.02, before textureless walls 0.06, and arbitrary ones to 0.2."""

_Link = tuple[int, int]
"""Two views, the lower index first, whatever the direction of the pairs between them."""


class Ambiguities(NamedTuple):
    """What the pairs in use leave open.

    Attributes:
        warnings: for people.
        tie: the first of them that says that pairs contradict each other and nothing can tell
            which is wrong; else empty.
        doubts: ``suspect`` or ``unchecked`` and why, of the views that they are about.
    """

    warnings: list[str]
    tie: str
    doubts: Mapping[int, tuple[Verdict, str]]


def contradiction(error: NDArray[np.float64], kept: NDArray[np.bool_]) -> str:
    """A sentence when the used pairs contradict each other everywhere; else empty.

    Args:
        error: (E,) of each pair in shares of the scene's size, NaN where unknown; kept: (E,) bool.
    """
    known = error[kept & np.isfinite(error)]
    typical = float(np.median(known)) if len(known) else 0.0
    if typical <= _THROUGHOUT:
        return ""
    return (
        f"the pairs contradict each other throughout, by {typical:.0%} of the scene's size in the "
        f"median: beyond {_THROUGHOUT:.0%} they show no common scene, or are too few to tell "
        "which of them is wrong; do not rely on anything here"
    )


def ambiguities(
    edges: NDArray[np.int64],
    kept: NDArray[np.bool_],
    ambiguous: NDArray[np.bool_],
    names: Sequence[str],
    known: Sequence[_Link] = (),
    posed: Sequence[int] = (),
    contradicted: Sequence[int] = (),
) -> Ambiguities:
    """Views that most of their pairs contradict, pairs that contradict each other without a third
    opinion, and views and pairs that nothing checks.

    Args:
        edges: (E, 2) views of all pairs that have points; kept: (E,) bool, those in use, which
            connect all views; ambiguous: (E,) bool, kept ones that have a warning already.
        names: of the N views.
        known: views whose relative pose is given; posed: views whose pose is given and agrees.
        contradicted: views that others contradict in all pairs that tell something.
    """
    count = len(names)
    # All given poses meet in one node more: the frame that they are given in.
    given = {_link(a, b) for a, b in known} | {(v, count) for v in posed}
    links = [_link(a, b) for a, b in edges]
    used = {links[e] for e in np.flatnonzero(kept).tolist()}
    tree = _Tree(count + 1, sorted(used | given))
    warnings, lost = _rejected_views(edges, kept, names)
    ties, told = _ties(edges, links, kept, tree, names, lost)
    warnings += ties
    told |= {links[e] for e in np.flatnonzero(ambiguous).tolist()}
    bare = [
        link
        for link in sorted(tree.bridges)
        if link in used and link not in told and not lost & set(link)
    ]
    doubts: dict[int, tuple[Verdict, str]] = {}
    for v in _dangling(bare, used, count):
        doubts[v] = "unchecked", "nothing checks the pairs that place it"
    for v in _dangling([link for link in tree.bridges if link in told], used, count):
        doubts[v] = "suspect", "the pairs that place it contradict each other"
    for v in lost:
        doubts[v] = "suspect", "most of its pairs contradict the others"
    for v in set(contradicted) - lost:
        doubts[v] = "suspect", "what it measured contradicts the others wherever it was put"
        warnings.append(
            f"what '{names[v]}' measured contradicts the others wherever it was put; do not rely "
            "on where it is"
        )
    warnings += _unchecked(bare, used, names)
    return Ambiguities(warnings, ties[0] if ties else "", doubts)


def _link(a: int, b: int) -> _Link:
    return (int(a), int(b)) if a < b else (int(b), int(a))


class _Tree:
    """A spanning tree of the nodes that links connect to node 0, and which links no others lead
    around."""

    def __init__(self, count: int, links: Sequence[_Link]) -> None:
        a, b = np.array(links, dtype=np.int64).reshape(-1, 2).T
        graph = coo_array((np.ones(len(a)), (a, b)), shape=(count, count)).tocsr()
        order, parent = breadth_first_order(graph, 0, directed=False)
        self._parent, self._depth = parent.tolist(), [0] * count
        for node in order[1:].tolist():
            self._depth[node] = self._depth[self._parent[node]] + 1
        tree = {_link(v, parent) for v, parent in enumerate(self._parent) if parent >= 0}
        around = {step for a, b in links if (a, b) not in tree for step in self.path(a, b)}
        self.bridges = tree - around

    def path(self, a: int, b: int) -> list[_Link]:
        """The tree's links from one of its nodes to another."""
        out = []
        while a != b:
            if self._depth[a] < self._depth[b]:
                a, b = b, a
            out.append(_link(a, self._parent[a]))
            a = self._parent[a]
        return out


def _rejected_views(
    edges: NDArray[np.int64], kept: NDArray[np.bool_], names: Sequence[str]
) -> tuple[list[str], set[int]]:
    """Warnings of views most of whose pairs were left out, and these views."""
    warnings, lost = [], set()
    for v, name in enumerate(names):
        mine = (edges == v).any(1)
        left, of = int(np.count_nonzero(mine & ~kept)), int(np.count_nonzero(mine))
        if 2 * left > of:
            lost.add(v)
            warnings.append(
                f"{left} of the {of} pairs of '{name}' contradict the others; do not rely on "
                "where it is"
            )
    return warnings, lost


def _ties(
    edges: NDArray[np.int64],
    links: Sequence[_Link],
    kept: NDArray[np.bool_],
    tree: _Tree,
    names: Sequence[str],
    lost: set[int],
) -> tuple[list[str], set[_Link]]:
    """Warnings of pairs that were left out although nothing else checks those in use, and the
    links of the latter."""
    against: dict[tuple[_Link, ...], list[int]] = {}
    for e in np.flatnonzero(~kept):
        bare = tuple(sorted(tree.bridges.intersection(tree.path(*map(int, edges[e])))))
        if bare and not lost & {v for link in bare for v in link}:
            against.setdefault(bare, []).append(int(e))
    warnings: list[str] = []
    told: set[_Link] = set()
    for bare, left in against.items():
        used = [e for e in np.flatnonzero(kept).tolist() if links[e] in bare]
        if len(bare) == 1 and len(used) > len(left):
            continue
        told.update(bare)
        each_other = "each other" if len(left) + len(used) == 2 else "one another"
        without, those = _listed(edges[left], names), _listed(edges[used], names)
        warnings.append(
            f"the pairs {without} (left out) and {those} (used) contradict {each_other} and "
            "nothing else can tell which is wrong; do not rely on where their views lie"
        )
    return warnings, told


def _dangling(bare: Sequence[_Link], used: set[_Link], count: int) -> set[int]:
    """Views that one of these links holds alone; both of its views where neither has another."""
    degree = np.bincount(np.array(sorted(used)).ravel(), minlength=count)
    return {v for link in bare for v in link if degree[v] == 1}


def _unchecked(bare: Sequence[_Link], used: set[_Link], names: Sequence[str]) -> list[str]:
    """Warnings of pairs in use that nothing leads around."""
    if len(names) == 2 and bare:
        return [
            f"nothing but their own pairs says how '{names[0]}' and '{names[1]}' lie to each other"
        ]
    degree = np.bincount(np.array(sorted(used)).ravel(), minlength=len(names))
    ends = [(a, b) for link in bare for a, b in (link, link[::-1]) if degree[a] == 1]
    inner = [link for link in bare if (degree[list(link)] > 1).all()]
    warnings = []
    if ends:
        named = ", ".join(f"'{names[v]}' (by '{names[w]}')" for v, w in ends)
        warnings.append(
            f"constrained by a single other view, so that nothing checks where it is: {named}"
        )
    if inner:
        warnings.append(
            f"nothing checks how the views of {_listed(inner, names)} lie to each other: no other "
            "pairs lead around"
        )
    return warnings


def _listed(edges: Sequence[_Link] | NDArray[np.int64], names: Sequence[str]) -> str:
    # No sentence names more than six.
    shown = [f"('{names[a]}', '{names[b]}')" for a, b in edges[:6]]
    more = f" and {len(edges) - 6} more" if len(edges) > 6 else ""
    return ", ".join(shown) + more
