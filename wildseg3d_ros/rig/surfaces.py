"""Evidence of depth: whether each view sees the surfaces that the others measured.

Points of one view are carried into another one by the cameras that are to be judged. A point that
lies on the surface which is measured there agrees; one that lies behind it is hidden, as many are;
one before it contradicts, because the other camera sees through it. Each outcome is weighed by how
often chance would bring it about: a point at that distance thrown onto any pixel of the other
image. Facing a bare wall, all would agree by chance, and their agreement says nothing.

What agrees in depth also has to look alike. All the same a plane agrees with itself wherever along
it the cameras are, and tiles look alike: two cameras that see different parts of one floor, as
they should, would be said to see the same. So the evidence of points that are not on the largest
plane of their view is kept beside that of all.

Everything is relative to the distance, so that neither the unit of depth nor that of the poses
matters, only whether they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig.cameras import Cameras, Evidence

SAMPLES = 288
"""Points of a view that are carried into others."""

SIZE = 160
"""Longer edge [px] of the images that are compared: honest poses are off by some pixels of it."""

TOLERANCE = 0.05
"""Share of the distance within which a point is on a surface. Two cameras that are off by 10 mm
and 1 degree each move a point at 0.7 m by 3.3 % of its distance, and sensors err by less."""

_AGREES, _HIDDEN = 0.55, 0.2
"""Shares of a view's points that agree and that are hidden, by right cameras; the rest is as
chance has it: flying pixels, mirrors, what moved."""

_LEAST = 0.02
"""Least probability of an outcome by chance: of a few pixels no less can be told."""

_INDEPENDENT = 30.0
"""Independent observations in an image: neighbouring points share their surface and their fate."""

_ALIKE = 0.6
"""Correlation of the colours of one point in two views, where the images have contrast."""

_FLAT = 8.0
"""Contrast of an image [grey levels] at which half of that correlation is noise."""

_SAME = 0.95
"""Correlation of small images from which they are called one."""

_PLANAR, _LARGE = 0.025, 0.2
"""Share of the distance within which points are on one plane, and share of a view's points that
have to be on its largest plane for it to count as one."""

_LOG = np.linspace(np.log(1e-6), np.log(1e6), 2048)
"""Logarithms of depth [m] at which its distribution is kept."""


class Surfaces:
    """The measured surfaces of views, thinned once for all cameras that they are judged with.

    A :class:`~wildseg3d_ros.rig.cameras.Source`. Views without depth take no part.
    """

    def __init__(self, views: Sequence[View]) -> None:
        count = len(views)
        self._uv = np.zeros((count, 2, SAMPLES))
        self._depth = np.full((count, SAMPLES), np.nan)
        self._color = np.zeros((count, SAMPLES, 3), dtype=np.float32)
        self._on_plane = np.zeros((count, SAMPLES), dtype=bool)
        self._below = np.ones((count, len(_LOG)))
        self._alike = np.zeros(count)
        self._shape = np.ones((count, 2), dtype=np.int64)
        self._step = np.ones(count)
        self._offset = np.zeros(count, dtype=np.int64)
        self.median_depth = np.full(count, np.nan)
        logs, colors, end = [], [], 0
        for v, view in enumerate(views):
            self._offset[v] = end
            small, color = self._read(v, view)
            with np.errstate(divide="ignore"):
                logs.append(np.log(small).ravel())
            colors.append(color.reshape(-1, 3))
            end += small.size
        self._log, self._colors = np.concatenate(logs), np.concatenate(colors)

    def look_the_same(self) -> bool:
        """Whether all images are one, but for noise."""
        shape = self._shape[0]
        if (self._shape != shape).any():
            return False
        colors = self._colors.reshape(len(self._shape), -1)
        with np.errstate(divide="ignore", invalid="ignore"):  # NaN of an image of one colour
            return bool(np.corrcoef(colors)[0].min() > _SAME)

    def _read(self, v: int, view: View) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The view's small depth image and colours; its samples and figures are kept."""
        self._step[v] = step = max(1.0, max(view.size) / SIZE)
        rows, cols = (
            np.minimum(np.rint(np.arange(max(int(n / step), 1)) * step), n - 1).astype(np.int64)
            for n in view.size
        )
        self._shape[v] = len(rows), len(cols)
        color, self._alike[v] = _looks(view.image, len(rows), len(cols))
        if view.depth is None:
            return np.zeros((len(rows), len(cols)), dtype=np.float32), color
        # Not averaged: the mean of two surfaces is none.
        small = view.depth[np.ix_(rows, cols)]
        r, c = np.nonzero(small)
        if len(r) == 0:
            return small, color
        pick = np.random.default_rng(0).permutation(len(r))[:SAMPLES]
        there = slice(0, len(pick))
        self._uv[v, :, there] = cols[c[pick]], rows[r[pick]]
        self._depth[v, there] = small[r[pick], c[pick]]
        self._color[v, there] = color[r[pick], c[pick]]
        self._on_plane[v, there] = on_largest_plane(self._uv[v, :, there], self._depth[v, there])
        measured = np.sort(np.log(small[r, c].astype(np.float64)))
        self._below[v] = np.searchsorted(measured, _LOG) / len(measured)
        self.median_depth[v] = np.exp(np.median(measured))
        return small, color

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(N,) views that have depth."""
        return np.isfinite(self.median_depth)

    def evidence(self, cameras: Cameras, pairs: NDArray[np.int64], thinned: int = 1) -> Evidence:
        """Evidence of pairs (P, 2), from either view to the other; see
        :class:`~wildseg3d_ros.rig.cameras.Source`."""
        found = self._carry(cameras, np.concatenate([pairs, pairs[:, ::-1]]), thinned)
        there = np.arange(2 * len(pairs)) < len(pairs)
        return found.select(there) + found.select(~there)

    def _carry(self, cameras: Cameras, pairs: NDArray[np.int64], thinned: int) -> Evidence:
        points = self._points(cameras, thinned)
        b_from_a = np.linalg.inv(cameras.world_from_cam)[pairs[:, 1]]
        b_from_a = (b_from_a @ cameras.world_from_cam[pairs[:, 0]]).astype(np.float32)
        moved = b_from_a[:, :3, :3] @ points[pairs[:, 0]] + b_from_a[:, :3, 3, None]
        # Most points are in no other image by wrong cameras: what follows is for those that are.
        pair, sample, index = self._seen(cameras, pairs[:, 1], moved)
        a, b = pairs[pair].T
        # In the units of the other camera's own depth image.
        log = np.log(moved[pair, 2, sample]) - np.log(cameras.depth_scale).astype(np.float32)[b]
        beyond = log - self._log[index]
        agrees, hidden = np.abs(beyond) < TOLERANCE, beyond >= TOLERANCE
        nearer, farther = (self._share_below(b, log + t) for t in (-TOLERANCE, TOLERANCE))
        rest = 1.0 - _AGREES - _HIDDEN
        ratio = np.full(len(pair), np.log(rest))
        ratio[hidden] = np.log(_HIDDEN / np.maximum(nearer[hidden], _LEAST) + rest)
        chance = np.maximum(farther - nearer, _LEAST)[agrees]
        solid = ~self._on_plane[a, sample * thinned]
        ratio[agrees] = np.log(_AGREES / chance + rest)
        ratio[agrees] += self._looks_alike(
            a[agrees], b[agrees], sample[agrees] * thinned, index[agrees]
        )

        def sums(values: NDArray) -> NDArray[np.float64]:
            weights = values * float(thinned)
            return np.asarray(np.bincount(pair, weights, len(pairs)), dtype=np.float64)

        ratio *= _INDEPENDENT / SAMPLES
        off_plane = sums(ratio * solid)
        return Evidence(sums(ratio), off_plane, off_plane, sums(agrees), sums(~hidden))

    def _seen(
        self, cameras: Cameras, b: NDArray[np.int64], moved: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pair, sample and pixel of the points (P, 3, M) that have depth in the views b (P,)."""
        x, y, z = np.moveaxis(moved, 1, 0)
        K, step = cameras.K[b].astype(np.float32), self._step[b, None].astype(np.float32)
        height, width = self._shape[b].T[..., None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            col = ((K[:, 0, 0, None] * x + K[:, 0, 1, None] * y) / z + K[:, 0, 2, None]) / step
            row = (K[:, 1, 1, None] * y / z + K[:, 1, 2, None]) / step
            inside = (z > 0) & (col > -0.5) & (row > -0.5)
            inside &= (col < width - 0.5) & (row < height - 0.5)
        pair, sample = np.nonzero(inside)
        col, row = (np.rint(each[pair, sample]).astype(np.int64) for each in (col, row))
        index = row * width[pair, 0] + col + self._offset[b[pair]]
        there = np.isfinite(self._log[index])
        return pair[there], sample[there], index[there]

    def _points(self, cameras: Cameras, thinned: int) -> NDArray[np.float32]:
        """(N, 3, M) points in their cameras' frames, NaN where there are fewer."""
        K, (u, v) = cameras.K, np.moveaxis(self._uv[:, :, ::thinned], 1, 0)
        z = self._depth[:, ::thinned] * cameras.depth_scale[:, None]
        y = (v - K[:, 1, 2, None]) / K[:, 1, 1, None]
        x = (u - K[:, 0, 2, None] - K[:, 0, 1, None] * y) / K[:, 0, 0, None]
        return np.stack([x * z, y * z, z], axis=1).astype(np.float32)

    def _share_below(self, b: NDArray, log: NDArray) -> NDArray[np.float64]:
        """(M,) share of the depth of views b (M,) that is less than given logarithms (M,)."""
        place = (log - _LOG[0]) * ((len(_LOG) - 1) / (_LOG[-1] - _LOG[0]))
        return self._below[b, np.clip(np.rint(place), 0, len(_LOG) - 1).astype(np.int64)]

    def _looks_alike(
        self, a: NDArray, b: NDArray, sample: NDArray, index: NDArray
    ) -> NDArray[np.float64]:
        """(M,) log ratio of a sample's colours in both views, as correlated Gaussians over
        independent ones; a single one decides little."""
        one, two = self._color[a, sample], self._colors[index]
        rho = np.minimum(self._alike[a], self._alike[b])
        norm = (one * one).sum(axis=1) + (two * two).sum(axis=1)
        off = (rho**2 * norm - 2.0 * rho * (one * two).sum(axis=1)) / (2.0 * (1.0 - rho**2))
        return np.clip(-1.5 * np.log(1.0 - rho**2) - off, -2.0, 2.0)


def on_largest_plane(uv: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(M,) which points are on the plane that holds most of them (RANSAC); none where it is small.

    Along a plane 1 / depth is linear in the pixels uv (2, M), whatever the intrinsics are.
    """
    count = len(depth)
    if count < 12:
        return np.zeros(count, dtype=bool)
    rows = np.concatenate([uv / np.abs(uv).max(), np.ones((1, count))])
    triples = np.random.default_rng(0).integers(0, count, (100, 3))
    triples = triples[np.abs(np.linalg.det(rows[:, triples].transpose(1, 0, 2))) > 1e-3]
    if len(triples) == 0:
        return np.zeros(count, dtype=bool)
    planes = np.linalg.solve(rows[:, triples].transpose(1, 2, 0), 1.0 / depth[triples][..., None])
    near = np.abs((planes[..., 0] @ rows) * depth - 1.0) < _PLANAR
    best = near[near.sum(axis=1).argmax()]
    return best if best.mean() > _LARGE else np.zeros(count, dtype=bool)


def _looks(image: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[np.float32], float]:
    """(h, w, 3) colours without the image's own exposure and tint, of unit variance, blurred by as
    much as honest poses are off; and the correlation to expect of them."""
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), 0.02 * max(width, height))
    flat = small.reshape(-1, 3) - small.reshape(-1, 3).mean(axis=0)
    variance, axes = np.linalg.eigh(flat.T @ flat / len(flat))
    variance = np.maximum(variance, 0.0)
    # Half of the contrast at which colours tell something keeps noise from being blown up to it.
    white = flat @ (axes / np.sqrt(variance + (_FLAT / 2) ** 2)) @ axes.T
    alike = _ALIKE * float(variance[-1] / (variance[-1] + _FLAT**2))
    return np.clip(white, -3.0, 3.0).reshape(height, width, 3).astype(np.float32), alike
