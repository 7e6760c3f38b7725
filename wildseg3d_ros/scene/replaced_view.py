"""Checks of a view of a scene that is replaced, or that joins it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wildseg3d_ros.core.errors import AlignmentError, InputError
from wildseg3d_ros.core.geometry.transforms import invert, rotation_angle
from wildseg3d_ros.core.types import View
from wildseg3d_ros.core.types.working import at_working_size, resized
from wildseg3d_ros.scene.scene import Scene


def check_same_views(scene: Scene, views: Sequence[View]) -> None:
    """Checks that these are the scene's views, in its order.

    Raises:
        InputError: other names, another number or other sizes; lists both.
    """
    known = [
        f"{name} ({width}x{height})"
        for view, name in enumerate(scene.view_names)
        for height, width in [scene.camera_size(view)]
    ]
    given = [f"{view.name} ({view.full_size[1]}x{view.full_size[0]})" for view in views]
    if given != known:
        raise InputError(
            f"an update takes the scene's {len(known)} views, {', '.join(known)}; got "
            f"{len(given)}: {', '.join(given) or 'none'}. Give those that the scene was built "
            "from, all of them and in its order (on the command line: with the same --max-views), "
            "or build it anew"
        )


def at_sizes_of(scene: Scene, views: Sequence[View], megapixels: float) -> list[View]:
    """Views as the scene has them: those of its cameras at the sizes of its images, others at
    most of so many megapixels."""
    sizes = {
        (name, scene.camera_size(view)): scene.images[view].shape
        for view, name in enumerate(scene.view_names)
    }
    made = []
    for view in views:
        shape = sizes.get((view.name, view.full_size))
        smaller = view if shape is None else resized(view, (shape[0], shape[1]))
        made.append(at_working_size(smaller, megapixels) if shape is None else smaller)
    return made


def pairs_of_view(scene: Scene, view: int) -> list[tuple[int, int]]:
    """Pairs (a, b) that hold the view and were of use."""
    edges = scene.alignment.edges[scene.alignment.pair_used]
    return sorted({(int(a), int(b)) for a, b in edges if view in (a, b)})


def has_moved(scene: Scene, view: View, index: int) -> bool:
    """Whether the camera's given pose says that it stands elsewhere than in the scene.

    That is so from 20 mm on, beyond the largest error of such poses, or 2 degrees.
    """
    prior = view.world_from_cam_prior
    if prior is None or not scene.alignment.in_prior_frame:
        return False
    step = invert(scene.world_from_cam[index]) @ prior
    residual = scene.alignment.prior_residual
    usual = float(np.nanmax(residual)) if np.isfinite(residual).any() else 0.0
    moved = np.linalg.norm(step[:3, 3]) > 0.02 + usual
    return bool(moved or rotation_angle(step[:3, :3]) > 0.035)


def require_fit(scene: Scene, index: int) -> None:
    """Checks that what a view sees bears out where it has joined a scene.

    Raises:
        AlignmentError: it does not, by the verdict on its camera.
    """
    if not scene.alignment.cameras:
        return
    found = scene.alignment.cameras[index]
    if found.verdict != "ok":
        raise AlignmentError(found.why)
