"""Between a view's pixels and the network's: resizing, cropping, and maps brought back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.types import View

LEAST_SIDE = 32
"""Shorter side, before and after resizing, below which an image tells nothing [px]."""

_EDGE = 4.0
"""Neighbours this many times farther apart than those around are on different surfaces."""


@dataclass(frozen=True)
class Fitting:
    """How an image was brought to the network's size: one scale, then the middle cut out.

    The network was trained on images with square pixels whose middle is the camera's axis, so
    neither stretching nor padding would do. The scale is the least with which the image covers the
    grid; of the two grids between which an aspect ratio falls, the nearer one is taken. Less than
    half a patch is cut from either end of one side, and nothing from a 4:3 or a 16:9 image of the
    published size.

    Attributes:
        size: (height, width) of the view's image.
        inner: (height, width) for the network, multiples of the patch.
        scale: network pixels per image pixel.
    """

    size: tuple[int, int]
    inner: tuple[int, int]
    scale: float

    @classmethod
    def of(cls, view: View, long_side: int, patch: int) -> Fitting:
        """The fitting of a view.

        Raises:
            InputError: the image is too small or too narrow.
        """
        height, width = view.size
        across = min(height, width) / max(height, width) * long_side
        if min(height, width) < LEAST_SIDE or across < LEAST_SIDE:
            raise InputError(
                f"camera '{view.name}': its image of {width}x{height} pixels is too small to be "
                f"compared with others: the 'mast3r' back end needs {LEAST_SIDE} pixels on the "
                f"shorter side, also when the longer one is resized to {long_side} "
                "(pointmaps.mast3r.image_size); its best input has 512 pixels or more"
            )
        short_side = round(across / patch) * patch
        inner = (short_side, long_side) if height <= width else (long_side, short_side)
        return cls((height, width), inner, max(inner[0] / height, inner[1] / width))

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, 3) at the network's size (h, w, 3)."""
        height, width = (
            max(round(self.scale * side), inner)
            for side, inner in zip(self.size, self.inner, strict=True)
        )
        way = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        resized: Any = cv2.resize(image, (width, height), interpolation=way)
        top, left = (height - self.inner[0]) // 2, (width - self.inner[1]) // 2
        return resized[top : top + self.inner[0], left : left + self.inner[1]]

    @cached_property
    def _places(self) -> _Places:
        rows_inside, rows = self._along(0)
        cols_inside, cols = self._along(1)
        row, col = np.rint(rows).astype(np.int32), np.rint(cols).astype(np.int32)
        above = np.minimum(rows.astype(np.int32), self.inner[0] - 2)
        left = np.minimum(cols.astype(np.int32), self.inner[1] - 2)
        cols, rows = np.meshgrid(cols, rows)
        return _Places(
            rows=rows,
            cols=cols,
            nearest=row[:, None] * self.inner[1] + col,
            cell=above[:, None] * (self.inner[1] - 1) + left,
            cut=~(rows_inside[:, None] & cols_inside),
        )

    def _along(self, axis: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which of the view's rows or columns the network sees, and where."""
        side, inner = self.size[axis], self.inner[axis]
        whole = max(round(self.scale * side), inner)
        # Centres of pixels fall on each other when the whole sides do.
        place = (np.arange(side) + 0.5) * (whole / side) - 0.5 - (whole - inner) // 2
        inside = (place > -0.5) & (place < inner - 0.5)
        # Half a pixel beyond the outermost centres there is nothing to interpolate with.
        return inside, place.clip(0, inner - 1).astype(np.float32)

    def restore(
        self, points: NDArray[np.float32], confidence: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Maps of the network (h, w, 3) and (h, w) for every pixel of the view's image.

        Between points of one surface it is interpolated; across the edge of a surface the nearest
        point is taken, because a point in between would fly free. Pixels that were cut away get
        confidence 0.
        """
        if self.size == self.inner:
            return points, confidence
        places = self._places
        smooth: Any = cv2.remap(points, places.cols, places.rows, cv2.INTER_LINEAR)
        sure: Any = cv2.remap(confidence, places.cols, places.rows, cv2.INTER_LINEAR)
        edge = np.flatnonzero(_edge_cells(points).ravel()[places.cell])
        near = places.nearest.ravel()[edge]
        smooth.reshape(-1, 3)[edge] = points.reshape(-1, 3)[near]
        sure.reshape(-1)[edge] = confidence.reshape(-1)[near]
        sure[places.cut] = 0.0
        return smooth, sure

    def restore_flags(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(h, w) flags for every pixel (H, W) of the view's image; False where cut away."""
        if self.size == self.inner:
            return flags
        return flags.ravel()[self._places.nearest] & ~self._places.cut


@dataclass(frozen=True, eq=False)
class _Places:
    """Where each pixel (H, W) of a view's image lies in the network's.

    Attributes:
        rows, cols: float32 coordinates, clipped to the outermost centres.
        nearest: flat index of the nearest pixel.
        cell: flat index of the cell of four centres, (h - 1) by (w - 1), around the place.
        cut: what the network does not see.
    """

    rows: NDArray[np.float32]
    cols: NDArray[np.float32]
    nearest: NDArray[np.int32]
    cell: NDArray[np.int32]
    cut: NDArray[np.bool_]


def _edge_cells(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(h - 1, w - 1) whether the four points around the middle of a cell lie on two surfaces."""
    jumps = []
    for axis in (0, 1):
        step = np.diff(points, axis=axis)
        length = np.sqrt(np.einsum("ijk,ijk->ij", step, step))
        usual = cv2.medianBlur(length, 5)
        # Where a length is no number, there is an edge as well.
        jumps.append(~(length <= _EDGE * usual))
    down, along = jumps
    return down[:, :-1] | down[:, 1:] | along[:-1] | along[1:]
