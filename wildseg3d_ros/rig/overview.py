"""A rig from above and from the side: cameras with their axes, and what they measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.cameras import rays_of
from wildseg3d_ros.core.geometry.transforms import apply
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.pictures import (
    BAD,
    CHANGED,
    FAINT,
    FONT,
    GOOD,
    RGB,
    TEXT,
    UNSURE,
    draw_text,
)
from wildseg3d_ros.io.rendering import BACKGROUND
from wildseg3d_ros.rig.cameras import Cameras
from wildseg3d_ros.rig.panel import AXIS_COLORS, PANEL, Panel
from wildseg3d_ros.rig.pictures import Stage, clipped
from wildseg3d_ros.rig.reprojection import Reprojections, measured_points

SOLVED = TEXT
"""Of cameras that are not as given: after alignment, or without a mistake."""

COLORS: dict[str, RGB] = {
    "ok": GOOD,
    "suspect": BAD,
    "left out": BAD,
    "moved": CHANGED,
    "unchecked": UNSURE,
    "mended": SOLVED,
}
"""Of cameras, by their verdicts."""

_GAP, _HEAD, _LEGEND = 12, 40, 34  # px
_POINTS = 200_000
_LENGTH = 0.06
"""Length of a drawn camera, as a share of the picture's height."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """What is seen of a rig in its world.

    Attributes:
        points: (M, 3) of the world.
        colors: (M, 3) RGB, those of cameras that are not ok, among others
            that are ok, tinted.
    """

    points: NDArray[np.float64]
    colors: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        views: Sequence[View],
        cameras: Cameras,
        verdicts: Sequence[str],
        reprojections: Reprojections,
    ) -> Cloud:
        """Measured points of the views whose camera is known, and matched features of others."""
        points, seen_by, uv = reprojections.triangulated(cameras)
        found, colors = [points], [_colors(views, verdicts, seen_by, uv)]
        for v in np.flatnonzero(cameras.known).tolist():
            if views[v].depth is None:
                continue
            measured, rows, cols = measured_points(views[v], cameras, v, _POINTS // len(views))
            found.append(apply(cameras.world_from_cam[v], measured))
            seen_by, uv = np.full(len(rows), v), np.stack([cols, rows], axis=1)
            colors.append(_colors(views, verdicts, seen_by, uv))
        return cls(np.concatenate(found), np.concatenate(colors))


def overview_picture(
    views: Sequence[View],
    verdicts: Sequence[str],
    reprojections: Reprojections,
    stage: Stage,
    solved: Cameras | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: all known cameras of a stage and their points, from above and from the side.

    Above is the world's z. Where the world's frame is that of a camera, it is the direction in
    which the points extend least.

    Args:
        verdicts: of all views, as in :data:`COLORS`.
        solved: cameras after alignment in the same world, drawn thin.
    """
    cloud = Cloud.of(views, stage.cameras, verdicts, reprojections)
    shown = [stage.cameras] + ([] if solved is None else [solved])
    poses = np.concatenate([each.world_from_cam[each.posed] for each in shown])
    right, ahead, up = world_axes(cloud.points, poses).T
    looks = {"from above": (right, -ahead, -up), "from the side": (right, -up, ahead)}
    said = {"from above": "world x right, y up", "from the side": "world x right, z up"}
    size = _HEAD + PANEL[1] + _LEGEND, 2 * PANEL[0] + 3 * _GAP
    sheet = np.full((*size, 3), BACKGROUND, np.uint8)
    for k, (name, axes) in enumerate(looks.items()):
        panel = Panel.of(np.stack(axes, axis=1), cloud.points, cloud.colors, poses[:, :3, 3])
        draw_rig(panel, views, verdicts, stage.cameras, solved)
        title = f"{stage.title}, {name}" + (f" ({said[name]})" if up[2] == 1.0 else "")
        left = _GAP + k * (PANEL[0] + _GAP)
        draw_text(sheet, clipped(title, PANEL[0], 0.6), left, 27, 0.6, TEXT)
        sheet[_HEAD : _HEAD + PANEL[1], left : left + PANEL[0]] = panel.picture
    _draw_legend(sheet, size[0] - 12, verdicts, solved is not None)
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


def draw_rig(
    panel: Panel,
    views: Sequence[View],
    verdicts: Sequence[str],
    cameras: Cameras,
    solved: Cameras | None = None,
) -> None:
    """Draws the world's axes, the known cameras with axes and names, and a scale bar."""
    length = _LENGTH * PANEL[1] / panel.scale * min(1.0, np.sqrt(12 / len(views)))
    panel.draw_axes(np.eye(4), 1.3 * length, 1)
    others = [] if solved is None else _cameras_of(solved)
    for v, pose, K in others:
        panel.draw_camera(pose, length * _corners(views[v], K), SOLVED, 1)
    # What is wrong lies on top.
    known = sorted(_cameras_of(cameras), key=lambda each: verdicts[each[0]] == "suspect")
    named = []
    for v, pose, K in known:
        color = COLORS[verdicts[v]]
        panel.draw_camera(pose, length * _corners(views[v], K), color, 2)
        panel.draw_axes(pose, 0.8 * length, 2)
        sign = "" if verdicts[v] == "ok" else f" {verdicts[v]}"
        named.append((views[v].name + sign, pose[:3, 3], color))
    named += [(views[v].name, pose[:3, 3], SOLVED) for v, pose, _ in others
              if not cameras.posed[v]]  # fmt: skip
    panel.draw_names(named)
    panel.draw_scale()


def _cameras_of(
    cameras: Cameras,
) -> list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Index, pose and intrinsics of those whose pose is known."""
    known = np.flatnonzero(cameras.posed).tolist()
    return [(v, cameras.world_from_cam[v], cameras.K[v]) for v in known]


def _colors(
    views: Sequence[View],
    verdicts: Sequence[str],
    seen_by: NDArray[np.int64],
    uv: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """(M, 3) RGB of pixels (M, 2) of views (M,), tinted as of :class:`Cloud`."""
    out = np.zeros((len(uv), 3))
    for v in np.unique(seen_by).tolist():
        own = seen_by == v
        cols, rows = np.clip(uv[own], 0, np.array(views[v].size[::-1]) - 1).T
        out[own] = views[v].image[rows, cols]
        verdict = str(verdicts[v])
        if "ok" in verdicts and verdict not in ("ok", "mended"):
            out[own] = 0.5 * out[own] + 0.5 * np.array(COLORS[verdict])
    return np.rint(out).astype(np.uint8)


def _corners(view: View, K: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 3) corners of the image at depth 1 before the camera, or less, if it is wide."""
    height, width = view.size
    if not np.isfinite(K).all():
        K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    u, v = np.array([0.0, width, width, 0.0]) - 0.5, np.array([0.0, 0, height, height]) - 0.5
    corners = rays_of(u, v, K)
    return corners / max(1.0, np.ptp(corners[:, :2], axis=0).max() / 1.2)


def _draw_legend(
    sheet: NDArray[np.uint8], baseline: int, verdicts: Sequence[str], has_solved: bool
) -> None:
    entries = [(color, verdict) for verdict, color in COLORS.items() if verdict in verdicts]
    entries += [(SOLVED, "after alignment")] * has_solved
    entries += list(zip(AXIS_COLORS, "xyz", strict=True))
    left = _GAP
    for color, text in entries:
        cv2.line(sheet, (left, baseline - 5), (left + 18, baseline - 5), color, 3)
        draw_text(sheet, text, left + 26, baseline, 0.44, FAINT)
        left += 26 + cv2.getTextSize(text, FONT, 0.44, 1)[0][0] + 20
