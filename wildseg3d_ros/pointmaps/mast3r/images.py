"""Between a view's pixels and the network's: resizing, cropping, and maps brought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import InputError
from wildseg3d_ros.types import View

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
        height, width = (max(round(self.scale * side), least) for side, least in self._sides())
        way = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        resized: Any = cv2.resize(image, (width, height), interpolation=way)
        top, left = (height - self.inner[0]) // 2, (width - self.inner[1]) // 2
        return resized[top : top + self.inner[0], left : left + self.inner[1]]

    def _sides(self) -> list[tuple[int, int]]:
        return list(zip(self.size, self.inner, strict=True))

    def _coordinates(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Column and row (H, W) in the network's image of each of the view's pixels."""
        places = []
        for side, inner in self._sides():
            whole = max(round(self.scale * side), inner)
            cut = (whole - inner) // 2
            # Centres of pixels fall on each other when the whole sides do.
            places.append((np.arange(side) + 0.5) * (whole / side) - 0.5 - cut)
        rows, cols = np.meshgrid(*places, indexing="ij")
        return cols.astype(np.float32), rows.astype(np.float32)

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
        cols, rows = self._coordinates()
        height, width = self.inner
        inside = (rows > -0.5) & (rows < height - 0.5) & (cols > -0.5) & (cols < width - 0.5)
        # Half a pixel beyond the outermost centres there is nothing to interpolate with.
        cols, rows = cols.clip(0, width - 1), rows.clip(0, height - 1)
        smooth: Any = cv2.remap(points, cols, rows, cv2.INTER_LINEAR)
        sure: Any = cv2.remap(confidence, cols, rows, cv2.INTER_LINEAR)
        edge = _edge_cells(points)[
            np.minimum(rows.astype(np.intp), height - 2),
            np.minimum(cols.astype(np.intp), width - 2),
        ]
        near = self.nearest(rows, cols)[edge]
        smooth[edge], sure[edge] = points.reshape(-1, 3)[near], confidence.ravel()[near]
        sure[~inside] = 0.0
        return smooth, sure

    def restore_flags(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(h, w) flags for every pixel (H, W) of the view's image; False where cut away."""
        if self.size == self.inner:
            return flags
        cols, rows = self._coordinates()
        height, width = self.inner
        inside = (rows > -0.5) & (rows < height - 0.5) & (cols > -0.5) & (cols < width - 0.5)
        return (
            flags.ravel()[self.nearest(rows.clip(0, height - 1), cols.clip(0, width - 1))] & inside
        )

    def nearest(self, rows: NDArray, cols: NDArray) -> NDArray[np.intp]:
        """Flat index of the network's pixel that is nearest to each coordinate."""
        return np.rint(rows).astype(np.intp) * self.inner[1] + np.rint(cols).astype(np.intp)


def _edge_cells(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(h - 1, w - 1) whether the four points around the middle of a cell lie on two surfaces."""
    jumps = []
    for axis in (0, 1):
        length = np.linalg.norm(np.diff(points, axis=axis), axis=-1).astype(np.float32)
        usual = cv2.medianBlur(np.nan_to_num(length, nan=0.0, posinf=0.0), 5)
        # NaN and infinity are edges as well.
        jumps.append(~(length <= _EDGE * usual))
    down, along = jumps
    return down[:, :-1] | down[:, 1:] | along[:-1] | along[1:]
