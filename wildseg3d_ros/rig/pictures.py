"""Pictures of pairs: what one camera sees, drawn over another's image, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.pictures import (
    BAD,
    FAINT,
    FONT,
    GOOD,
    RGB,
    TEXT,
    UNSURE,
    dimmed,
    draw_text,
)
from wildseg3d_ros.io.rendering import BACKGROUND
from wildseg3d_ros.rig.cameras import Cameras
from wildseg3d_ros.rig.report import percent
from wildseg3d_ros.rig.reprojection import Outcome, Reprojection, Reprojections
from wildseg3d_ros.rig.surfaces import TOLERANCE

COLORS: dict[Outcome, RGB] = {
    Outcome.UNKNOWN: (165, 165, 170),
    Outcome.HIDDEN: (120, 94, 240),
    Outcome.AGREES: GOOD,
    Outcome.CONTRADICTS: BAD,
}
"""Of points, by what becomes of them. What contradicts is a cross, all else a dot."""

NEARLY = UNSURE
"""Of points that are nearly too far from the surface to agree."""

_PANEL = 480, 360  # width and height [px]
_GAP, _HEAD, _TITLE, _LEGEND = 12, 40, 30, 38


@dataclass(frozen=True, eq=False)
class Stage:
    """Cameras as given, or as something else has them.

    Attributes:
        title: of a panel.
        cameras: of all views, NaN where they are not known.
        missing: why they are not, or are not compared, by name of the view.
    """

    title: str
    cameras: Cameras
    missing: dict[str, str] = field(default_factory=dict)


def pair_picture(
    views: Sequence[View], reprojections: Reprojections, stages: Sequence[Stage], a: int, b: int
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: the image of view a, then that of view b with a's points in it, once for each
    stage; and what the colours mean."""
    names, panels, titles = (views[a].name, views[b].name), [], []
    found = [
        reprojections.of_pair(stage.cameras, a, b) if stage.cameras.known[[a, b]].all() else None
        for stage in stages
    ]
    panels.append(_first_panel(views[a].image, found))
    titles.append((f"image of {names[0]}", FAINT))
    for stage, each in zip(stages, found, strict=True):
        if each is None:
            unknown = [views[v].name for v in (a, b) if not stage.cameras.known[v]]
            why = [f"{name}: {stage.missing.get(name, 'not known')}" for name in unknown]
            panels.append(_said(views[b].image, why))
            titles.append((stage.title, FAINT))
            continue
        panels.append(draw_reprojection(views[b].image, each))
        share = each.agreement
        so = f"{percent(share)} agrees"
        if not np.isfinite(share):
            so = "all hidden" if each.share(Outcome.HIDDEN) > 0 else "nothing to compare"
        titles.append((f"{stage.title}: {so}", _share_color(share)))
    width = _GAP + len(panels) * (_PANEL[0] + _GAP)
    height = _HEAD + _TITLE + _PANEL[1] + _LEGEND
    sheet = np.full((height, width, 3), BACKGROUND, np.uint8)
    is_matched = any(each is not None and each.matched is not None for each in found)
    what = "features" if is_matched else "points"
    head = f"{what} of {names[0]} in the image of {names[1]}"
    draw_text(sheet, clipped(head, width - 2 * _GAP, 0.7), _GAP, 27, 0.7, TEXT)
    for k, (panel, (title, color)) in enumerate(zip(panels, titles, strict=True)):
        left = _GAP + k * (_PANEL[0] + _GAP)
        draw_text(sheet, clipped(title, _PANEL[0], 0.55), left, _HEAD + 18, 0.55, color)
        top = _HEAD + _TITLE
        sheet[top : top + _PANEL[1], left : left + _PANEL[0]] = panel
    _draw_legend(sheet, height - 13, is_matched)
    return sheet


def draw_reprojection(image: NDArray[np.uint8], found: Reprojection) -> NDArray[np.uint8]:
    """(H, W, 3) panel: an image under the points of another view."""
    if len(found.uv) == 0 and found.matched is None:
        return _said(
            image,
            [
                "none of its points fall into this image:",
                f"{percent(found.behind)} behind this camera,",
                f"{percent(found.outside)} outside its image",
            ],
        )
    panel, scale, corner = fitted(dimmed(image, 0.55), _PANEL)
    colors = point_colors(found)
    at = found.uv if found.matched is None else found.matched[1]
    shown, should = ((uv + 0.5) * scale + corner - 0.5 for uv in (at, found.uv))
    radius = 2 if found.matched is None else 4
    for k in np.argsort(found.outcome, kind="stable"):
        color = tuple(colors[k].tolist())
        if found.matched is not None and np.isfinite(should[k]).all():
            ends = [np.rint(each[k]).clip(-10_000, 10_000).astype(int) for each in (shown, should)]
            cv2.line(panel, ends[0].tolist(), ends[1].tolist(), color, 1, cv2.LINE_AA)
        _draw_point(panel, shown[k], radius, color, found.outcome[k] == Outcome.CONTRADICTS)
    return panel


