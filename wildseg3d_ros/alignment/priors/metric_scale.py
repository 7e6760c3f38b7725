"""How long a metre is in the finished world, who says so, and who contradicts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.alignment.cameras.resection import Observed
from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.priors.consistency import Verified
from wildseg3d_ros.alignment.priors.gauge import Registration
from wildseg3d_ros.core.errors import AlignmentError
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.types import PairPrediction, View

_CONTRADICTS = 0.1
"""Share of the viewing distance that given poses may differ by: it grows with the scene, and a
wrong scale shrinks metres, but not this share. In constructed scenes of 2 m, with a network's
errors, the share was up to 0.05 with exact poses and with poses good to 1 cm and 0.3 degrees, and
0.12 or more with poses good to 12 cm and 5 degrees."""

_METRIC_NETWORK = 1.5
"""Factor by which a network's own metre may be wrong: beyond it something else is."""

POSES, RELATIVE, DEPTH = "camera poses", "relative poses", "depth"


@dataclass(frozen=True, eq=False)
class Comparison:
    """The finished world beside one kind of what was given.

    Attributes:
        kind: POSES, RELATIVE or DEPTH.
        error: metres at the scene, by camera (or two cameras) that it was given for.
        share: median over the cameras of the error in viewing distances; 0 where it is not needed.
    """

    kind: str
    error: Mapping[str, float]
    share: float = 0.0

    @property
    def residual(self) -> float:
        """Median over the cameras [m], so that a few that are wrong do not decide."""
        return float(np.median(list(self.error.values())))


def scale_sources(
    metric_pairs: Sequence[PairPrediction], known: Verified, registration: Registration
) -> tuple[str, ...]:
    """What makes the world metric; empty when nothing does."""
    if metric_pairs:
        return tuple(sorted({pair.scale_source for pair in metric_pairs}))
    if known.sources:
        return known.sources
    return (POSES,) if registration.found else ()


def scale_factor(pair_scale: NDArray[np.float64]) -> float:
    """World units per unit of the pairs of unknown scale; 1 when there is none."""
    return float(np.exp(np.log(pair_scale).mean())) if len(pair_scale) else 1.0


def no_scale_warning(views: Sequence[View], sources: tuple[str, ...]) -> list[str]:
    """A warning when there is nothing to go by; poses that do not suffice have their own."""
    if sources or any(view.world_from_cam_prior is not None for view in views):
        return []
    text = (
        f"lengths are in the network's own scale, not in metres, and the frame is that of camera "
        f"'{views[0].name}': give the poses of two cameras or the depth of one to change that"
    )
    return [text]


def compare_with_priors(
    views: Sequence[View],
    seen: Sequence[Observed],
    world_from_cam: NDArray[np.float64],
    size: float,
    registration: Registration,
    known: Verified,
    sources: tuple[str, ...],
    metric_pairs: Sequence[PairPrediction],
) -> list[Comparison]:
    """How far what was given is from the world, by kind; nothing without a metre to measure it in.

    What bends the world agrees with it afterwards, be it right or wrong. So poses count by what
    they differ from the world of the pairs alone where that is more, and relative poses by that
    only. These and depth count where pairs have no scale of their own: elsewhere the pairs outvote
    the former, and are made of the latter.

    Args:
        seen: what the pairs say about each view, in graph units; size: world units per graph unit.
        world_from_cam: (N, 4, 4), world units, before ``registration``.
        metric_pairs: those in use whose scale is known.
    """
    if not sources:
        return []
    errors: dict[str, dict[str, float]] = {POSES: {}, RELATIVE: {}, DEPTH: {}}
    error_of, share_of = registration.error, registration.share
    if known.pose_error is not None and known.pose_share is not None:
        error_of = np.fmax(error_of, known.pose_error)
        share_of = np.fmax(share_of, known.pose_share)
    if not unconfirmed(views, metric_pairs):
        for view, error in zip(views, error_of, strict=True):
            if np.isfinite(error):
                errors[POSES][view.name] = float(error)
    if not metric_pairs:
        grow = registration.scale
        for v, view in enumerate(views):
            points = apply(invert(world_from_cam[v]), seen[v].world[seen[v].sure > 0] * size)
            if not len(points) or view.depth is None or v in known.misshapen:
                continue
            cols, rows = seen[v].uv[seen[v].sure > 0].astype(np.int64).T
            measured = view.depth[rows, cols]
            if (measured > 0).any():
                away = np.abs(points[:, 2] * grow - measured)[measured > 0]
                errors[DEPTH][view.name] = float(np.median(away))
        for (a, b), error in known.relative_error.items():
            errors[RELATIVE][f"{views[a].name}' - '{views[b].name}"] = error
    shares = share_of[np.isfinite(share_of)]
    share = {POSES: float(np.median(shares)) if len(shares) else 0.0}
    return [
        Comparison(kind, error, share.get(kind, 0.0)) for kind, error in errors.items() if error
    ]


