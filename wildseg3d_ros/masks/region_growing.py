"""Masks for prompts without a network: regions that grow over the pointmap from the clicks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from wildseg3d_ros.errors import ErrorCode, PromptError
from wildseg3d_ros.masks.prompted import Hints
from wildseg3d_ros.types import WorldPointmaps

LONG_EDGE = 240
"""Longer edge at which regions grow [px]."""
COLOR = 40.0
"""Step of colour that counts as an edge [CIE Lab]."""
SHADE = 0.3
"""Weight of lightness beside hue: the faces of one body are lit differently."""
GROWN = 1.15
"""Growth from which a region is another one."""
JUMP = 20.0
"""Step in space that counts as an edge, in distances of neighbouring points."""
BEND = 0.2
"""Concave bend between neighbours that counts as an edge [rad]: things stand on others there."""
HEIGHTS = 64
"""Heights of flooding that are tried."""
SMALLEST, LARGEST = 0.0015, 0.25
"""Smallest and largest region, as shares of the view."""
BOXED = 0.5
"""Share of a box that the extent of what is meant by it fills."""
IN_BOX = 0.8
"""Share of a region that must be in the box: what goes on beyond it is background."""
STEADY = 0.13
"""Least quality of a region that a box means: noise bounds patches of a table, too, but not for
long."""
NEAR = 6
"""How far from a click its nearest point may be [px]."""


class RegionGrowing:
    """Regions that are bounded by steps in space, concave bends and colour.

    Args:
        images: per view (H, W, 3) uint8 RGB.
        world: points of their pixels.
        world_from_cam: (N, 4, 4) poses.
    """

    note = "found by growing a region over the pointmap, without SAM 2: approximate"

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        world: WorldPointmaps,
        world_from_cam: NDArray[np.float64],
    ) -> None:
        self._images, self._world = images, world
        self._centres = world_from_cam[:, :3, 3]

    def propose(self, view: int, hints: Hints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Regions about the positive points that exclude the negative ones, small to large.

        A region that edges bound on all sides keeps its size while the flood rises. Its quality is
        1 - (height at which it is full) / (height at which it spills over). In a view that was not
        prompted, what the other views' points show is proposed as it is, too.

        Raises:
            PromptError: no point was measured at a positive point, or no region fits.
        """
        image = self._images[view]
        height, width = image.shape[:2]
        stride = max(1, -(-max(height, width) // LONG_EDGE))
        grid = np.s_[stride // 2 :: stride, stride // 2 :: stride]
        valid = self._world.valid(view)[grid]
        points = self._world.points[view][grid]
        smooth = cv2.GaussianBlur(image, (0, 0), 0.5 * stride + 0.5)
        lab = cv2.cvtColor(
            np.asarray(smooth, np.float32)[grid] / np.float32(255), cv2.COLOR_RGB2LAB
        )
        tree = _spanning_tree(points, valid, np.asarray(lab, np.float32), self._centres[view])
        seeds, off = _seeds(hints, valid, stride)
        if hints.area is not None:
            sure = cv2.erode(hints.area.astype(np.uint8), np.ones((5, 5), np.uint8))[grid] > 0
            seeds = np.append(seeds, np.flatnonzero(sure & valid))
        regions, heights = _flood(tree, seeds, off, valid.shape)
        share = np.array([region.mean() for region in regions])
        spills = np.searchsorted(share, GROWN * share, side="right")
        quality = 1.0 - heights / np.append(heights, heights[-1:])[spills]
        soft, sure = [], []
        fits = (share >= SMALLEST) & (share <= LARGEST)
        if hints.box is not None:
            box = _cells(hints.box, stride, valid.shape)
            fits &= np.array([_fills(region, box) for region in regions], np.bool_)
            fits &= quality >= STEADY
            regions = [region & box for region in regions]
        for region, right_size, steady in zip(regions, fits, quality, strict=True):
            if not right_size:
                continue
            full = cv2.resize(region.astype(np.float32), (width, height))
            soft.append(_holding(np.asarray(full, np.float32), hints))
            sure.append(steady)
        if hints.area is not None:
            soft.append(hints.area.astype(np.float32))
            sure.append(0.0)
        if not soft and hints.box is not None:
            raise PromptError(
                "nothing in the box stands out from what is about it: no region of the pointmap "
                f"fills {BOXED:.0%} of the box and ends there, so there seems to be background; "
                "draw the box close about a thing, or use SAM 2 masks",
                ErrorCode.NO_OBJECT_AT_PIXEL,
            )
        if not soft:
            raise PromptError(
                "no region of the pointmap holds the positive points without a negative one and "
                f"covers {SMALLEST:.2%} to {LARGEST:.0%} of the view; give points nearer the "
                "middle of the object, or use SAM 2 masks",
                ErrorCode.NO_OBJECT_AT_PIXEL,
            )
        return np.stack(soft), np.array(sure, np.float32)


def _cells(
    box: tuple[float, float, float, float], stride: int, size: tuple[int, ...]
) -> NDArray[np.bool_]:
    """(h, w) cells of the grid that a box holds."""
    u0, v0, u1, v1 = (round(x / stride) for x in box)
    held = np.zeros(size, np.bool_)
    held[max(v0, 0) : v1 + 1, max(u0, 0) : u1 + 1] = True
    return held


def _fills(region: NDArray[np.bool_], box: NDArray[np.bool_]) -> bool:
    """Whether a region ends in the box, and its extent there fills enough of it."""
    inside = region & box
    if not inside.any() or inside.sum() < IN_BOX * region.sum():
        return False
    rows, columns = np.nonzero(inside)
    extent = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    return bool(extent >= BOXED * box.sum())


def _holding(soft: NDArray[np.float32], hints: Hints) -> NDArray[np.float32]:
    """Resampling may lose a thin region's own click."""
    column, row = np.rint(hints.points[hints.on]).astype(int).T
    soft[row, column] = np.maximum(soft[row, column], 0.75)
    return soft


def _seeds(
    hints: Hints, valid: NDArray[np.bool_], stride: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat grid positions of the positive and the negative points."""
    points, on = hints.points, hints.on
    if not on.any() and hints.box is not None:
        u0, v0, u1, v1 = hints.box
        points = np.concatenate([points, [[(u0 + u1) / 2, (v0 + v1) / 2]]])
        on = np.append(on, True)
    rows, columns = np.nonzero(valid)
    found = []
    for u, v in points:
        distance = np.hypot(rows * stride + stride // 2 - v, columns * stride + stride // 2 - u)
        if not len(rows) or distance.min() > NEAR + stride:
            raise PromptError(
                f"pixel ({u:g}, {v:g}): no depth was measured within {NEAR} px, so no region can "
                "grow there; click on a place with depth",
                ErrorCode.NO_DEPTH_AT_PIXEL,
            )
        nearest = distance.argmin()
        found.append(rows[nearest] * valid.shape[1] + columns[nearest])
    flat = np.array(found, np.intp)
    return flat[on], flat[~on]


def _spanning_tree(
    points: NDArray[np.float32],
    valid: NDArray[np.bool_],
    lab: NDArray[np.float32],
    centre: NDArray[np.float64],
) -> sparse.coo_array:
    """Minimum spanning tree of the pixels by the largest step on the way between them."""
    index = np.arange(valid.size).reshape(valid.shape)
    normals = _normals(points, valid, centre)
    spacing = _spacing(points, valid)
    one, other, cost = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = np.s_[: valid.shape[0] - down, max(-right, 0) : valid.shape[1] - max(right, 0)]
        b = np.s_[down:, max(right, 0) : valid.shape[1] + min(right, 0)]
        both = valid[a] & valid[b]
        step = (points[b] - points[a])[both]
        length = np.linalg.norm(step, axis=1)
        # Neighbours on a slanted surface are farther apart, along the line of sight.
        jump = length / np.maximum(spacing[a][both], 1e-9) / JUMP
        turn = ((normals[b][both] - normals[a][both]) * step).sum(axis=1)
        bend = np.maximum(-turn / np.maximum(length, 1e-9), 0.0) / BEND
        color = np.linalg.norm((lab[b] - lab[a])[both] * [SHADE, 1.0, 1.0], axis=1) / COLOR
        one.append(index[a][both])
        other.append(index[b][both])
        cost.append(np.sqrt(jump**2 + bend**2 + color**2) + 1e-6)
    rows, columns, values = np.concatenate(one), np.concatenate(other), np.concatenate(cost)
    graph = sparse.coo_array((values, (rows, columns)), shape=(valid.size, valid.size))
    return minimum_spanning_tree(graph.tocsr()).tocoo()


def _spacing(points: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(h, w) distance of neighbouring points where the surface is smooth."""
    step = np.full(valid.shape, np.nan, np.float32)
    length = np.linalg.norm(points[:, 1:] - points[:, :-1], axis=2)
    step[:, :-1] = np.where(valid[:, 1:] & valid[:, :-1], length, np.nan)
    typical = np.nanmedian(step) if np.isfinite(step).any() else 1.0
    return np.where(np.isfinite(step), np.clip(step, 0.5 * typical, typical), typical)


def _normals(
    points: NDArray[np.float32], valid: NDArray[np.bool_], centre: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(h, w, 3) unit normals towards the camera from points smoothed over 5 x 5 pixels."""
    weight = valid.astype(np.float32)
    total = np.maximum(cv2.blur(weight, (5, 5)), 1e-6)[..., None]
    filled = np.where(valid[..., None], points, 0).astype(np.float32)
    mean = cv2.blur(filled, (5, 5)) / total
    along, across = np.gradient(mean, axis=1), np.gradient(mean, axis=0)
    normals = np.cross(along, across)
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
    away = ((mean - centre.astype(np.float32)) * normals).sum(axis=2, keepdims=True) > 0
    return np.where(away, -normals, normals).astype(np.float32)


def _flood(
    tree: sparse.coo_array,
    seeds: NDArray[np.intp],
    off: NDArray[np.intp],
    size: tuple[int, int],
) -> tuple[list[NDArray[np.bool_]], NDArray[np.float64]]:
    """Regions about the seeds at rising heights, while they hold none of the points off."""
    regions: list[NDArray[np.bool_]] = []
    if not tree.nnz:
        return regions, np.zeros(0)
    heights = np.geomspace(np.median(tree.data), tree.data.max(), HEIGHTS)
    for height in heights:
        kept = tree.data <= height
        part = connected_components(
            sparse.coo_array((tree.data[kept], (tree.row[kept], tree.col[kept])), tree.shape),
            directed=False,
        )[1]
        region = np.isin(part, part[seeds]).reshape(size)
        if region.ravel()[off].any():
            break
        closed = cv2.morphologyEx(
            region.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)
        )
        closed = np.asarray(closed, np.bool_)
        closed.ravel()[off] = False
        regions.append(closed)
    return regions, heights[: len(regions)]
