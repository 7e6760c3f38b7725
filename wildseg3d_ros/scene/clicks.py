"""What a prompt says, by view and pixel."""

from __future__ import annotations

import numpy as np

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import POSITIVE, Click, Prompt, ViewPrompts
from wildseg3d_ros.scene.camera_pixels import to_scene
from wildseg3d_ros.scene.nearest import click_at_point
from wildseg3d_ros.scene.scene import Scene
from wildseg3d_ros.scene.similar_masks import checked_mask, clipped_box


def clicks_of(scene: Scene, prompt: Prompt) -> tuple[Click, ...]:
    """The prompt's clicks, and its 3D points as clicks at the pixels that show them.

    Raises:
        PromptError: a point where nothing was measured (POINT_OUTSIDE_SCENE).
    """
    return (*prompt.clicks, *(click_at_point(scene, point) for point in prompt.points))


def locate(scene: Scene, click: Click) -> tuple[int, int, int]:
    """View index, row and column in the scene's arrays of a click; integer coordinates are pixel
    centres.

    Raises:
        PromptError: unknown camera, or a pixel outside its image.
    """
    view = scene.view_index(click.view)
    height, width = scene.camera_size(view)
    if not (-0.5 <= click.u < width - 0.5 and -0.5 <= click.v < height - 0.5):
        raise PromptError(
            f"pixel ({click.u:g}, {click.v:g}) is outside the image of camera '{click.view}', "
            f"which is {width}x{height}: u from 0 to {width - 1}, v from 0 to {height - 1}",
            ErrorCode.PIXEL_OUTSIDE_IMAGE,
        )
    u, v = to_scene(scene, view, click.u, click.v)
    return view, int(np.floor(v + 0.5)), int(np.floor(u + 0.5))


def prompts_by_view(scene: Scene, prompt: Prompt) -> dict[int, ViewPrompts]:
    """The prompt's clicks, points, boxes and masks by index of their view, in the pixels of the
    scene's arrays.

    Raises:
        PromptError: unknown camera, a pixel or box outside its image, a mask of another size, a
            point where nothing was measured, or a view with negative clicks alone.
    """
    points: dict[int, list[tuple[float, float, bool]]] = {}
    for click in clicks_of(scene, prompt):
        view, _, _ = locate(scene, click)
        pixel = to_scene(scene, view, click.u, click.v)
        points.setdefault(view, []).append((*pixel, click.label == POSITIVE))
    boxes = dict(clipped_box(scene, box) for box in prompt.boxes)
    masks = dict(checked_mask(scene, given) for given in prompt.masks)
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


def named(click: Click) -> str:
    """A click in a text."""
    return f"camera '{click.view}' pixel ({click.u:g}, {click.v:g})"
