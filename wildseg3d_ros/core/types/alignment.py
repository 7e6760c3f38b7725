"""All pairs and pixels in one world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["ok", "moved", "suspect", "unchecked", "left out"]

EXACT = 1e-9
"""No residual of anything measured is as small [m, scene units]: of as many unknowns as equations,
where nothing is left that could differ."""


@dataclass(frozen=True)
class CameraVerdict:
    """What an alignment says about one camera, and about the pose that was given for it.

    Attributes:
        name: of the view.
        posed: whether a pose was given.
        translation, rotation: metres and rad from the given pose to the one that was found; NaN
            where no pose was given, or where nothing fixes the frame of the given ones.
        translation_sigma, rotation_sigma: standard deviations of these per axis [m, rad]: of where
            the other cameras and the pairs expect the given pose, and of its own; NaN likewise.
        deviations: by how many standard deviations the given pose differs from where the others
            expect it, a Mahalanobis distance; NaN where nothing can tell.
        weight: of the given pose in the frame of the world, 0 (it took no part) to 1.
        verdict: ``ok``; ``moved``: the given pose was wrong and is corrected; ``left out``: so
            wrong that it took no part at all, or no pair relates the view to the others, and the
            scene does not have it; ``suspect``: where the camera is cannot be relied
            on; ``unchecked``: nothing says whether its place is right.
        why: the reason, one clause; empty where it is ok.
        agreement: share of what it and the others compare, with the cameras as given, that agrees;
            NaN where nothing is compared.
        overlap: the same with each of those that tell something, by their names.
        median_depth: of its depth image [m]; NaN without.
        depth_share: of its pixels that have depth, from 0 to 1; NaN without a depth image.
    """

    name: str
    posed: bool
    translation: float
    rotation: float
    translation_sigma: float
    rotation_sigma: float
    deviations: float
    weight: float
    verdict: Verdict
    why: str = ""
    agreement: float = float("nan")
    overlap: Mapping[str, float] = field(default_factory=dict)
    median_depth: float = float("nan")
    depth_share: float = float("nan")

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; NaN becomes None."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in vars(self).items()
        }

    @classmethod
    def of_left_out(cls, name: str, posed: bool, why: str) -> CameraVerdict:
        """Of a view that no pair relates to the others."""
        nan = float("nan")
        return cls(name, posed, nan, nan, nan, nan, nan, 0.0, "left out", why)


@dataclass(frozen=True, eq=False)
class LeftOutView:
    """A view that was given for a scene, and that no pair relates to the scene's views.

    Attributes:
        verdict: on its camera, with the reason.
        frame_id: name of the camera's optical frame in TF; may be empty.
        world_from_cam: (4, 4) given pose; None where none was given.
    """

    verdict: CameraVerdict
    frame_id: str = ""
    world_from_cam: NDArray[np.float64] | None = None

    @property
    def name(self) -> str:
        """Of the view."""
        return self.verdict.name


@dataclass(frozen=True, eq=False)
class Alignment:
    """All pairs in one world, and how well they agree.

    Attributes:
        edges: (E, 2) int, the views (a, b) of each pair.
        world_from_pair: (E, 4, 4) float64, P_e: camera a's frame of pair e to the world, applied
            after the scale: ``world = R (scale * x) + t``.
        pair_scale: (E,) float64, sigma_e > 0.
        world_from_cam: (N, 4, 4) float64 camera poses.
        K: (N, 3, 3) float64 intrinsics.
        pair_residual: (E,) median distance of a pair's points to the world points, scene units;
            NaN where no other pair sees the same pixels, so that nothing can differ.
        view_residual: (N,) the same by view, over the used pairs.
        pair_used: (E,) bool, False for rejected pairs.
        converged: whether the solve reached its tolerance, in a world that the pairs have in
            common and that most cameras do not contradict.
        iterations: Gauss-Newton passes.
        metric: whether the world is in metres.
        in_prior_frame: whether the world is the frame of the given poses (else: camera 0's).
        prior_residual: (N,) metres between solved and given camera positions; NaN without a prior.
        warnings: what a user should know, one sentence each.
        stop_reason: why the solve ended, one sentence; empty when nothing was solved.
        pair_residual_px: (E,) median reprojection error of a pair's points in the cameras of their
            views, pixels; NaN where a pair has none; empty when it was not measured.
        view_residual_px: (N,) the same by view, over the used pairs.
        view_correction: (N, 4, 4) rigid motion of a view's points by the joint refinement, after
            the mean of its pairs; ``world_from_cam`` includes it. Empty: none.
        condition: largest over smallest eigenvalue of the last Gauss-Newton matrix, its gauge
            fixed, in radians, log scales and scene sizes. Beyond about 1e6 the pairs do not fix
            all poses. 0 when nothing was solved.
        scale_factor: world units per unit of the pairs of unknown scale (their geometric mean);
            1 when every pair is in metres.
        scale_sources: what gives the metric scale: "metric pairs" (of measured depth), "camera
            poses", "relative poses", "depth" (of some cameras); empty when nothing does and
            lengths are the network's own.
        registration_residual: metres at the scene by which given poses, relative poses and depth
            differ from the world, or from the world before they constrained it where that is more:
            the median over cameras, of the kind that differs most. An error that all poses share
            shows here only where something else gives the metric scale. NaN when nothing was given
            that the world could differ from: one pair that was triangulated with the given poses
            always agrees with them.
        cameras: the verdict on each camera, in the order of the views; empty where none was
            passed.
    """

    edges: NDArray[np.int64]
    world_from_pair: NDArray[np.float64]
    pair_scale: NDArray[np.float64]
    world_from_cam: NDArray[np.float64]
    K: NDArray[np.float64]
    pair_residual: NDArray[np.float64]
    view_residual: NDArray[np.float64]
    pair_used: NDArray[np.bool_]
    converged: bool
    iterations: int
    metric: bool
    in_prior_frame: bool
    prior_residual: NDArray[np.float64]
    warnings: tuple[str, ...] = ()
    stop_reason: str = ""
    pair_residual_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    view_residual_px: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    condition: float = 0.0
    scale_factor: float = 1.0
    scale_sources: tuple[str, ...] = ()
    registration_residual: float = float("nan")
    view_correction: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4, 4)))
    cameras: tuple[CameraVerdict, ...] = ()

    def correction(self, view: int) -> NDArray[np.float64]:
        """(4, 4) of ``view_correction``; the identity where there is none."""
        return self.view_correction[view] if len(self.view_correction) else np.eye(4)

    @property
    def typical_residual(self) -> float:
        """Median of ``view_residual``, scene units; NaN where nothing was compared."""
        compared = self.view_residual[np.isfinite(self.view_residual)]
        return float(np.median(compared)) if len(compared) else float("nan")

    @property
    def scale_text(self) -> str:
        """What the lengths are in, for people."""
        if not self.metric:
            return "the network's own, not metres: nothing given fixes it"
        by = f"metres by {' and '.join(self.scale_sources) or 'construction'}"
        grown = "" if self.scale_factor == 1.0 else f", {self.scale_factor:.4g} x the network's"
        residual = self.registration_residual
        told = residual > EXACT
        said = f"residual {residual * 1e3:.3g} mm" if told else "nothing to compare it with"
        return f"{by}{grown}; {said}"


@dataclass(frozen=True, eq=False)
class WorldPointmaps:
    """Every pixel of every view as a point in the world.

    Attributes:
        points: per view (H, W, 3) float32, world frame; NaN where there is no point.
        confidence: per view (H, W) float32 >= 0; 0 where there is no point.
    """

    points: tuple[NDArray[np.float32], ...]
    confidence: tuple[NDArray[np.float32], ...]

    def valid(self, view: int) -> NDArray[np.bool_]:
        """(H, W) bool: pixels of the view that have a point."""
        return self.confidence[view] > 0
