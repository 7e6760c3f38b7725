"""Between a view's pixels and the network's: resizing, cropping, and maps brought back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.arrays import Array, as_array
from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.types import View

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Fitting:
    """How an image was brought to the network's size: one scale, then the middle cut out.

    The network was trained on images with square pixels whose middle is the camera's axis, so
    neither stretching nor padding would do. The scale is the smallest with which the image covers
    the grid, and the grid the nearest one to the aspect ratio. Less than half a patch is cut from
    either end of one side, and nothing from a 4:3 or a 16:9 image of the published size. From
    what is nearer to a square 4:3 is cut, as in the original: its training had 512x384 to 512x160.

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
        if min(height, width, across) < (smallest := 32):
            raise InputError(
                f"camera '{view.name}': its image of {width}x{height} pixels is too small to be "
                f"compared with others: the 'mast3r' back end needs {smallest} pixels on the "
                f"shorter side, also when the longer one is resized to {long_side} "
                "(pointmaps.mast3r.image_size); its best input has 512 pixels or more"
            )
        short_side = round(min(across, 0.75 * long_side) / patch) * patch
        inner = (short_side, long_side) if height <= width else (long_side, short_side)
        return cls((height, width), inner, max(inner[0] / height, inner[1] / width))

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, 3) at the network's size (h, w, 3)."""
        rows, cols = self.inner
        height = max(round(self.scale * self.size[0]), rows)
        width = max(round(self.scale * self.size[1]), cols)
        way = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        resized: Any = cv2.resize(image, (width, height), interpolation=way)
        top, left = (height - rows) // 2, (width - cols) // 2
        return resized[top : top + rows, left : left + cols]

    @property
    def lost(self) -> float:
        """Share of the image's pixels that the network does not see."""
        rows, cols = self.axes
        return 1.0 - float(np.mean(rows.inside)) * float(np.mean(cols.inside))

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """Where the image's rows and columns lie in the network's."""
        (height, width), (rows, cols) = self.size, self.inner
        return Axis.of(height, rows, self.scale), Axis.of(width, cols, self.scale)

    @cached_property
    def _grid(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(H, W) columns and rows of the network's pixels."""
        rows, cols = self.axes
        u, v = (np.asarray(axis.cell + axis.share, np.float32) for axis in (cols, rows))
        u, v = np.meshgrid(u, v)
        return u, v

    def restore(self, points: Array, confidence: Array) -> tuple[Array, Array]:
        """Maps of the network (h, w, 3) and (h, w) for every pixel of the view's image.

        Between points of one surface it is interpolated; across the edge of a surface the nearest
        point is taken, because a point in between would fly free. Pixels that were cut away get
        confidence 0. NumPy's arrays, or tensors, which stay on their device.
        """
        if self.size == self.inner:
            return points, confidence
        rows, cols = (axis.like(points) for axis in self.axes)
        if not isinstance(points, np.ndarray):
            return _restored_tensors(points, confidence, rows, cols)
        smooth: Any = cv2.remap(points, *self._grid, cv2.INTER_LINEAR)
        restored: Any = cv2.remap(confidence, *self._grid, cv2.INTER_LINEAR)
        edge = np.nonzero(_edge_cells(points)[np.ix_(rows.cell, cols.cell)])
        nearest = rows.nearest[edge[0]], cols.nearest[edge[1]]
        smooth[edge], restored[edge] = points[nearest], confidence[nearest]
        restored[~rows.inside] = 0.0
        restored[:, ~cols.inside] = 0.0
        return smooth, restored

    def restore_flags(self, flags: Array) -> Array:
        """(h, w) flags for every pixel (H, W) of the view's image; False where cut away."""
        if self.size == self.inner:
            return flags
        rows, cols = (axis.like(flags) for axis in self.axes)
        return flags[rows.nearest][:, cols.nearest] & rows.inside[:, None] & cols.inside


@dataclass(frozen=True, eq=False)
class Axis:
    """Where the rows, or the columns, of a view's image lie in the network's.

    Attributes:
        cell: (n,) int32, index of the centre before the place; another one follows it.
        share: (n,) float32, of the way from there to the next centre.
        nearest: (n,) int32, index of the nearest centre.
        inside: (n,) bool, what the network sees.
    """

    cell: Array
    share: Array
    nearest: Array
    inside: Array

    @classmethod
    def of(cls, side: int, inner: int, scale: float) -> Axis:
        """Of an image ``side`` pixels long, of which the network sees ``inner`` after scaling."""
        whole = max(round(scale * side), inner)
        # Centres of pixels fall on each other when the whole sides do.
        place = (np.arange(side) + 0.5) * (whole / side) - 0.5 - (whole - inner) // 2
        inside = (place > -0.5) & (place < inner - 0.5)
        # Half a pixel beyond the outermost centres there is nothing to interpolate with.
        place = place.clip(0, inner - 1).astype(np.float32)
        cell = np.minimum(place.astype(np.int32), inner - 2)
        # OpenCV interpolates at multiples of 1/32 pixel; said here, it holds for any library.
        share = np.rint(32.0 * place) / np.float32(32.0) - cell.astype(np.float32)
        return cls(cell, share, np.rint(place).astype(np.int32), inside)

    def like(self, array: Array) -> Axis:
        """In the library of an array and on its device."""
        return Axis(**{name: as_array(values, array) for name, values in vars(self).items()})


def _restored_tensors(
    points: Tensor, confidence: Tensor, rows: Axis, cols: Axis
) -> tuple[Tensor, Tensor]:
    """:meth:`Fitting.restore` on the tensors' device."""
    import torch

    # Confidence is a fourth channel on the way.
    maps = torch.cat([points, confidence[..., None]], dim=-1)
    smooth = torch.lerp(maps[rows.cell], maps[rows.cell + 1], rows.share[:, None, None])
    smooth = torch.lerp(smooth[:, cols.cell], smooth[:, cols.cell + 1], cols.share[:, None])
    edge = _edge_cells(points)[rows.cell][:, cols.cell]
    smooth = torch.where(edge[..., None], maps[rows.nearest][:, cols.nearest], smooth)
    inside = rows.inside[:, None] & cols.inside
    return smooth[..., :3].contiguous(), smooth[..., 3] * inside


def _edge_cells(points: Array) -> Array:
    """(h - 1, w - 1) whether the four points around the middle of a cell lie on two surfaces."""
    jumps = []
    for axis in (0, 1):
        if isinstance(points, np.ndarray):
            step = np.diff(points, axis=axis)
            length: Any = np.sqrt(np.einsum("ijk,ijk->ij", step, step))
            usual: Any = cv2.medianBlur(length, 5)
        else:
            from torch.nn import functional

            length = points.diff(dim=axis).norm(dim=-1)
            padded = functional.pad(length[None, None], (2, 2, 2, 2), mode="replicate")[0, 0]
            windows = padded.unfold(0, 5, 1).unfold(1, 5, 1).flatten(2)
            usual = windows.median(dim=2).values
        # Neighbours four times as far apart as those around are on different surfaces. Where a
        # length is no number, there is an edge as well.
        jumps.append(~(length <= 4.0 * usual))
    down, along = jumps
    return down[:, :-1] | down[:, 1:] | along[:-1] | along[1:]
