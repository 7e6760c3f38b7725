"""Which segments of the surface a prompt means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.cameras import window
from wildseg3d_ros.core.types import LEVELS, POSITIVE, Click, Prompt
from wildseg3d_ros.core.types.tree import MIN_SCORE
from wildseg3d_ros.scene.camera_pixels import to_camera
from wildseg3d_ros.scene.clicks import clicks_of, locate, named
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.segments import (
    Segment,
    best_segment,
    holds,
    object_segment,
    segment_at,
)
from wildseg3d_ros.scene.similar_masks import boxed_segments, masked_segments

MIN_COMMON = 0.5
"""Score of a segment that holds all clicks, relative to the worst of those that hold one each,
from which the clicks mean the one."""


@dataclass(frozen=True)
class Choice:
    """What a prompt means.

    Attributes:
        segments: one or more, each once.
        by_id: whether ids alone chose them, so that nothing else can be meant.
        leaf: that was clicked first, -1 = none.
        off: leaves that negative clicks are on.
    """

    segments: tuple[Segment, ...]
    by_id: bool = False
    leaf: int = -1
    off: tuple[int, ...] = ()


class _Clicked(NamedTuple):
    """What a positive click shows by itself, and its leaf."""

    click: Click
    segment: Segment
    leaf: int


def choose(scene: Scene, prompt: Prompt, floor: float = 1e-6) -> Choice:
    """The segments that a prompt means.

    A click chooses the object of the prompt's level whose label its pixel has, else that of the
    next coarser level. On no object it chooses the best node that holds its leaf, and on
    background what the nearest pixel within ``scene.click_radius`` shows. Positive clicks on
    several objects choose all of them. Negative clicks exclude the objects below them: where a
    positive one is on such an object, and where positive clicks are on no object, the best segment
    that holds all positive clicks and no negative one answers, or, where there is none, the best
    one for each. A 3D point is a click at the pixel that shows it. A box chooses the segment that
    fills it best, or the objects that fill it together, a mask the one that covers it best, or a
    few.

    Args:
        floor: least score of a segment that is chosen because of negative clicks: who says what is
            off a thing knows that something is there, and a part of it has a low score.

    Raises:
        PromptError: unknown camera or object, pixel outside the image, mask of another size, no
            object or no depth there, or a segment that is both chosen and excluded. The text says
            what the scene has instead.
    """
    if prompt.text:
        raise PromptError(
            f"'{prompt.text}' is a name, and a scene knows pixels alone: find what it names first "
            "(Scene.find in Python, --text, or the field text of a request)"
        )
    chosen = {each: "the box" for box in prompt.boxes for each in boxed_segments(scene, box)}
    chosen |= {each: "the mask" for m in prompt.masks for each in masked_segments(scene, m)}
    chosen |= {object_segment(scene, i): "the id" for i in prompt.object_ids}
    clicks = clicks_of(scene, prompt)
    off: dict[int, Click] = {}
    for click in clicks:
        if click.label != POSITIVE:
            view, row, column = locate(scene, click)
            off.setdefault(int(scene.object_tree.tree.leaves[view][row, column]), click)
    off.pop(-1, None)
    for segment, what in chosen.items():
        _check_not_excluded(scene, segment, what, off)
    level = LEVELS.index(prompt.level)
    on = [_clicked(scene, click, level) for click in clicks if click.label == POSITIVE]
    segments = dict.fromkeys([*chosen, *_resolved(scene, on, off, floor)])
    by_id = not (on or prompt.boxes or prompt.masks)
    return Choice(tuple(segments), by_id, on[0].leaf if on else -1, tuple(off))


def _resolved(
    scene: Scene, on: Sequence[_Clicked], off: dict[int, Click], floor: float
) -> list[Segment]:
    """What the positive clicks mean together, given the leaves that are excluded."""
    conflicts = [any(holds(scene, each.segment, leaf) for leaf in off) for each in on]
    if not any(conflicts) and (len(on) < 2 or all(each.segment.object_id for each in on)):
        return [each.segment for each in on]
    separate = [
        best_segment(scene, [each.leaf], off, floor) if conflict else each.segment
        for each, conflict in zip(on, conflicts, strict=True)
    ]
    if len(on) > 1:
        needed = MIN_COMMON * min(each.score if each else 0.0 for each in separate)
        common = best_segment(scene, [each.leaf for each in on], off, max(floor, needed))
        if common is not None:
            return [common]
    for each, found in zip(on, separate, strict=True):
        if found is None:
            _check_not_excluded(scene, each.segment, named(each.click), off)
    return [found for found in separate if found is not None]


def _check_not_excluded(scene: Scene, segment: Segment, what: str, off: dict[int, Click]) -> None:
    """Raises PromptError if a segment has one of the leaves at negative clicks."""
    for leaf, click in off.items():
        if holds(scene, segment, leaf):
            kind = f"one object ({segment.object_id})" if segment.object_id else "one part"
            raise PromptError(
                f"{what} asks for an object that {named(click)} excludes; the scene holds both "
                f"as {kind}: leave one of the two clicks out, or correct the object "
                "(edit_object; on the command line: --refine)",
                ErrorCode.CONTRADICTING_CLICKS,
            )


def _clicked(scene: Scene, click: Click, level: int) -> _Clicked:
    """What a positive click shows."""
    view, row, column = locate(scene, click)
    found = segment_at(scene, view, row, column, level)
    if found is None:
        nearest = _nearest_shown(scene, view, row, column, level)
        found = segment_at(scene, view, *nearest, level) if nearest else None
    if found is None:
        raise nothing_there(scene, view, row, column, (click.u, click.v))
    return _Clicked(click, *found)


def _nearest_shown(
    scene: Scene, view: int, row: int, column: int, level: int
) -> tuple[int, int] | None:
    """The nearest pixel in the window of a click that shows an object or a good node."""
    about = window(row, column, scene.click_radius)
    tree = scene.object_tree.tree
    leaves = tree.leaves[view][about]
    shown = leaves >= 0
    if shown.any():
        shown[shown] = tree.score[tree.best_above[leaves[shown]]] >= MIN_SCORE
    for maps in scene.masks.maps[: level + 1]:
        shown |= maps[view][about] > 0
    rows, columns = np.nonzero(shown)
    if not len(rows):
        return None
    rows, columns = rows + about[0].start, columns + about[1].start
    at = int(np.argmin((rows - row) ** 2 + (columns - column) ** 2))
    return int(rows[at]), int(columns[at])


def nothing_there(
    scene: Scene, view: int, row: int, column: int, pixel: tuple[float, float] | None = None
) -> PromptError:
    """Why a click has no answer, and the way out.

    Args:
        row, column: in the scene's arrays.
        pixel: what was clicked, in the camera's image, where that is known.
    """
    radius = scene.click_radius
    about = window(row, column, radius)
    clicked = "({:g}, {:g})".format(*pixel) if pixel else _said(scene, view, column, row)
    where = f"camera '{scene.view_names[view]}', pixel {clicked}"
    said = round(radius * scene.camera_size(view)[1] / scene.images[view].shape[1])
    way_out = _nearest_object(scene, view, row, column)
    if not (scene.world.confidence[view][about] > 0).any():
        return PromptError(
            f"{where}: no depth was measured within {said} px, so there is no 3D point to "
            f"answer with; {way_out}",
            ErrorCode.NO_DEPTH_AT_PIXEL,
        )
    return PromptError(
        f"{where}: there is background and no object within {said} px; {way_out}",
        ErrorCode.NO_OBJECT_AT_PIXEL,
    )


def _nearest_object(scene: Scene, view: int, row: int, column: int) -> str:
    """The way out, in words."""
    rows, columns = np.nonzero(scene.labels[view])
    if not len(rows):
        if not scene.object_ids:
            return "the scene has no object in any view"
        return "no object was found in this view: click in another one"
    nearest = np.argmin((rows - row) ** 2 + (columns - column) ** 2)
    v, u = int(rows[nearest]), int(columns[nearest])
    begins = _said(scene, view, u, v)
    return f"the nearest object ({scene.labels[view][v, u]}) begins at pixel {begins}"


def _said(scene: Scene, view: int, column: int, row: int) -> str:
    """A pixel of the scene's arrays as one of the camera's image, in words."""
    u, v = to_camera(scene, view, column, row)
    return f"({round(u)}, {round(v)})"
