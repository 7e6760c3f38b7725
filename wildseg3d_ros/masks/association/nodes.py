"""The masks of all views as the nodes of one graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class MaskNodes:
    """All masks of one level, view after view.

    Attributes:
        view: (M,) int64, the view of each mask.
        label: (M,) int64, its label in that view's map.
        area: (M,) int64 pixels.
        maps: per view (H, W) int32, node that the pixel belongs to, -1 = none.
        offsets: (N + 1,) int64; nodes of view ``v`` are ``offsets[v]:offsets[v + 1]``.
    """

    view: NDArray[np.int64]
    label: NDArray[np.int64]
    area: NDArray[np.int64]
    maps: tuple[NDArray[np.int32], ...]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.view)

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.maps)

    def of_view(self, view: int) -> slice:
        """The nodes of a view."""
        return slice(int(self.offsets[view]), int(self.offsets[view + 1]))

    @classmethod
    def from_labels(cls, labels: Sequence[NDArray[np.integer]]) -> MaskNodes:
        """Collects the masks of per-view (H, W) label maps; 0 is no mask."""
        view, label, area, maps, offsets = [], [], [], [], [0]
        for v, image in enumerate(labels):
            names, nodes, counts = _dense(image)
            maps.append(np.where(nodes >= 0, nodes + offsets[-1], -1).astype(np.int32))
            view.append(np.full(len(names), v, np.int64))
            label.append(names)
            area.append(counts)
            offsets.append(offsets[-1] + len(names))
        return cls(
            np.concatenate([*view, np.zeros(0, np.int64)]),
            np.concatenate([*label, np.zeros(0, np.int64)]),
            np.concatenate([*area, np.zeros(0, np.int64)]),
            tuple(maps),
            np.array(offsets, np.int64),
        )

    def relabel(self, names: NDArray[np.int64]) -> tuple[NDArray[np.int32], ...]:
        """Label maps that show ``names`` (M,) of the nodes, 0 elsewhere."""
        table = np.append(names, 0).astype(np.int32)  # -1 finds the last entry
        return tuple(table[nodes] for nodes in self.maps)


def _dense(
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
