"""Affinities of pixels, summed over the views to affinities of patches of the surface."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.masks.learned.inputs import OFFSETS, REACH
from wildseg3d_ros.masks.learned.network import LIMIT, PixelAffinities

REACHES = max(REACH) + 1


@dataclass(frozen=True, eq=False)
class Affinities:
    """What the network says of patches.

    Attributes:
        pairs: (n, 2) int64, a < b, each pair once; the two need not touch.
        log_odds: (n, REACHES) for one thing > 0, summed over pixels and views, by their distance.
        pixels: (n, REACHES) number of pairs of pixels.
        on_object: (P,) mean log-odds of being on an object, 0 where no view says.
    """

    pairs: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    pixels: NDArray[np.float64]
    on_object: NDArray[np.float64]

    @classmethod
    def of_views(
        cls,
        views: Iterable[tuple[PixelAffinities, NDArray[np.integer]]],
        count: int,
    ) -> Affinities:
        """Sums over all views.

        Args:
            views: each with (h, w) the patch that its pixels show, -1 = none.
            count: P, the number of patches.
        """
        keys, values = [np.zeros(0, np.int64)], [np.zeros((0, 2 * REACHES))]
        object_sum, object_pixels = np.zeros((2, count))
        for pixels, patches in views:
            row, column = (
                np.minimum(np.rint(np.arange(size) * step), last - 1).astype(np.intp)
                for size, step, last in zip(
                    pixels.on_object.shape, pixels.step, patches.shape, strict=True
                )
            )
            seen = patches[row[:, None], column].astype(np.int64)
            there = seen >= 0
            object_sum += np.bincount(seen[there], pixels.on_object[there], count)
            object_pixels += np.bincount(seen[there], minlength=count)
            key, sums = _sums_of_view(pixels.log_odds, seen, count)
            keys.append(key)
            values.append(sums)
        key, sums = _grouped(np.concatenate(keys), np.concatenate(values))
        return cls(
            np.stack(np.divmod(key, count), axis=1),
            sums[:, :REACHES],
            sums[:, REACHES:],
            object_sum / np.maximum(object_pixels, 1.0),
        )

    def apart(self, some: NDArray[np.bool_]) -> Affinities:
        """The same, but that no patch of ``some`` (P,) is of one thing with any other."""
        crossing = some[self.pairs[:, 0]] != some[self.pairs[:, 1]]
        log_odds = np.where(crossing[:, None], -LIMIT * self.pixels, self.log_odds)
        return replace(self, log_odds=log_odds)


def _sums_of_view(
    of_pixels: NDArray[np.float32], seen: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Keys a * P + b of pairs of patches, and (n, 2 * REACHES) sums of log-odds and of pixels."""
    height, width = seen.shape
    keys, log_odds, reaches = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0, np.intp)]
    for k, (dr, dc) in enumerate(OFFSETS):
        if dr >= height or abs(dc) >= width:
            continue
        here = np.s_[: height - dr, max(-dc, 0) : width - max(dc, 0)]
        there = np.s_[dr:, max(dc, 0) : width + min(dc, 0)]
        a, b = seen[here], seen[there]
        known = (a >= 0) & (b >= 0) & (a != b)
        a, b = a[known], b[known]
        keys.append(np.minimum(a, b) * count + np.maximum(a, b))
        log_odds.append(of_pixels[k][here][known])
        reaches.append(np.full(len(a), REACH[k]))
    key, group = np.unique(np.concatenate(keys), return_inverse=True)
    cell = group * REACHES + np.concatenate(reaches)
    size = len(key) * REACHES
    values = np.concatenate(log_odds).astype(np.float64)
    sums = np.bincount(cell, values, size).reshape(-1, REACHES)
    pixels = np.bincount(cell, minlength=size).reshape(-1, REACHES)
    return key, np.concatenate([sums, pixels.astype(np.float64)], axis=1).astype(np.float64)


def _grouped(
    keys: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The keys, each once, and the sums of the values of each."""
    key, group = np.unique(keys, return_inverse=True)
    columns = [np.bincount(group, column, len(key)) for column in values.T]
    return key, np.stack(columns, axis=1).astype(np.float64)
