"""Cached objects that fill a given box or cover a given mask in one view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.types import Box, ViewMask
from wildseg3d_ros.scene.scene import Scene

HOW_TO_ADD = "to make what is there an object, add it (add_object; on the command line: --add)"
"""The way out where no cached mask answers."""


def boxed_object(scene: Scene, box: Box) -> int:
    """The object of any level whose mask in the view has the most similar box.

    Raises:
        PromptError: unknown camera, a box outside its image, or no object that is similar enough.
    """
    view, (left, top, right, bottom) = clipped_box(scene, box)
    overlaps = []
    for record in scene.masks.objects:
        for u0, v0, u1, v1 in (mask.box for mask in record.masks if mask.view == view):
            across = min(u1, right) - max(u0, left)
            down = min(v1, bottom) - max(v0, top)
            both = max(across, 0.0) * max(down, 0.0)
            area = (u1 - u0) * (v1 - v0) + (right - left) * (bottom - top)
            overlaps.append((record.object_id, both / max(area - both, 1e-9)))
    none = (
        f"camera '{box.view}': no cached object fills the box from ({box.u0:g}, {box.v0:g}) to "
        f"({box.u1:g}, {box.v1:g})"
    )
    return _most_similar(overlaps, 0.7, none, "draw it closer")


def clipped_box(scene: Scene, box: Box) -> tuple[int, tuple[float, float, float, float]]:
    """Index of a box's view, and (u0, v0, u1, v1) of what of the box is in its image.

    Raises:
        PromptError: unknown camera, or a box outside its image.
    """
    view = scene.view_index(box.view)
    height, width = scene.labels[view].shape
    u0, v0 = max(box.u0, 0.0), max(box.v0, 0.0)
    u1, v1 = min(box.u1, width - 1.0), min(box.v1, height - 1.0)
    if u1 <= u0 or v1 <= v0:
        raise PromptError(
            f"the box from ({box.u0:g}, {box.v0:g}) to ({box.u1:g}, {box.v1:g}) is outside the "
            f"image of camera '{box.view}', which is {width}x{height}: give corners with u from 0 "
            f"to {width - 1} and v from 0 to {height - 1}",
            ErrorCode.PIXEL_OUTSIDE_IMAGE,
        )
    return view, (u0, v0, u1, v1)


def masked_object(scene: Scene, given: ViewMask) -> int:
    """The object of any level whose mask in the view overlaps the given one most.

    Raises:
        PromptError: unknown camera, a mask of another size than its image, or no object that is
            similar enough.
    """
    view = checked_mask_view(scene, given)
    overlaps = []
    for level in scene.masks.maps:
        inside = np.bincount(level[view][given.mask])
        area = np.bincount(level[view].ravel(), minlength=len(inside))[: len(inside)]
        inside[0] = 0
        overlap = inside / np.maximum(given.mask.sum() + area - inside, 1)
        overlaps.append((int(overlap.argmax()), float(overlap.max())))
    none = (
        f"camera '{given.view}': no cached object has a mask like the given one of "
        f"{int(given.mask.sum())} pixels"
    )
    return _most_similar(overlaps, 0.5, none, "give a mask of the whole object")


def checked_mask_view(scene: Scene, given: ViewMask) -> int:
    """Index of a mask's view.

    Raises:
        PromptError: unknown camera, or a mask of another size than its image.
    """
    view = scene.view_index(given.view)
    (height, width), size = given.mask.shape, scene.labels[view].shape
    if (height, width) != size:
        raise PromptError(
            f"the mask of camera '{given.view}' is {width}x{height}, but its images are "
            f"{size[1]}x{size[0]}; give a mask of the image as it is published"
        )
    return view


def _most_similar(
    overlaps: Sequence[tuple[int, float]], needed: float, none: str, way_out: str
) -> int:
    """The object of the largest intersection over union, if it is as large as needed."""
    object_id, overlap = max(overlaps, key=lambda each: each[1], default=(0, 0.0))
    if overlap >= needed:
        return object_id
    best = f"the best one ({object_id}) overlaps it by {overlap:.2f}, {needed:g} are needed"
    raise PromptError(
        f"{none}; {best if overlap else 'none overlaps it'}: {way_out}; {HOW_TO_ADD}",
        ErrorCode.NO_OBJECT_AT_PIXEL,
    )