def unconfirmed(views: Sequence[View], metric_pairs: Sequence[PairPrediction]) -> bool:
    """Whether the world cannot but agree with the given poses: two views, triangulated with
    them."""
    return len(views) == 2 and any(pair.scale_source == POSES for pair in metric_pairs)


def unconfirmed_warning(
    views: Sequence[View], metric_pairs: Sequence[PairPrediction]
) -> list[str]:
    """A warning where nothing could contradict the given poses."""
    if not unconfirmed(views, metric_pairs):
        return []
    text = (
        f"the points of '{views[0].name}' and '{views[1].name}' were triangulated with the given "
        "poses, and no third view confirms these: there is no residual, and an error of the poses "
        "goes into all lengths"
    )
    return [text]


def scale_warnings(
    views: Sequence[View],
    sources: tuple[str, ...],
    registration: Registration,
    factor: float,
    rough: bool,
) -> list[str]:
    """Warnings where one baseline alone says how long a metre is, and where a network that was
    trained on metres finds it much longer or shorter.

    Args:
        factor: world units per unit of the pairs of unknown scale.
        rough: whether these units are about metres.
    """
    if not sources:
        return []
    warnings = []
    posed = np.flatnonzero(np.isfinite(registration.error))
    if sources == (POSES,) and len(posed) == 2 and factor != 1.0:
        a, b = (views[v].name for v in posed.tolist())
        warnings.append(
            f"the scale rests on one baseline, from '{a}' to '{b}', and nothing confirms it: any "
            f"length of it fits the images (now {factor:.3g} x the network's own lengths), and an "
            "error of either position goes into all lengths. Give a third pose, or depth"
        )
    if rough and max(factor, 1.0 / factor) > _METRIC_NETWORK:
        warnings.append(
            f"scaled by {' and '.join(sources)}, lengths are {factor:.3g} times what the network "
            f"takes them for, which is seldom wrong by more than {_METRIC_NETWORK:g}: check that "
            "poses and depth are in metres, and the distances between the given camera positions"
        )
    return warnings


def largest_residual(checks: Sequence[Comparison]) -> float:
    """Metres; NaN when nothing was compared."""
    return max((check.residual for check in checks), default=np.nan)


def refuse_contradictions(
    checks: Sequence[Comparison],
    sources: tuple[str, ...],
    known: Verified,
    registration: Registration,
    config: AlignmentConfig,
) -> None:
    """Raises AlignmentError, with cameras and figures, beyond ``max_prior_residual``, where poses
    differ by a good part of the viewing distance, or where what is given fixes nothing because it
    contradicts itself or the images."""
    limit = config.max_prior_residual
    if limit <= 0:
        return
    parts = [text for text in (registration.contradiction, known.contradiction) if text]
    for check in checks:
        # Relative poses are outvoted one by one: a drift of the pairs is no fault of theirs.
        if check.kind != RELATIVE and (check.residual > limit or check.share > _CONTRADICTS):
            worst = sorted(check.error.items(), key=lambda item: -item[1])
            named = ", ".join(f"'{name}' {error:.3g} m" for name, error in worst)
            share = ""
            if check.share:
                far = check.residual / check.share
                share = f", {_percent(check.share)} of the viewing distance, then {far:.3g} m"
            parts.append(
                f"scaled by {' and '.join(sources)}, given {check.kind} differ by "
                f"{check.residual:.3g} m at the scene (median{share}): {named}"
            )
    if not parts:
        return
    notes = [text for text in registration.warnings if text not in parts]
    raise AlignmentError(
        f"the images and what is known of the cameras contradict each other, so neither scale nor "
        f"frame of the scene can be relied on: {'; '.join([*parts, *notes])}. Allowed is "
        f"alignment.max_prior_residual = {limit:g} m, and {_CONTRADICTS:.0%} of the viewing "
        "distance. Check TF and calibration (poses are camera-to-world, of optical frames with z "
        "forward, each of its own camera), the unit of poses and depth images (metres), and that "
        "nothing moved between the images; or set the limit to 0 (never refuse)"
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"
