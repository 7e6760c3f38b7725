"""Answers prompts from a scene: look-ups and copies, no inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.errors import ErrorCode, PromptError
from wildseg3d_ros.masks.prompted import Hints
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.types import (
    LEVELS,
    POSITIVE,
    Box,
    Click,
    Level,
    ObjectCloud,
    Prompt,
    ViewMasks,
)

BOX_OVERLAP = 0.7
"""Overlap of a box with that of a mask from which it means that mask."""


def answer(scene: Scene, prompt: Prompt) -> ObjectCloud:
    """The cloud of the objects that the clicks choose.

    A click chooses the object of the prompt's level whose label its pixel has, else the one of the
    next coarser level, else the one with most pixels in the
    window of ``scene.click_radius`` about it. Positive clicks on several objects choose all of
    them. A negative click excludes the object below it; off every object it excludes nothing.
    Where that leaves nothing of an object, the clicks are taken to mean its parts: the coarsest
    finer level at which they do not contradict each other answers. A box chooses the object of
    any level that fills it best.

    Raises:
        PromptError: unknown camera, pixel outside the image, no object or no depth there, or an
            object that is both chosen and excluded. The text says what the scene has instead.
    """
    boxed = {_boxed_object(scene, box) for box in prompt.boxes}
    levels = LEVELS[LEVELS.index(prompt.level) : len(scene.masks.maps)] or (prompt.level,)
    for level in levels:
        try:
            chosen = _clicked_objects(scene, prompt.clicks, level)
            return objects_cloud(scene, tuple(sorted({*boxed, *chosen})))
        except PromptError as error:
            if error.code != ErrorCode.CONTRADICTING_CLICKS or level == levels[-1]:
                raise
    raise AssertionError("there is at least one level")


def _clicked_objects(scene: Scene, clicks: Sequence[Click], level: Level) -> set[int]:
    """Ids that the clicks choose at a level."""
    chosen: dict[int, Click] = {}
    for click in clicks:
        if click.label == POSITIVE:
            chosen.setdefault(_chosen_object(scene, click, level), click)
    for click in clicks:
        if click.label != POSITIVE:
            view, row, column = locate(scene, click)
            excluded = _label_at(scene, view, row, column, level)
            if excluded in chosen:
                raise _contradiction(chosen[excluded], click)
    return set(chosen)


def _boxed_object(scene: Scene, box: Box) -> int:
    """The object of any level whose mask in the view has the most similar box."""
    view = scene.view_index(box.view)
    best, best_overlap = 0, 0.0
    for record in scene.masks.objects:
        for mask in record.masks:
            if mask.view != view:
                continue
            u0, v0, u1, v1 = mask.box
            width = min(u1, box.u1) - max(u0, box.u0)
            height = min(v1, box.v1) - max(v0, box.v0)
            both = max(width, 0.0) * max(height, 0.0)
            area = (u1 - u0) * (v1 - v0) + (box.u1 - box.u0) * (box.v1 - box.v0)
            if both / max(area - both, 1e-9) > best_overlap:
                best, best_overlap = record.object_id, both / max(area - both, 1e-9)
    if best_overlap < BOX_OVERLAP:
        raise PromptError(
            f"camera '{box.view}': no cached object fills the box from ({box.u0:g}, {box.v0:g}) "
            f"to ({box.u1:g}, {box.v1:g}); the best one ({best}) overlaps it by "
            f"{best_overlap:.2f}, {BOX_OVERLAP:g} are needed: draw it closer, or add the object "
            "to the scene",
            ErrorCode.NO_OBJECT_AT_PIXEL,
        )
    return best


def objects_cloud(scene: Scene, object_ids: Sequence[int]) -> ObjectCloud:
    """A copy of the points of the given objects, with their masks.

    Raises:
        KeyError: there is no such object.
        PromptError: none of the objects has a point (code NO_DEPTH_AT_PIXEL).
    """
    index = scene.index
    rows = [index.rows(object_id) for object_id in object_ids]
    if all(part.start == part.stop for part in rows):
        raise PromptError(
            f"object {', '.join(map(str, object_ids))} has masks but no reliable 3D point: no "
            "view measured its depth; click another object, or add a view that sees it closer",
            ErrorCode.NO_DEPTH_AT_PIXEL,
        )

    def copy(column: NDArray) -> NDArray:
        if len(rows) == 1:
            return column[rows[0]].copy()
        return np.concatenate([column[part] for part in rows])

    return ObjectCloud(
        points=copy(index.points),
        colors=copy(index.colors),
        confidence=copy(index.confidence),
        view_count=copy(index.view_count),
        object_ids=tuple(int(object_id) for object_id in object_ids),
        masks=ViewMasks(scene.view_names, scene.labels, object_ids, scene.masks.finer),
        frame_id=scene.frame_id,
        stamp_ns=scene.stamp_ns,
        scene_id=scene.scene_id,
    )


def locate(scene: Scene, click: Click) -> tuple[int, int, int]:
    """View index, row and column of a click; integer coordinates are pixel centres.

    Raises:
        PromptError: unknown camera, or a pixel outside its image.
    """
    view = scene.view_index(click.view)
    height, width = scene.labels[view].shape
    if not (-0.5 <= click.u < width - 0.5 and -0.5 <= click.v < height - 0.5):
        raise PromptError(
            f"pixel ({click.u:g}, {click.v:g}) is outside the image of camera '{click.view}', "
            f"which is {width}x{height}: u from 0 to {width - 1}, v from 0 to {height - 1}",
            ErrorCode.PIXEL_OUTSIDE_IMAGE,
        )
    return view, int(np.floor(click.v + 0.5)), int(np.floor(click.u + 0.5))


def _label_at(scene: Scene, view: int, row: int, column: int, level: Level) -> int:
    """Object of a pixel at the level, or at the next coarser one that has any; 0 = none.

    Where the view has a mask of a finer level alone, it is what that is a part of, at the level
    if there is one.
    """
    wanted = LEVELS.index(level)
    for labels in reversed(scene.masks.maps[: wanted + 1]):
        if labels[view][row, column]:
            return int(labels[view][row, column])
    for labels in scene.masks.maps[wanted + 1 :]:
        found = int(labels[view][row, column])
        while found:
            record = scene.masks.record(found)
            if LEVELS.index(record.level) <= wanted or not record.parent:
                return found
            found = record.parent
    return 0


def hints_by_view(scene: Scene, prompt: Prompt) -> dict[int, Hints]:
    """The prompt's clicks and boxes by index of their view.

    Raises:
        PromptError: unknown camera, a pixel outside its image, two boxes in one view, or a view
            with negative clicks alone.
    """
    points: dict[int, list[tuple[float, float, bool]]] = {}
    boxes: dict[int, tuple[float, float, float, float]] = {}
    for click in prompt.clicks:
        view, _, _ = locate(scene, click)
        points.setdefault(view, []).append((click.u, click.v, click.label == POSITIVE))
    for box in prompt.boxes:
        view = scene.view_index(box.view)
        if view in boxes:
            raise PromptError(f"camera '{box.view}' has two boxes; give one box per view")
        boxes[view] = (box.u0, box.v0, box.u1, box.v1)
    hints = {}
    for view in sorted({*points, *boxes}):
        given = np.array(points.get(view, []), np.float64).reshape(-1, 3)
        hints[view] = Hints(given[:, :2], given[:, 2] > 0, boxes.get(view))
        if view not in boxes and not hints[view].on.any():
            raise PromptError(
                f"camera '{scene.view_names[view]}' has negative clicks only; a new object needs "
                "a positive click or a box in every view that is clicked"
            )
    return hints


def _chosen_object(scene: Scene, click: Click, level: Level) -> int:
    view, row, column = locate(scene, click)
    label = _label_at(scene, view, row, column, level)
    if label:
        return label
    reach = scene.click_radius
    window = np.s_[
        max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1
    ]
    for maps in reversed(scene.masks.maps[: LEVELS.index(level) + 1]):
        labels = maps[view][window]
        ids, counts = np.unique(labels[labels > 0], return_counts=True)
        if len(ids):
            return int(ids[np.argmax(counts)])
    where = f"camera '{click.view}', pixel ({click.u:g}, {click.v:g})"
    if not (scene.world.confidence[view][window] > 0).any():
        raise PromptError(
            f"{where}: no depth was measured within {reach} px, so there is no 3D point to answer "
            f"with; {_nearest_object(scene, view, row, column)}",
            ErrorCode.NO_DEPTH_AT_PIXEL,
        )
    raise PromptError(
        f"{where}: there is background and no object within {reach} px; "
        f"{_nearest_object(scene, view, row, column)}",
        ErrorCode.NO_OBJECT_AT_PIXEL,
    )


def _nearest_object(scene: Scene, view: int, row: int, column: int) -> str:
    """The way out, in words."""
    rows, columns = np.nonzero(scene.labels[view])
    if not len(rows):
        return "no object was found in this view: click in another one"
    nearest = np.argmin((rows - row) ** 2 + (columns - column) ** 2)
    v, u = int(rows[nearest]), int(columns[nearest])
    return f"the nearest object ({scene.labels[view][v, u]}) begins at pixel ({u}, {v})"


def _contradiction(positive: Click, negative: Click) -> PromptError:
    return PromptError(
        f"camera '{positive.view}' pixel ({positive.u:g}, {positive.v:g}) asks for an object that "
        f"camera '{negative.view}' pixel ({negative.u:g}, {negative.v:g}) excludes; the scene "
        "holds both pixels as one object: leave one of the two clicks out",
        ErrorCode.CONTRADICTING_CLICKS,
    )
