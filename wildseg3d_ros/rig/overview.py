"""A rig from above and from the side: cameras with their axes, and what they measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import project, rays_of
from wildseg3d_ros.core.geometry.transforms import apply, invert, make_transform
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.pictures import FAINT, FONT, RGB, TEXT, draw_text
from wildseg3d_ros.io.rendering import BACKGROUND, DrawingCamera, render_cloud
from wildseg3d_ros.rig.cameras import Cameras
from wildseg3d_ros.rig.pictures import Stage, clipped
from wildseg3d_ros.rig.report import Verdict
from wildseg3d_ros.rig.reprojection import measured_points

VERDICT_COLORS: dict[Verdict, RGB] = {
    "ok": (0, 205, 130),
    "suspect": (255, 60, 50),
    "unchecked": (240, 228, 66),
}
"""Of cameras."""

SOLVED: RGB = (120, 215, 255)
"""Of cameras after alignment."""

AXIS_COLORS: tuple[RGB, RGB, RGB] = ((255, 90, 90), (70, 220, 90), (90, 140, 255))
"""Of x, y and z."""

_PANEL = 740, 520  # width and height [px]
_GAP, _HEAD, _LEGEND, _MARGIN = 12, 40, 34, 60  # px
_TEXT_SIZE = 0.5
_PAPER: RGB = (38, 42, 48)
_POINTS = 200_000
_FAR = 100.0
"""Distance from which a scene is drawn, in sizes of it: parallels stay so to within 1 %."""

_LENGTH = 0.06
"""Length of a drawn camera, as a share of the picture's height."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """What is seen of a rig in its world.

    Attributes:
        points: (M, 3); colors: (M, 3) RGB, those of suspect cameras among others reddened.
    """

    points: NDArray[np.float64]
    colors: NDArray[np.uint8]

    @classmethod
    def of(cls, views: Sequence[View], cameras: Cameras, verdicts: Sequence[Verdict]) -> Cloud:
        """The measured points of all views whose camera is known."""
        points, colors = [np.zeros((0, 3))], [np.zeros((0, 3), np.uint8)]
        tell_apart = len(set(verdicts)) > 1
        for v in known_cameras(cameras):
            view = views[v]
            if view.depth is None:
                continue
            in_camera, rows, cols = measured_points(view, cameras, v, _POINTS // len(views))
            color = view.image[rows, cols]
            if tell_apart and verdicts[v] == "suspect":
                color = np.rint(0.45 * color + 0.55 * np.array(VERDICT_COLORS["suspect"]))
            points.append(apply(cameras.world_from_cam[v], in_camera))
            colors.append(color.astype(np.uint8))
        return cls(np.concatenate(points), np.concatenate(colors))


def overview_picture(
    views: Sequence[View],
    verdicts: Sequence[Verdict],
    stage: Stage,
    solved: Cameras | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: all known cameras of a stage and their points, from above and from the side.

    Above is the world's z. Where the world's frame is that of a camera, it is the direction in
    which the points extend least.

    Args:
        verdicts: of all views.
        solved: cameras after alignment in the same world, drawn thin.
    """
    cloud = Cloud.of(views, stage.cameras, verdicts)
    shown = [stage.cameras] + ([] if solved is None else [solved])
    poses = np.concatenate([each.world_from_cam[known_cameras(each)] for each in shown])
    right, ahead, up = world_axes(cloud.points, poses).T
    looks = {"from above": (right, -ahead, -up), "from the side": (right, -up, ahead)}
    said = {"from above": "world x right, y up", "from the side": "world x right, z up"}
    size = _HEAD + _PANEL[1] + _LEGEND, 2 * _PANEL[0] + 3 * _GAP
    sheet = np.full((*size, 3), BACKGROUND, np.uint8)
    for k, (name, axes) in enumerate(looks.items()):
        panel = Panel.of(np.stack(axes, axis=1), cloud, poses[:, :3, 3])
        draw_rig(panel, views, verdicts, stage.cameras, solved)
        title = f"{stage.title}, {name}" + (f" ({said[name]})" if up[2] == 1.0 else "")
        left = _GAP + k * (_PANEL[0] + _GAP)
        draw_text(sheet, clipped(title, _PANEL[0], 0.6), left, 27, 0.6, TEXT)
        sheet[_HEAD : _HEAD + _PANEL[1], left : left + _PANEL[0]] = panel.picture
    _draw_legend(sheet, size[0] - 12, solved is not None)
    return sheet


