"""The world seen from far away, as a picture into which cameras are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform
from wildseg3d_ros.io.pictures import FAINT, FONT, RGB, TEXT, draw_text
from wildseg3d_ros.io.rendering import BACKGROUND, DrawingCamera, render_cloud
from wildseg3d_ros.rig.pictures import clipped

AXIS_COLORS: tuple[RGB, RGB, RGB] = ((255, 90, 90), (70, 220, 90), (90, 140, 255))
"""Of x, y and z."""

PANEL = 740, 520  # width and height [px]
_MARGIN = 60  # px
_BAR = 244, 52  # width and height of the corner for the scale bar [px]
_TEXT_SIZE, _MANY, _SMALL = 0.5, 12, 0.38  # of names, and of those of more cameras
_PAPER: RGB = (38, 42, 48)
_FAR = 100.0
"""Distance from which a scene is drawn, in sizes of it: parallels stay so to within 1 %."""


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture of the world from far away, to draw cameras into.

    Attributes:
        camera: from where.
        scale: pixels per metre.
        picture: (H, W, 3) RGB.
    """

    camera: DrawingCamera
    scale: float
    picture: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        axes: NDArray[np.float64],
        points: NDArray[np.float64],
        colors: NDArray[np.uint8],
        centres: NDArray[np.float64],
    ) -> Panel:
        """Sees all cameras and most points.

        Args:
            axes: (3, 3) columns right, down and forward of the picture in the world.
            points, colors: (M, 3) each, colours RGB.
            centres: (C, 3) of the cameras.
        """
        low, high = _extent(points @ axes, centres @ axes)
        size = float((high - low).max()) or 1.0
        room = np.array(PANEL) - 2.0 * _MARGIN
        scale = float((room / np.maximum((high - low)[:2], 0.1 * size)).min())
        u, v = (np.array(PANEL) - 1.0) / 2.0
        focal = scale * _FAR * size
        pose = make_transform(axes, axes @ ((low + high) / 2.0) - _FAR * size * axes[:, 2])
        K = np.array([[focal, 0.0, u], [0.0, focal, v], [0.0, 0.0, 1.0]])
        camera = DrawingCamera(K, pose, (PANEL[1], PANEL[0]))
        if not len(points):
            return cls(camera, scale, np.full((*camera.size, 3), _PAPER, np.uint8))
        drawn = render_cloud(points, colors, camera, _PAPER)
        # Not as bright as the cameras.
        return cls(camera, scale, np.rint(0.8 * drawn).astype(np.uint8))

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 2) where points (M, 3) of the world are."""
        return project(apply(invert(self.camera.world_from_cam), points), self.camera.K)[0]

    def lines(self, points: NDArray[np.float64], color: RGB, thick: int) -> None:
        """Draws those of the (M, 2, 3) segments of the world that are not far outside."""
        ends = self.pixels(points.reshape(-1, 3)).reshape(-1, 2, 2)
        near = (np.abs(ends) < 10_000.0).all(axis=(1, 2))
        for one, two in np.rint(16 * ends[near]).astype(int).tolist():
            cv2.line(self.picture, one, two, color, thick, cv2.LINE_AA, shift=4)

    def draw_axes(self, pose: NDArray[np.float64], length: float, thick: int) -> None:
        """Those of a frame, by its pose in the world."""
        for k, color in enumerate(AXIS_COLORS):
            tip = pose[:3, 3] + length * pose[:3, k]
            self.lines(np.stack([pose[:3, 3], tip])[None], color, thick)

    def draw_camera(
        self, pose: NDArray[np.float64], corners: NDArray[np.float64], color: RGB, thick: int
    ) -> None:
        """Its pyramid, from corners (4, 3) of its image in its own frame."""
        tips = apply(pose, corners)
        sides = np.stack([np.broadcast_to(pose[:3, 3], (4, 3)), tips], axis=1)
        self.lines(sides, color, thick)
        self.lines(np.stack([tips, np.roll(tips, 1, axis=0)], axis=1), color, thick)

    def draw_names(self, named: Sequence[tuple[str, NDArray[np.float64], RGB]]) -> None:
        """Names of cameras beside their positions (3,), as far as there is room not over another
        name, a camera or the scale bar."""
        places = self.pixels(np.array([position for _, position, _ in named]).reshape(-1, 3))
        scale = _TEXT_SIZE if len(named) <= _MANY else _SMALL
        bar = np.array([0.0, PANEL[1] - _BAR[1], _BAR[0], PANEL[1]])
        taken = [bar, *(np.concatenate([at - 14.0, at + 14.0]) for at in places)]
        for (name, _, color), at in zip(named, places, strict=True):
            text = clipped(name, 150, scale)
            size = np.array([cv2.getTextSize(text, FONT, scale, 1)[0][0], 28.0 * scale])
            for corner in _places_beside(at, size):
                box = np.concatenate([corner, corner + size])
                inside = (box[:2] >= 4.0).all() and (box[2:] <= np.array(PANEL) - 4.0).all()
                if inside and not any(_overlap(box, other) for other in taken):
                    break
            taken.append(box)
            (left, top), (right, bottom) = np.rint(box).astype(int).reshape(2, 2).tolist()
            nearest = np.clip(at, box[:2], box[2:])
            if np.linalg.norm(nearest - at) > 30:
                one, two = (np.rint(each).astype(int).tolist() for each in (at, nearest))
                cv2.line(self.picture, one, two, FAINT, 1, cv2.LINE_AA)
            low, high = (left - 3, top - 2), (right + 3, bottom + 3)
            cv2.rectangle(self.picture, low, high, BACKGROUND, -1)
            draw_text(self.picture, text, left, bottom - 2, scale, color)

    def draw_scale(self) -> None:
        """A bar of a round length, lower left."""
        length = round_length((_BAR[0] - 36) / self.scale)
        pixels, y = round(length * self.scale), PANEL[1] - 18
        cv2.rectangle(self.picture, (8, PANEL[1] - _BAR[1]), (28 + pixels, y + 10), BACKGROUND, -1)
        cv2.line(self.picture, (18, y), (18 + pixels, y), TEXT, 2)
        for x in (18, 18 + pixels):
            cv2.line(self.picture, (x, y - 5), (x, y + 5), TEXT, 2)
        draw_text(self.picture, in_metres(length), 18, y - 12, 0.55, TEXT)


def round_length(most: float) -> float:
    """The longest of 1, 2, 5, 10, ... and their tenths that is no longer."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= most))


def in_metres(length: float) -> str:
    """A length with the unit that suits it."""
    if length >= 1000.0:
        return f"{length / 1000.0:g} km"
    return f"{length:g} m" if length >= 0.1 else f"{1000.0 * length:g} mm"


def _extent(
    points: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3,) least and largest coordinates of all cameras and of most points: what is far behind
    the scene must not make it small."""
    both = [centres]
    if len(points):
        both.append(np.percentile(points, [10, 90], axis=0))
    every = np.concatenate(both)
    return every.min(axis=0), every.max(axis=0)


def _places_beside(at: NDArray[np.float64], size: NDArray[np.float64]) -> Iterator[NDArray]:
    """Upper left corners (2,) for a text of (width, height) about a point, the nearest first."""
    for gap in (12.0, 24.0, 40.0, 60.0, 85.0, 115.0, 150.0):
        for x, y in ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)):
            yield at + [x, y] * (gap + size / 2.0) - size / 2.0
    yield at + 12.0


def _overlap(one: NDArray[np.float64], two: NDArray[np.float64]) -> bool:
    """Of boxes (4,) left, top, right, bottom, with 4 px between them."""
    return bool((one[:2] < two[2:] + 4.0).all() and (two[:2] < one[2:] + 4.0).all())
