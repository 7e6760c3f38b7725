"""Pictures of scenes and answers: label overlays, clicks, masks, clouds, contact sheets."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.types import POSITIVE, Click
from wildseg3d_ros.core.types.prompts import AMBIGUOUS
from wildseg3d_ros.io.frames import evenly_spaced
from wildseg3d_ros.io.images import write_image
from wildseg3d_ros.io.rendering import BACKGROUND, DrawingCamera, render_cloud

RGB = tuple[int, int, int]

# Told apart with a colour vision deficiency: those of Okabe and Ito (2008), then the farthest from
# them that are not dark. Further objects differ by hue.
_PALETTE: tuple[RGB, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (60, 110, 220),
    (225, 245, 255),
    (125, 50, 255),
    (150, 45, 105),
)
TEXT: RGB = (235, 238, 242)
"""Light on dark."""
FAINT: RGB = (150, 158, 168)
"""Of what matters less."""
# Blue and orange, not green and red: told apart by everybody, on dark ground.
GOOD: RGB = (86, 190, 255)
UNSURE: RGB = (240, 228, 66)
BAD: RGB = (240, 95, 0)
CHANGED: RGB = (175, 125, 255)
"""Of what agrees, of what cannot be told, of what contradicts, and of what was put right."""
# Clicks that add are green, those that take away are red.
_CLICK: RGB = (60, 230, 90)
_NEGATIVE: RGB = (255, 70, 70)
_PAPER: RGB = (44, 48, 55)
_PANEL_WIDTH, _GAP = 400, 10  # pixels
FONT = cv2.FONT_HERSHEY_SIMPLEX
"""Of all text in pictures."""


class Pictured(Protocol):
    """What a picture shows of a scene: a Scene has it, and a client of the node collects it."""

    @property
    def view_names(self) -> Sequence[str]:
        """N camera names."""
        ...

    @property
    def images(self) -> Sequence[NDArray[np.uint8]]:
        """Per view (H, W, 3) RGB."""
        ...

    @property
    def labels(self) -> Sequence[NDArray[np.int32]]:
        """Per view (H, W), 0 = no object."""
        ...

    @property
    def world_from_cam(self) -> NDArray[np.float64]:
        """(N, 4, 4) poses in the frame of the clouds."""
        ...


class PicturedCloud(Protocol):
    """An answer, be it :class:`wildseg3d_ros.core.types.ObjectCloud` or one that came over ROS."""

    @property
    def points(self) -> NDArray[np.float32]:
        """(M, 3) in the scene's frame."""
        ...

    @property
    def colors(self) -> NDArray[np.uint8]:
        """(M, 3) RGB."""
        ...

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The chosen objects; none where the answer is a part of the surface."""
        ...

    @property
    def score(self) -> float:
        """Expected IoU with what was meant; NaN = nobody said."""
        ...

    @property
    def ambiguity(self) -> float:
        """How good the best alternative is, relative to the answer; NaN likewise."""
        ...

    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]:
        """(H, W) by view; a view without a mask is drawn without one."""
        ...


@dataclass(frozen=True, eq=False)
class Selection:
    """An answered prompt and what to call it in a picture."""

    clicks: tuple[Click, ...]
    cloud: PicturedCloud
    title: str = ""


@dataclass(frozen=True, eq=False)
class PicturedScene:
    """:class:`Pictured` for those who have no scene in memory: a client of the node."""

    view_names: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    labels: tuple[NDArray[np.int32], ...]
    world_from_cam: NDArray[np.float64]


def object_colors(object_ids: Iterable[int]) -> dict[int, RGB]:
    """A colour per object, distinct among the first few and stable in the order of ids."""
    object_ids = sorted(object_ids)
    colors = list(_PALETTE)
    for i in range(len(colors), len(object_ids)):
        hue = 0.618034 * i % 1.0  # golden ratio: each new hue falls into the widest gap
        bright = colorsys.hsv_to_rgb(hue, 0.55 + 0.35 * (i % 2), 1.0 - 0.25 * (i % 3) / 2)
        red, green, blue = (round(255 * value) for value in bright)
        colors.append((red, green, blue))
    return dict(zip(object_ids, colors, strict=False))


def draw_labels(
    image: NDArray[np.uint8], labels: NDArray[np.int32], colors: dict[int, RGB]
) -> NDArray[np.uint8]:
    """(H, W, 3) image under a tint per object, with outlines.

    Args:
        image: (H, W, 3) RGB.
        labels: (H, W), 0 = no object.
        colors: RGB by label; labels without a colour stay as they are.
    """
    out = dimmed(image, 0.6)
    for label in np.unique(labels):
        if label in colors:
            _tint(out, image, labels == label, colors[int(label)])
    return out


def draw_ids(image: NDArray[np.uint8], labels: NDArray[np.int32], scale: float) -> None:
    """Writes each object's id onto it in place, where it is widest; ``scale`` 1 is 20 px high."""
    thick = max(1, round(2 * scale))
    for label in np.unique(labels[labels > 0]):
        inside = cv2.distanceTransform((labels == label).astype(np.uint8), cv2.DIST_L2, 3)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        (width, height), _ = cv2.getTextSize(str(label), FONT, scale, thick)
        border = round(5 * scale)
        left = max(int(column) - width // 2, border)
        bottom = max(int(row) + height // 2, height + border)
        first = left - border, bottom - height - border
        last = left + width + border, bottom + border
        cv2.rectangle(image, first, last, (20, 20, 20), -1)
        cv2.putText(image, str(label), (left, bottom), FONT, scale, TEXT, thick, cv2.LINE_AA)


def draw_masks(
    image: NDArray[np.uint8], masks: Sequence[tuple[NDArray[np.bool_], RGB]]
) -> NDArray[np.uint8]:
    """(H, W, 3) image, dark but for the masks, which are outlined in their colours."""
    out = dimmed(image, 0.3)
    for mask, color in masks:
        _tint(out, image, mask, color, strength=0.25)
    return out


def draw_click(image: NDArray[np.uint8], u: float, v: float, positive: bool = True) -> None:
    """Marks a pixel in place: a green plus or a red minus on a disc."""
    size = max(6, round(min(image.shape[:2]) / 34))
    centre = (round(u * 16), round(v * 16))
    fill = _CLICK if positive else _NEGATIVE
    for radius, color in ((size + 3, (20, 20, 20)), (size + 1.5, (255, 255, 255)), (size, fill)):
        cv2.circle(image, centre, round(radius * 16), color, -1, cv2.LINE_AA, shift=4)
    arm, thick = round(size * 0.55), max(2, round(size / 3.5))
    x, y = round(u), round(v)
    cv2.line(image, (x - arm, y), (x + arm, y), (20, 20, 20), thick, cv2.LINE_AA)
    if positive:
        cv2.line(image, (x, y - arm), (x, y + arm), (20, 20, 20), thick, cv2.LINE_AA)


def contact_sheet(
    scene: Pictured, selections: Sequence[Selection] = (), max_views: int = 8
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB table of panels, one row per view.

    Columns: the image with its clicks and all cached masks with their ids; with selections also
    their masks and their clouds, drawn from beside the view's camera.

    Args:
        scene: what answered.
        selections: answers to show together, each in a colour of its own.
        max_views: rows at most: the views with clicks, the others evenly spaced.
    """
    found = {int(label) for labels in scene.labels for label in np.unique(labels)}
    colors = object_colors(found - {0})
    titles = ["image and click" if selections else "image", "all cached masks"]
    if len(selections) == 1:
        titles += ["mask of the selection", "its point cloud"]
    elif selections:
        titles += ["masks of the selections", "their point clouds"]
    shown = _rows_to_show(scene.view_names, selections, max_views)
    if len(shown) < len(scene.view_names):
        titles[0] += f" ({len(shown)} of {len(scene.view_names)} views)"
    rows = [[_panel(p) for p in _row(scene, view, selections, colors)] for view in shown]
    width = _GAP + len(titles) * (_PANEL_WIDTH + _GAP)
    legend = _legend(selections, colors, width)
    head, label = 40 + len(legend), 24
    height = head + sum(label + row[0].shape[0] + _GAP for row in rows)
    sheet = np.full((height, width, 3), BACKGROUND, np.uint8)
    sheet[: len(legend)] = legend
    for column, title in enumerate(titles):
        draw_text(sheet, title, _GAP + column * (_PANEL_WIDTH + _GAP), head - 12, 0.62, TEXT)
    top = head
    for view, row in zip(shown, rows, strict=True):
        draw_text(sheet, scene.view_names[view], _GAP, top + 15, 0.46, FAINT)
        top += label
        for column, picture in enumerate(row):
            left = _GAP + column * (_PANEL_WIDTH + _GAP)
            sheet[top : top + len(picture), left : left + _PANEL_WIDTH] = picture
        top += row[0].shape[0] + _GAP
    return sheet


def write_sheet(
    path: str | Path,
    scene: Pictured,
    clicks: Sequence[Click] = (),
    cloud: PicturedCloud | None = None,
    title: str = "",
    max_views: int = 8,
) -> None:
    """Writes the contact sheet of a scene, or of one answer, as PNG or, by its suffix, as JPEG.

    Raises:
        FileError: the file cannot be written.
    """
    selections = [] if cloud is None else [Selection(tuple(clicks), cloud, title)]
    jpeg_quality = 90 if Path(path).suffix.lower() in (".jpg", ".jpeg") else None
    write_image(Path(path), contact_sheet(scene, selections, max_views), jpeg_quality)


def cut_out(image: NDArray[np.uint8], mask: NDArray[np.bool_], longest: int) -> NDArray[np.uint8]:
    """(H, W, 3) the part of an image about a mask (H, W), dark but for the mask, which is not
    empty; its longer edge has so many pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    half = 0.6 * max(rows[-1] - rows[0], columns[-1] - columns[0], 12)
    centre = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    (top, bottom), (left, right) = (
        (max(0, int(c - half)), min(size, int(c + half) + 1))
        for c, size in zip(centre, mask.shape, strict=True)
    )
    dark = np.where(mask[..., None], image, image // 3)[top:bottom, left:right]
    scale = longest / max(dark.shape[:2])
    size = (max(1, round(scale * dark.shape[1])), max(1, round(scale * dark.shape[0])))
    return np.asarray(cv2.resize(dark, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(image: NDArray[np.uint8], quality: int = 85) -> bytes:
    """An RGB image (H, W, 3) as a file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _rows_to_show(names: Sequence[str], selections: Sequence[Selection], count: int) -> list[int]:
    """Indices of views: those with clicks first, then others, evenly spaced."""
    clicked = sorted({names.index(c.view) for s in selections for c in s.clicks})[:count]
    others = [view for view in range(len(names)) if view not in clicked]
    room = count - len(clicked)
    return clicked + ([others[i] for i in evenly_spaced(len(others), room)] if room > 0 else [])


def _row(
    scene: Pictured, view: int, selections: Sequence[Selection], colors: dict[int, RGB]
) -> list[NDArray[np.uint8]]:
    image, name = scene.images[view], scene.view_names[view]
    plain = image.copy()
    for click in (click for s in selections for click in s.clicks if click.view == name):
        draw_click(plain, click.u, click.v, click.label == POSITIVE)
    labelled = draw_labels(image, scene.labels[view], colors)
    draw_ids(labelled, scene.labels[view], scale=0.45 * image.shape[1] / _PANEL_WIDTH)
    panels = [plain, labelled]
    if not selections:
        return panels
    masks = [(s.cloud.masks[name], _color(s, colors)) for s in selections if name in s.cloud.masks]
    panels.append(draw_masks(image, masks))
    points = np.concatenate([s.cloud.points for s in selections])
    rgb = np.concatenate([s.cloud.colors for s in selections])
    size = (_height(image), _PANEL_WIDTH)
    if not len(points):  # an empty answer leaves its panel empty
        return [*panels, np.full((*size, 3), _PAPER, np.uint8)]
    camera = DrawingCamera.beside(points, scene.world_from_cam[view], size)
    return [*panels, render_cloud(points, rgb, camera, background=_PAPER)]


def _color(selection: Selection, colors: dict[int, RGB]) -> RGB:
    ids = selection.cloud.object_ids
    return colors.get(ids[0], _CLICK) if ids else _CLICK


def _legend(
    selections: Sequence[Selection], colors: dict[int, RGB], width: int
) -> NDArray[np.uint8]:
    """(H, width, 3): colour, name and size of each selection, in as many lines as it takes."""
    entries, x, y = [], _GAP, 0
    for s in selections:
        ids = ", ".join(map(str, s.cloud.object_ids))
        title = s.title or (f"object {ids}" if ids else "part")
        text = f"{title}: {len(s.cloud.points):,} points{_certainty(s.cloud)}"
        needed = 22 + cv2.getTextSize(text, FONT, 0.5, 1)[0][0]
        if x > _GAP and x + needed > width - _GAP:
            x, y = _GAP, y + 26
        entries.append((text, _color(s, colors), x, y))
        x += needed + 24
    legend = np.full((y + 26 if entries else 0, width, 3), BACKGROUND, np.uint8)
    for text, color, x, y in entries:
        cv2.rectangle(legend, (x, y + 10), (x + 14, y + 24), color, -1)
        draw_text(legend, text, x + 22, y + 23, 0.5, TEXT)
    return legend


def _certainty(cloud: PicturedCloud) -> str:
    """Score of an answer and a mark if it is ambiguous; nothing where nobody said."""
    if np.isnan(cloud.score):
        return ""
    return f", score {cloud.score:.2f}{' ambiguous' if cloud.ambiguity > AMBIGUOUS else ''}"


def dimmed(image: NDArray[np.uint8], brightness: float) -> NDArray[np.uint8]:
    """(H, W, 3) darker, and with less colour, so that tints stand out."""
    gray = image.mean(axis=2, keepdims=True)
    return np.clip((0.4 * image + 0.6 * gray) * brightness, 0, 255).astype(np.uint8)


def _tint(
    out: NDArray[np.uint8],
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    color: RGB,
    strength: float = 0.5,
) -> None:
    tinted = (1 - strength) * image[mask] + strength * np.array(color)
    out[mask] = np.clip(tinted, 0, 255).astype(np.uint8)
    thick = max(1, round(min(image.shape[:2]) / 240))
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[-2]
    cv2.drawContours(out, contours, -1, color, thick, cv2.LINE_AA)


def _height(picture: NDArray[np.uint8]) -> int:
    """Of its panel [px]."""
    return round(_PANEL_WIDTH * picture.shape[0] / picture.shape[1])


def _panel(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return scaled(picture, _PANEL_WIDTH)


def scaled(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """(H, width, 3) the picture in that width [px]."""
    height = max(1, round(width * picture.shape[0] / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def draw_text(
    sheet: NDArray[np.uint8], text: str, left: int, baseline: int, scale: float, color: RGB
) -> None:
    """Writes a line in place; ``left`` and ``baseline`` [px]."""
    cv2.putText(sheet, text, (left, baseline), FONT, scale, color, 1, cv2.LINE_AA)
