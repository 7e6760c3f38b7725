"""Geometry that does not fix a pose or cannot be: points in one place, on one line or behind the
camera that sees them, and ill-posed solves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.core.types import View

_ILL_POSED = 1e6
"""Condition beyond which the pairs leave some pose undetermined; ordinary scenes come to 1e3."""

_LINE = 0.02
"""Width over length of points below which a pose rotates freely about them, but for noise."""

_PLACE = 1e-3
"""Extent below which points are one, in shares of the scene's size."""


def degeneracies(graph: Graph, condition: float, views: Sequence[View]) -> list[str]:
    """Warnings of views whose points lie in one place or on one line in all their pairs, and of an
    ill-posed solve.

    Args:
        graph: the pairs in use; condition: of their solve.
    """
    length, width = _extents(graph)
    is_place = length < _PLACE
    is_line = width < _LINE * length
    places, lines = [], []
    for view, part in zip(views, graph.of_view, strict=True):
        if part.stop > part.start and is_place[part].all():
            places.append(f"'{view.name}'")
        elif part.stop > part.start and (is_place | is_line)[part].all():
            lines.append(f"'{view.name}'")
    warnings = _behind(graph, views)
    if places:
        warnings.append(f"all points lie in one place, which fixes no pose: {', '.join(places)}")
    if lines:
        warnings.append(
            "all points lie on one line, about which the pose is not determined: "
            f"{', '.join(lines)}"
        )
    if condition > _ILL_POSED:
        warnings.append(
            "the pairs leave some pose undetermined: the condition of the solve is "
            f"{condition:.2g} (much is {_ILL_POSED:.0e}; alignment.max_condition refuses it)"
        )
    return warnings


def _behind(graph: Graph, views: Sequence[View]) -> list[str]:
    """A warning of views whose own pointmaps lie behind their cameras."""
    own = graph.side == 0
    depth, weight = graph.x[own, 2], graph.weight[own]
    share = (weight * (depth <= 0)).sum(1) / np.maximum(weight.sum(1), 1e-300)
    wrong = sorted(set(graph.view[own][share > 0.5].tolist()))
    if not wrong:
        return []
    named = ", ".join(f"'{views[v].name}'" for v in wrong)
    text = f"most points of {named} lie behind the camera that sees them: pointmaps are in optical"
    return [f"{text} frames, x right, y down, z forward"]


def _extents(graph: Graph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(O,) standard deviations of each observation's points along their two longest axes."""
    share = graph.weight / np.maximum(graph.weight.sum(1, keepdims=True), 1e-300)
    centred = graph.x - graph.x @ share[..., None]
    square = np.linalg.eigvalsh((centred * share[:, None]) @ centred.swapaxes(1, 2))
    _, width, length = np.sqrt(np.maximum(square, 0.0)).T
    return length, width
