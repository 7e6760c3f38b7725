"""Which patch of the fused surface a pixel shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.cameras import window
from wildseg3d_ros.masks.surface.drawing import voxels_in_view
from wildseg3d_ros.masks.surface.fused import Surface
from wildseg3d_ros.masks.surface.observations import colour_distance

MAX_DISTANCE = 6.0
"""Distance from a pixel without depth to the measured pixel that may stand for it [px]."""


@dataclass(frozen=True, eq=False)
class Seeds:
    """What the pixels of one view show.

    Attributes:
        surface: of the scene.
        view: index of the view.
        voxels: (h, w) voxel that each working pixel shows, -1 = none.
        lab: (h, w, 3) colour about each of them, as the fused surface would have it.
    """

    surface: Surface
    view: int
    voxels: NDArray[np.int32]
    lab: NDArray[np.float32]

    @classmethod
    def of_view(cls, surface: Surface, view: int) -> Seeds:
        """Draws the surface into the view."""
        observation, cloud = surface.observations[view], surface.cloud
        own = cloud.of_pixel[view]
        measured = own >= 0
        lab = np.asarray(cv2.GaussianBlur(observation.lab, (0, 0), 1.0), np.float32)
        if measured.any():
            lab -= np.median(lab[measured] - cloud.lab[own[measured]], axis=0).astype(np.float32)
        return cls(surface, view, voxels_in_view(observation, cloud, own), lab)

    @property
    def patches(self) -> NDArray[np.int32]:
        """(h, w) patch that each working pixel shows, -1 = none."""
        return np.where(self.voxels >= 0, self.surface.patches.of_voxel[self.voxels], -1)

    def patch_at(self, u: float, v: float) -> int:
        """The patch that a pixel (u, v) of the image shows.

        Where the view has no depth, it is what other views saw there, or what the view itself
        measured nearby, if its colour is that of the pixel.

        Raises:
            PromptError: there is no such point (NO_DEPTH_AT_PIXEL).
        """
        row, column = self._cell(u, v)
        voxel = self._voxel_at(row, column)
        if voxel < 0:
            measured = self.surface.observations[self.view].depth[row, column] > 0
            why = (
                "the depth that was measured there is too far away, or other views contradict it"
                if measured
                else "no depth was measured there"
            )
            raise PromptError(
                f"pixel ({u:g}, {v:g}): {why}, and within {MAX_DISTANCE:g} px there is none on "
                f"what has the pixel's colour; {self._nearest(row, column)}",
                ErrorCode.NO_DEPTH_AT_PIXEL,
            )
        return int(self.surface.patches.of_voxel[voxel])

    def shows(self, u: float, v: float) -> bool:
        """Whether there is a patch at a pixel (u, v)."""
        return self._voxel_at(*self._cell(u, v)) >= 0

    def _voxel_at(self, row: int, column: int) -> int:
        own = self.surface.cloud.of_pixel[self.view]
        if own[row, column] >= 0:
            return int(own[row, column])
        drawn, lab = int(self.voxels[row, column]), self.lab[row, column]
        # Cameras differ, and a surface has another shade from elsewhere.
        if drawn >= 0 and colour_distance(self.surface.cloud.lab[drawn] - lab) < 15.0:
            return drawn
        stride = self.surface.observations[self.view].stride
        about = window(row, column, int(np.ceil(MAX_DISTANCE / stride)))
        rows, columns = (np.nonzero(own[about] >= 0)[k] + about[k].start for k in (0, 1))
        distance = stride * np.hypot(rows - row, columns - column)
        alike = colour_distance(self.lab[rows, columns] - lab) < 8.0
        distance[~alike | (distance > MAX_DISTANCE)] = np.inf
        if not np.isfinite(distance).any():
            return -1
        best = int(distance.argmin())
        return int(own[rows[best], columns[best]])

    def _cell(self, u: float, v: float) -> tuple[int, int]:
        """Row and column of the working pixel that stands for a pixel."""
        height, width = self.voxels.shape
        stride = self.surface.observations[self.view].stride
        row, column = (round((x - stride // 2) / stride) for x in (v, u))
        return min(max(row, 0), height - 1), min(max(column, 0), width - 1)

    def _nearest(self, row: int, column: int) -> str:
        """The way out, in words."""
        rows, columns = np.nonzero(self.surface.cloud.of_pixel[self.view] >= 0)
        if not len(rows):
            return (
                "the view has no depth at all: click in another one, or use a mask back end that "
                "takes prompts"
            )
        nearest = int(np.argmin((rows - row) ** 2 + (columns - column) ** 2))
        stride = self.surface.observations[self.view].stride
        u, v = (int(x[nearest]) * stride + stride // 2 for x in (columns, rows))
        return (
            f"the nearest pixel with depth is ({u}, {v}): click where the object has depth, in "
            "another view, or use a mask back end that takes prompts"
        )