def world_axes(points: NDArray[np.float64], poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) columns right, ahead and up of the picture from above.

    Args:
        points: (M, 3) of the world. poses: (C, 4, 4) of all cameras.
    """
    is_of_camera = np.abs(poses - np.eye(4)).max(axis=(1, 2)) < 1e-6
    if not is_of_camera.any() or len(points) < 3:
        return np.eye(3)
    low, high = np.percentile(points, [5, 95], axis=0)
    inner = points[((points >= low) & (points <= high)).all(axis=1)]
    _, axes = np.linalg.eigh(np.cov((inner if len(inner) > 3 else points).T))
    up = axes[:, 0]
    up = up * (np.sign((poses[:, :3, 3].mean(axis=0) - np.median(points, axis=0)) @ up) or 1.0)
    right = poses[np.argmax(is_of_camera), :3, 0]
    right = right - (right @ up) * up
    right = right / np.linalg.norm(right) if np.linalg.norm(right) > 0.1 else axes[:, 2]
    return np.stack([right, np.cross(up, right), up], axis=1)


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
    def of(cls, axes: NDArray[np.float64], cloud: Cloud, centres: NDArray[np.float64]) -> Panel:
        """Sees all cameras and most points.

        Args:
            axes: (3, 3) columns right, down and forward of the picture in the world.
            centres: (C, 3) of the cameras.
        """
        low, high = _extent(cloud.points @ axes, centres @ axes)
        size = max(float((high - low).max()), 1e-9)
        room = np.array(_PANEL) - 2.0 * _MARGIN
        scale = float((room / np.maximum((high - low)[:2], 1e-3 * size)).min())
        u, v = (np.array(_PANEL) - 1.0) / 2.0
        focal = scale * _FAR * size
        pose = make_transform(axes, axes @ ((low + high) / 2.0) - _FAR * size * axes[:, 2])
        K = np.array([[focal, 0.0, u], [0.0, focal, v], [0.0, 0.0, 1.0]])
        camera = DrawingCamera(K, pose, (_PANEL[1], _PANEL[0]))
        if not len(cloud.points):
            return cls(camera, scale, np.full((*camera.size, 3), _PAPER, np.uint8))
        drawn = render_cloud(cloud.points.astype(np.float32), cloud.colors, camera, _PAPER)
        # Not as bright as the cameras.
        return cls(camera, scale, np.rint(0.8 * drawn).astype(np.uint8))

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 2) where points (M, 3) of the world are."""
        return project(apply(invert(self.camera.world_from_cam), points), self.camera.K)[0]

    def lines(self, points: NDArray[np.float64], color: RGB, thick: int) -> None:
        """Draws (M, 2, 3) segments of the world."""
        ends = np.rint(16 * self.pixels(points.reshape(-1, 3))).astype(int).reshape(-1, 2, 2)
        for one, two in ends.tolist():
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

    def draw_names(
        self, names: Sequence[str], positions: NDArray[np.float64], colors: Sequence[RGB]
    ) -> None:
        """Names of cameras beside their positions (C, 3), as far as there is room not over another
        name or camera."""
        places = self.pixels(positions)
        taken = [np.concatenate([at - 14.0, at + 14.0]) for at in places]
        for name, at, color in zip(names, places, colors, strict=True):
            text = clipped(name, 150, _TEXT_SIZE)
            size = np.array([cv2.getTextSize(text, FONT, _TEXT_SIZE, 1)[0][0], 14.0])
            for corner in _places_beside(at, size):
                box = np.concatenate([corner, corner + size])
                inside = (box[:2] >= 4.0).all() and (box[2:] <= np.array(_PANEL) - 4.0).all()
                if inside and not any(_overlap(box, other) for other in taken):
                    break
            taken.append(box)
            (left, top), (right, bottom) = np.rint(box).astype(int).reshape(2, 2).tolist()
            nearest = np.clip(at, box[:2], box[2:])
            if np.linalg.norm(nearest - at) > 30:
                ends = [np.rint(each).astype(int).tolist() for each in (at, nearest)]
                cv2.line(self.picture, *ends, FAINT, 1, cv2.LINE_AA)
            low, high = (left - 3, top - 2), (right + 3, bottom + 3)
            cv2.rectangle(self.picture, low, high, BACKGROUND, -1)
            draw_text(self.picture, text, left, top + 12, _TEXT_SIZE, color)

    def draw_scale(self) -> None:
        """A bar of a round length, lower left."""
        length = round_length(0.28 * _PANEL[0] / self.scale)
        pixels, y = round(length * self.scale), _PANEL[1] - 18
        cv2.line(self.picture, (18, y), (18 + pixels, y), TEXT, 2)
        for x in (18, 18 + pixels):
            cv2.line(self.picture, (x, y - 5), (x, y + 5), TEXT, 2)
        draw_text(self.picture, in_metres(length), 18, y - 12, 0.55, TEXT)


