"""Answers prompts from a scene: look-ups and copies, no inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.geometry.cameras import window
from wildseg3d_ros.core.types import (
    LEVELS,
    POSITIVE,
    Click,
    Level,
    ObjectCloud,
    Prompt,
    ViewMasks,
    ViewPrompts,
)
from wildseg3d_ros.scene.nearest import click_at_point
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.similar_masks import (
    HOW_TO_ADD,
    boxed_object,
    checked_mask_view,
    clipped_box,
    masked_object,
)

NOT_CACHED = (
    ErrorCode.NO_OBJECT_AT_PIXEL,
    ErrorCode.NO_DEPTH_AT_PIXEL,
    ErrorCode.CONTRADICTING_CLICKS,
)
"""Errors of a prompt that adding an object can still answer: shiny and transparent things have no
depth where they are clicked, but a network sees them."""


def answer(scene: Scene, prompt: Prompt) -> ObjectCloud:
    """The cloud of the objects that the clicks choose.

    A click chooses the object of the prompt's level whose label its pixel has, else the one of the
    next coarser level, else the one with most pixels in the window of ``scene.click_radius`` about
    it. Positive clicks on several objects choose all of them. A negative click excludes the object
    below it; off every object it excludes nothing. Where positive and negative clicks are on one
    object, they mean its parts: the coarsest finer level at which they do not contradict each
    other answers. A 3D point is a click at the pixel that shows it. A box chooses the object of
    any level that fills it best, a mask the one that covers it best.

    Raises:
        PromptError: unknown camera or object, pixel outside the image, mask of another size, no
            object or no depth there, or an object that is both chosen and excluded. The text says
            what the scene has instead.
    """
    chosen = dict.fromkeys((boxed_object(scene, box) for box in prompt.boxes), "the box")
    chosen |= dict.fromkeys((masked_object(scene, mask) for mask in prompt.masks), "the mask")
    chosen |= dict.fromkeys((known_object(scene, i) for i in prompt.object_ids), "the id")
    clicks = clicks_of(scene, prompt)
    levels = LEVELS[LEVELS.index(prompt.level) : len(scene.masks.maps)] or (prompt.level,)
    for level in levels:
        try:
            return objects_cloud(scene, sorted(_with_clicked(scene, clicks, level, chosen)))
        except PromptError as error:
            if error.code != ErrorCode.CONTRADICTING_CLICKS or level == levels[-1]:
                raise
    raise AssertionError("there is at least one level")


def clicks_of(scene: Scene, prompt: Prompt) -> tuple[Click, ...]:
    """The prompt's clicks, and its 3D points as clicks at the pixels that show them.

    Raises:
        PromptError: a point where nothing was measured (POINT_OUTSIDE_SCENE).
    """
    return (*prompt.clicks, *(click_at_point(scene, point) for point in prompt.points))


def _with_clicked(
    scene: Scene, clicks: Sequence[Click], level: Level, chosen: Mapping[int, str]
) -> set[int]:
    """The ids in ``chosen`` (with what chose each) and those that the clicks choose at a level."""
    by: dict[int, str] = {}
    for click in clicks:
        if click.label == POSITIVE:
            by.setdefault(_chosen_object(scene, click, level), _named(click))
    for click in clicks:
        if click.label != POSITIVE:
            view, row, column = locate(scene, click)
            # What boxes, masks and ids choose may be of any level.
            of_any_level = [int(labels[view][row, column]) for labels in scene.masks.maps]
            excluded = [_label_at(scene, view, row, column, level)]
            for positives, labels in ((by, excluded), (chosen, of_any_level)):
                for label in (label for label in labels if label in positives):
                    raise PromptError(
                        f"{positives[label]} asks for an object that {_named(click)} excludes; "
                        f"the scene holds both as one object ({label}): leave one of the two "
                        f"clicks out, or refine the object (node and Python); {HOW_TO_ADD}",
                        ErrorCode.CONTRADICTING_CLICKS,
                    )
    return {*by, *chosen}


def known_object(scene: Scene, object_id: int) -> int:
    """The id itself.

    Raises:
        PromptError: the scene has no such object (UNKNOWN_OBJECT).
    """
    known = scene.index.ids
    if object_id not in known:
        listed = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
        raise PromptError(
            f"the scene {scene.scene_id} has no object {object_id}; its objects are "
            f"{listed or 'none'}. A build gives new ids",
            ErrorCode.UNKNOWN_OBJECT,
        )
    return int(object_id)


def objects_cloud(scene: Scene, object_ids: Sequence[int]) -> ObjectCloud:
    """A copy of the points of the given objects, with their masks.

    Raises:
        KeyError: there is no such object.
        PromptError: none of the objects has a point (code NO_DEPTH_AT_PIXEL).
    """
    rows = [scene.index.rows(object_id) for object_id in object_ids]
    if all(part.start == part.stop for part in rows):
        raise PromptError(
            f"object {', '.join(map(str, object_ids))} has masks but no reliable 3D point: no "
            "view measured its depth; click another object, or add a view that sees it closer",
            ErrorCode.NO_DEPTH_AT_PIXEL,
        )
    columns = {
        name: np.concatenate([getattr(scene.index, name)[part] for part in rows])
        for name in ("points", "colors", "confidence", "view_count")
    }
    return ObjectCloud(
        **columns,
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


def prompts_by_view(scene: Scene, prompt: Prompt) -> dict[int, ViewPrompts]:
    """The prompt's clicks, points, boxes and masks by index of their view.

    Raises:
        PromptError: unknown camera, a pixel or box outside its image, a mask of another size, a
            point where nothing was measured, or a view with negative clicks alone.
    """
    points: dict[int, list[tuple[float, float, bool]]] = {}
    for click in clicks_of(scene, prompt):
        view, _, _ = locate(scene, click)
        points.setdefault(view, []).append((click.u, click.v, click.label == POSITIVE))
    boxes = dict(clipped_box(scene, box) for box in prompt.boxes)
    masks = {checked_mask_view(scene, given): given.mask for given in prompt.masks}
    prompts = {}
    for view in sorted({*points, *boxes, *masks}):
        given = np.array(points.get(view, []), np.float64).reshape(-1, 3)
        prompts[view] = ViewPrompts(
            given[:, :2], given[:, 2] > 0, boxes.get(view), mask=masks.get(view)
        )
        if not prompts[view].positive:
            raise PromptError(
                f"camera '{scene.view_names[view]}' has negative clicks only; a new object needs "
                "a positive click, a box or a mask in every view that is clicked"
            )
    return prompts


def _chosen_object(scene: Scene, click: Click, level: Level) -> int:
    view, row, column = locate(scene, click)
    if label := _label_at(scene, view, row, column, level):
        return label
    radius = scene.click_radius
    about = window(row, column, radius)
    for maps in reversed(scene.masks.maps[: LEVELS.index(level) + 1]):
        labels = maps[view][about]
        ids, counts = np.unique(labels[labels > 0], return_counts=True)
        if len(ids):
            return int(ids[np.argmax(counts)])
    where = f"camera '{click.view}', pixel ({click.u:g}, {click.v:g})"
    way_out = f"{_nearest_object(scene, view, row, column)}; {HOW_TO_ADD}"
    if not (scene.world.confidence[view][about] > 0).any():
        raise PromptError(
            f"{where}: no depth was measured within {radius} px, so there is no 3D point to "
            f"answer with; {way_out}",
            ErrorCode.NO_DEPTH_AT_PIXEL,
        )
    raise PromptError(
        f"{where}: there is background and no object within {radius} px; {way_out}",
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
    return f"the nearest object ({scene.labels[view][v, u]}) begins at pixel ({u}, {v})"


def _named(click: Click) -> str:
    return f"camera '{click.view}' pixel ({click.u:g}, {click.v:g})"
