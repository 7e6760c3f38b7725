"""Views at the size that is worked on."""

from __future__ import annotations

import dataclasses

from wildseg3d_ros.core.geometry.resizing import nearest, rescaled, size_within, smaller_image
from wildseg3d_ros.core.types.views import View

MEGAPIXELS = 2.1
"""Millions of pixels of an image that are worked on, unless a setting says otherwise."""


def at_working_size(view: View, megapixels: float = MEGAPIXELS) -> View:
    """The view, or a smaller copy that knows its camera's size.

    Args:
        megapixels: millions of pixels that it has at most; 0 = as many as there are.
    """
    return resized(view, size_within(view.size, megapixels)) if megapixels else view


def resized(view: View, size: tuple[int, int]) -> View:
    """A copy with a smaller image, its intrinsics and depth. Depth is that of the nearest pixel:
    a mean of what lies before and behind an edge would be where nothing is."""
    if size == view.size:
        return view
    return dataclasses.replace(
        view,
        image=smaller_image(view.image, size),
        K=None if view.K is None else rescaled(view.K, view.size, size),
        depth=None if view.depth is None else nearest(view.depth, size),
        ignored=None if view.ignored is None else nearest(view.ignored, size),
        camera_size=view.full_size,
    )