def draw_rig(
    panel: Panel,
    views: Sequence[View],
    verdicts: Sequence[Verdict],
    cameras: Cameras,
    solved: Cameras | None = None,
) -> None:
    """Draws the world's axes, the known cameras with axes and names, and a scale bar."""
    length = _LENGTH * _PANEL[1] / panel.scale
    panel.draw_axes(np.eye(4), 1.3 * length, 1)
    for v in known_cameras(solved) if solved is not None else ():
        assert solved is not None
        corners = length * _corners(views[v], solved.K[v])
        panel.draw_camera(solved.world_from_cam[v], corners, SOLVED, 1)
    # What is wrong lies on top.
    known = sorted(known_cameras(cameras), key=lambda v: verdicts[v] == "suspect")
    for v in known:
        pose, color = cameras.world_from_cam[v], VERDICT_COLORS[verdicts[v]]
        corners = length * _corners(views[v], cameras.K[v])
        panel.draw_camera(pose, corners, color, 3 if verdicts[v] == "suspect" else 2)
        panel.draw_axes(pose, 0.8 * length, 2)
    panel.draw_names(
        [views[v].name for v in known],
        cameras.world_from_cam[known, :3, 3],
        [VERDICT_COLORS[verdicts[v]] for v in known],
    )
    panel.draw_scale()


def known_cameras(cameras: Cameras) -> list[int]:
    """Views whose pose is known."""
    return np.flatnonzero(np.isfinite(cameras.world_from_cam).all(axis=(1, 2))).tolist()


def round_length(most: float) -> float:
    """The longest of 1, 2, 5, 10, ... and their tenths that is no longer."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= most))


def in_metres(length: float) -> str:
    """A length with the unit that suits it."""
    if length >= 1000.0:
        return f"{length / 1000.0:g} km"
    return f"{length:g} m" if length >= 0.1 else f"{1000.0 * length:g} mm"


def _corners(view: View, K: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 3) corners of the image at depth 1 before the camera, or less, if it is wide."""
    height, width = view.size
    if not np.isfinite(K).all():
        K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    u, v = np.array([0.0, width, width, 0.0]) - 0.5, np.array([0.0, 0, height, height]) - 0.5
    corners = rays_of(u, v, K)
    return corners / max(1.0, np.ptp(corners[:, :2], axis=0).max() / 1.2)


def _extent(
    points: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3,) least and largest coordinates of all cameras and of most points: what is far
    behind the scene must not make it small."""
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


def _draw_legend(sheet: NDArray[np.uint8], baseline: int, has_solved: bool) -> None:
    entries = [(VERDICT_COLORS[verdict], verdict) for verdict in VERDICT_COLORS]
    entries += [(SOLVED, "after alignment (thin)")] * has_solved
    entries += list(zip(AXIS_COLORS, "xyz", strict=True))
    left = _GAP
    for color, text in entries:
        cv2.line(sheet, (left, baseline - 5), (left + 18, baseline - 5), color, 3)
        draw_text(sheet, text, left + 26, baseline, 0.44, FAINT)
        left += 26 + cv2.getTextSize(text, FONT, 0.44, 1)[0][0] + 20
