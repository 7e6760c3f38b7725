"""How well pairs, views and cameras agree, and when that is not good enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.types import Alignment, View


def reprojection_errors(
    graph: Graph, poses: Poses, world_from_cam: NDArray[np.float64], K: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(O, n) pixels between where a pair's points appear in their view's camera and their pixel.

    Args:
        world_from_cam: (N, 4, 4) in the graph's units; K: (N, 3, 3).

    Returns:
        NaN where there is no point, or where it lies behind the camera.
    """
    y = Observations(graph).moved(poses.matrices())
    seen = graph.weight > 0
    out = np.full(seen.shape, np.nan)
    for v, part in enumerate(graph.of_view):
        count = len(graph.pixels[v])
        pixel_from_world = K[v] @ invert(world_from_cam[v])[:3]
        image = pixel_from_world[:, :3] @ y[part, :, :count] + pixel_from_world[:, 3:]
        with np.errstate(divide="ignore", invalid="ignore"):
            uv = image[:, :2] / image[:, 2:]
        error = np.hypot(*np.moveaxis(uv - graph.pixels[v][:, ::-1].T, 1, 0))
        out[part, :count] = np.where(seen[part, :count] & (image[:, 2] > 0), error, np.nan)
    return out


def median_by_view(graph: Graph, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) median of the known values (O, n) of a view's observations; NaN where none is known."""
    out = np.full(graph.view_count, np.nan)
    for v, part in enumerate(graph.of_view):
        known = values[part][np.isfinite(values[part])]
        if known.size:
            out[v] = np.median(known)
    return out


def standing_out(pixels: NDArray[np.float64], views: Sequence[View]) -> list[str]:
    """Warnings of views whose points fall much farther from their pixels than those of others.

    Args:
        pixels: (N,) median reprojection error of each view, NaN where unknown.
    """
    known = np.isfinite(pixels)
    if np.count_nonzero(known) < 3:
        return []
    usual = float(np.median(pixels[known]))
    # Both relative to the others and absolutely: nothing is wrong below 2 px.
    limit = max(4.0 * usual, 2.0)
    return [
        f"points of '{views[v].name}' fall {pixels[v]:.2g} px from where it sees them, those of "
        f"other views {usual:.2g} px: are its intrinsics right, principal point included?"
        for v in np.flatnonzero(known & (pixels > limit)).tolist()
    ]


def refuse_beyond(alignment: Alignment, views: Sequence[View], config: AlignmentConfig) -> None:
    """Raises AlignmentError, with the views and figures, beyond the configured residuals, and
    where a camera or scale is no number at all."""
    lost = ~np.isfinite(alignment.world_from_cam).all((1, 2))
    lost |= ~np.isfinite(alignment.K).all((1, 2))
    if lost.any() or not np.isfinite(alignment.pair_scale).all():
        named = ", ".join(f"'{views[v].name}'" for v in np.flatnonzero(lost).tolist())
        what = f"camera of {named}" if named else "scale of a pair"
        raise AlignmentError(
            f"the alignment found no finite {what}; check points and confidences of the pairs for "
            "values like 1e20"
        )
    if 0 < config.max_condition < alignment.condition:
        told = "".join(f"{text}. " for text in alignment.warnings if text.startswith("all points"))
        raise AlignmentError(
            "the pairs leave some pose undetermined: the condition of the solve, "
            f"{alignment.condition:.2g}, is beyond alignment.max_condition = "
            f"{config.max_condition:g}. {told}Add views, or points that do not lie in one place "
            "or on one line, or raise the limit"
        )
    unit = "m" if alignment.metric else "scene units"
    limits = (
        ("max_residual", config.max_residual, alignment.view_residual, unit),
        ("max_residual_px", config.max_residual_px, alignment.view_residual_px, "px"),
    )
    for name, limit, residual, of in limits:
        if limit <= 0:
            continue
        if np.isnan(residual).any():
            unknown = ", ".join(
                f"'{views[v].name}'" for v in np.flatnonzero(np.isnan(residual)).tolist()
            )
            raise AlignmentError(
                f"alignment.{name} = {limit:g} {of} cannot be checked: no residual is known of "
                f"{unknown}. Add views that see the same, or set it to 0"
            )
        worst = [v for v in np.argsort(-residual, kind="stable") if residual[v] > limit]
        if worst:
            named = ", ".join(f"'{views[v].name}' {residual[v]:.3g} {of}" for v in worst)
            raise AlignmentError(
                f"the views do not fit together well enough: the median residual of {named} is "
                f"beyond alignment.{name} = {limit:g} {of}. Check that nothing moved between the "
                "images and that calibrations and poses are right, add views, or raise the limit"
            )
