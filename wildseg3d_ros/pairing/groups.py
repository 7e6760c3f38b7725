"""The largest group of views that can be related to each other, and what would join the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import DisconnectedViews
from wildseg3d_ros.core.types import CameraVerdict, LeftOutView, PairPrediction, View
from wildseg3d_ros.pairing.angles import viewing_angles
from wildseg3d_ros.pairing.similarity import image_similarity


@dataclass(frozen=True)
class Gap:
    """Where views would have to be added to join a group with another one.

    Attributes:
        group: indices of the views that are apart.
        inside, outside: views of this group and of another one between which views are missing.
        angle: between these two at what both see [rad]; NaN where poses do not tell.
    """

    group: tuple[int, ...]
    inside: int
    outside: int
    angle: float


def largest_group(
    views: Sequence[View], groups: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], tuple[Gap, ...]]:
    """The group of most views and, among groups of as many, of most overlap; and the gaps between
    each other group and the rest.

    Overlap is the mean share of their points that two views of the group both see, as far as poses
    tell; without poses, the mean similarity of their images.
    """
    angle, overlap = _compared(views)

    def mean_overlap(group: Sequence[int]) -> float:
        across = overlap[np.ix_(group, group)]
        return float(across.sum() / max(len(group) * (len(group) - 1), 1))

    most = max(map(len, groups))
    best = max((g for g in groups if len(g) == most), key=mean_overlap)
    others = (tuple(group) for group in groups if group is not best)
    return tuple(best), tuple(_gap(group, groups, angle, overlap) for group in others)


def _compared(views: Sequence[View]) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """(N, N) angles [rad], NaN where nothing tells, and (N, N) overlap with 0 on the diagonal."""
    if any(view.world_from_cam_prior is None for view in views):
        return np.full((len(views), len(views)), np.nan), image_similarity(views)
    angle, overlap = viewing_angles(views)
    return angle, overlap * ~np.eye(len(views), dtype=bool)


def _gap(
    group: tuple[int, ...],
    groups: Sequence[Sequence[int]],
    angle: NDArray[np.float64],
    overlap: NDArray[np.floating],
) -> Gap:
    """The narrowest one between the group and all others; without angles, that of the two views
    which have most in common."""
    outside = [v for other in groups for v in other if v not in group]
    across = [(a, b) for a in group for b in outside]
    known = [pair for pair in across if np.isfinite(angle[pair])]
    if known:
        a, b = min(known, key=lambda pair: angle[pair])
    else:
        a, b = max(across, key=lambda pair: overlap[pair])
    return Gap(group, a, b, float(angle[a, b]))


@dataclass(frozen=True, eq=False)
class Kept:
    """The views that a scene is built of, of those that were given.

    Attributes:
        index: of these views among the given ones, rising.
        left_out: the others, with the reasons.
        warning: one sentence that names them and what to add.
        predictions: pairs of the kept views that were made already, by their new indices.
    """

    index: tuple[int, ...]
    left_out: tuple[LeftOutView, ...]
    warning: str
    predictions: tuple[PairPrediction, ...]


def keep_largest(views: Sequence[View], error: DisconnectedViews) -> Kept:
    """Leaves out the views that nothing relates to the largest group.

    Raises:
        DisconnectedViews: the error itself; no two views can be related.
    """
    best, gaps = largest_group(views, error.groups)
    if len(best) < 2:
        raise error
    index = tuple(sorted(best))
    rest = [v for v in range(len(views)) if v not in index]
    gap_of = {v: gap for gap in gaps for v in gap.group}
    left_out = []
    for v in rest:
        why = error.reason
        if v in gap_of:
            why = f"{error.reason}; missing is {_missing(views, gap_of[v])}"
        given = views[v].world_from_cam_prior
        verdict = CameraVerdict.of_left_out(views[v].name, given is not None, why)
        left_out.append(LeftOutView(verdict, views[v].frame_id, given))
    names = ", ".join(f"'{views[v].name}'" for v in rest)
    missing = ", and ".join(dict.fromkeys(_missing(views, gap) for gap in gaps))
    warning = (
        f"camera {names} took no part and cannot be clicked: {error.reason}. The scene is the "
        f"largest group, of {len(index)} of {len(views)} views. To have all in it, add {missing}; "
        "to refuse such a scene, set pairing.require_all_views (on the command line: --strict)"
    )
    place = {v: k for k, v in enumerate(index)}
    kept = [p for p in error.predictions if p.a in place and p.b in place]
    predictions = tuple(replace(p, a=place[p.a], b=place[p.b]) for p in kept)
    return Kept(index, tuple(left_out), warning, predictions)


def _missing(views: Sequence[View], gap: Gap) -> str:
    apart = "" if np.isnan(gap.angle) else f" ({np.degrees(gap.angle):.0f} degrees apart)"
    return f"a view between '{views[gap.outside].name}' and '{views[gap.inside].name}'{apart}"
