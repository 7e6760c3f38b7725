"""The masks of all views as the nodes of one graph."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

INSIDE = 0.85
"""Share of a mask that must lie in another one of which it is a part."""


@dataclass(frozen=True, eq=False)
class MaskNodes:
    """All masks, view after view.

    A view's masks may be nested. They come in mask layers: masks of one layer share no pixel, and
    a mask inside another one lies in a later layer of its view.

    Attributes:
        view: (M,) int64, the view of each mask.
        label: (M,) int64, its label in that view.
        area: (M,) int64 pixels.
        layer: (M,) int64, the mask layer of each mask, counted over all views.
        maps: per layer (H, W) int32, node that the pixel belongs to, -1 = none.
        layer_view: (L,) int64 view of each layer. Every view has one or more, side by side.
    """

    view: NDArray[np.int64]
    label: NDArray[np.int64]
    area: NDArray[np.int64]
    layer: NDArray[np.int64]
    maps: tuple[NDArray[np.int32], ...]
    layer_view: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.view)

    @property
    def views(self) -> int:
        """Number of views."""
        return int(self.layer_view[-1]) + 1

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(N + 1,); nodes of view ``v`` are ``offsets[v]:offsets[v + 1]``."""
        return np.searchsorted(self.view, np.arange(self.views + 1)).astype(np.int64)

    def of_view(self, view: int) -> slice:
        """The nodes of a view."""
        return slice(int(self.offsets[view]), int(self.offsets[view + 1]))

    def of_layer(self, layer: int) -> slice:
        """The nodes of a layer."""
        first, end = np.searchsorted(self.layer, [layer, layer + 1])
        return slice(int(first), int(end))

    def layers(self, view: int) -> range:
        """The mask layers of a view, outermost masks first."""
        first, end = np.searchsorted(self.layer_view, [view, view + 1])
        return range(int(first), int(end))

    def nested(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Masks that lie in another one of their view, and that one, two by two."""
        found = [np.zeros((2, 0), np.int64)]
        for view in range(self.views):
            for above, below in itertools.combinations(self.layers(view), 2):
                part, whole = self.maps[below], self.maps[above]
                common = (part >= 0) & (whole >= 0)
                mine, theirs = self.of_layer(below), self.of_layer(above)
                width, height = theirs.stop - theirs.start, mine.stop - mine.start
                key = (part[common] - mine.start).astype(np.int64) * width
                key += whole[common] - theirs.start
                count = np.bincount(key, minlength=width * height).reshape(height, width)
                row, column = np.nonzero(count >= INSIDE * self.area[mine][:, None])
                found.append(np.stack([row + mine.start, column + theirs.start]))
        inner, outer = np.concatenate(found, axis=1)
        return inner, outer

    @property
    def first_layers(self) -> NDArray[np.int64]:
        """(N,) the layer of each view's outermost masks."""
        return np.searchsorted(self.layer_view, np.arange(self.views)).astype(np.int64)

    @classmethod
    def from_labels(cls, labels: Sequence[NDArray[np.integer]]) -> MaskNodes:
        """Collects the masks of per-view (H, W) label maps, or (L, H, W) of nested masks.

        0 is no mask.

        Raises:
            ValueError: a label occurs in two layers of a view.
        """
        label, area, maps, layer_view, end = [], [], [], [], 0
        for v, given in enumerate(labels):
            found = []
            for k, image in enumerate(given if given.ndim == 3 else given[None]):
                if k and not image.any():
                    continue
                names, nodes, counts = dense_labels(image)
                maps.append(np.where(nodes >= 0, nodes + end, -1).astype(np.int32))
                layer_view.append(v)
                found.append(names)
                area.append(counts)
                end += len(names)
            label += found
            if len(np.unique(np.concatenate(found))) < sum(map(len, found)):
                raise ValueError(
                    f"view {v} has a label in two layers; labels are of one mask each"
                )
        view_of = np.array(layer_view, np.int64)
        layer = np.repeat(np.arange(len(maps)), [len(counts) for counts in area])
        label, area = np.concatenate(label), np.concatenate(area)
        return cls(view_of[layer], label, area, layer, tuple(maps), view_of)

    def chosen(
        self, which: NDArray[np.bool_], maps: Sequence[NDArray[np.int32]], area: NDArray[np.int64]
    ) -> MaskNodes:
        """Some of the masks, as nodes of their own with one layer a view.

        Args:
            which: (M,) the masks.
            maps: per view (H, W) node that the pixel belongs to, -1 = none; only of these masks.
            area: (M,) pixels in these maps.
        """
        table = np.append(np.cumsum(which) - 1, -1).astype(np.int32)
        view, painted = self.view[which], tuple(table[image] for image in maps)
        return MaskNodes(
            view, self.label[which], area[which], view, painted, np.arange(self.views)
        )


def dense_labels(
    image: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Sorted labels > 0, (H, W) position of each pixel's label among them or -1, pixel counts."""
    top = int(image.max(initial=0))
    if top < 4 * image.size + 1024:
        count = np.bincount(np.maximum(image, 0).ravel(), minlength=top + 1)
        count[0] = 0
        names = np.flatnonzero(count)
        table = np.full(top + 1, -1, np.int32)
        table[names] = np.arange(len(names))
        return names, table[np.maximum(image, 0)], count[names]
    names, inverse, count = np.unique(image, return_inverse=True, return_counts=True)
    first = int(np.searchsorted(names, 1))
    inverse = inverse.reshape(image.shape)
    nodes = np.where(inverse >= first, inverse - first, -1).astype(np.int32)
    return names[first:].astype(np.int64), nodes, count[first:]