def _draw_point(
    panel: NDArray[np.uint8], at: NDArray[np.float64], radius: int, color: RGB, is_cross: bool
) -> None:
    if is_cross:
        centre = np.rint(at).clip(-10_000, 10_000).astype(int).tolist()
        cv2.drawMarker(panel, centre, color, cv2.MARKER_TILTED_CROSS, 2 * radius + 1, 2)
    else:
        centre = np.rint(at * 16).astype(int).tolist()
        cv2.circle(panel, centre, radius * 16, color, -1, cv2.LINE_AA, shift=4)


def point_colors(found: Reprojection) -> NDArray[np.uint8]:
    """(M, 3) RGB of its points; of those that agree, the yellower the farther off."""
    table = np.array([COLORS[outcome] for outcome in sorted(COLORS)], dtype=np.float64)
    colors = table[found.outcome]
    near = (found.outcome == Outcome.AGREES) & np.isfinite(found.off)
    share = np.abs(found.off[near, None]) / TOLERANCE
    colors[near] += share * (np.array(NEARLY) - colors[near])
    return np.rint(colors).astype(np.uint8)


def fitted(
    image: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], float, NDArray[np.float64]]:
    """An image in the middle of a panel of (width, height); its magnification, and where its
    upper left corner is (2,) [px]."""
    panel = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    scaled = cv2.resize(np.ascontiguousarray(image), inner, interpolation=cv2.INTER_AREA)
    panel[top : top + inner[1], left : left + inner[0]] = scaled
    return panel, scale, np.array([left, top], dtype=np.float64)


def clipped(text: str, width: int, scale: float) -> str:
    """The text, its end left out where it is wider [px] than that."""
    while len(text) > 4 and cv2.getTextSize(text, FONT, scale, 1)[0][0] > width:
        text = f"{text[:-4]}..."
    return text


def _first_panel(
    image: NDArray[np.uint8], found: Sequence[Reprojection | None]
) -> NDArray[np.uint8]:
    """Where the points come from; matches with a dot each."""
    panel, scale, corner = fitted(image, _PANEL)
    first = next((each for each in found if each is not None), None)
    if first is not None and first.matched is not None:
        at = (first.matched[0] + 0.5) * scale + corner - 0.5
        for uv, color in zip(at, point_colors(first), strict=True):
            centre = np.rint(uv * 16).astype(int).tolist()
            cv2.circle(panel, centre, 4 * 16, tuple(color.tolist()), -1, cv2.LINE_AA, shift=4)
    return panel


def _said(image: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """The image, dark, and what there is to say instead of points."""
    panel, _, _ = fitted(dimmed(image, 0.25), _PANEL)
    for k, line in enumerate(lines):
        line = clipped(line, _PANEL[0] - 20, 0.6)
        width = cv2.getTextSize(line, FONT, 0.6, 1)[0][0]
        left, baseline = (_PANEL[0] - width) // 2, _PANEL[1] // 2 + 28 * k - 14 * (len(lines) - 1)
        draw_text(panel, line, left, baseline, 0.6, TEXT)
    return panel


def _share_color(share: float) -> RGB:
    if not np.isfinite(share):
        return COLORS[Outcome.CONTRADICTS]
    ends = (Outcome.CONTRADICTS, None, Outcome.AGREES)
    channels = zip(*(NEARLY if each is None else COLORS[each] for each in ends), strict=True)
    mixed = [round(float(np.interp(share, [0.5, 0.75, 0.95], c))) for c in channels]
    return mixed[0], mixed[1], mixed[2]


def _draw_legend(sheet: NDArray[np.uint8], baseline: int, is_matched: bool) -> None:
    entries = [
        (COLORS[Outcome.AGREES], "on the surface that is measured there: agrees"),
        (NEARLY, f"nearly {percent(TOLERANCE)} of the distance off"),
        (COLORS[Outcome.HIDDEN], "behind it: hidden"),
        (COLORS[Outcome.CONTRADICTS], "before it, where this camera sees through: contradicts"),
        (COLORS[Outcome.UNKNOWN], "no depth there"),
    ]
    if is_matched:
        entries = [
            (COLORS[Outcome.AGREES], "matched feature where the cameras put it: agrees"),
            (COLORS[Outcome.CONTRADICTS], "elsewhere: contradicts; the line leads to where"),
        ]
    left = _GAP
    for color, text in entries:
        at = np.array([left + 5.0, baseline - 5.0])
        _draw_point(sheet, at, 5, color, color == COLORS[Outcome.CONTRADICTS])
        draw_text(sheet, text, left + 15, baseline, 0.44, FAINT)
        left += 15 + cv2.getTextSize(text, FONT, 0.44, 1)[0][0] + 18
