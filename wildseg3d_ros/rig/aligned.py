"""The cameras of a rig after alignment, as far as measured depth allows one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wildseg3d_ros.alignment import align
from wildseg3d_ros.core.errors import (
    AlignmentError,
    DisconnectedViews,
    InputError,
    WildSeg3DError,
)
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, CameraVerdict, PairPrediction, View
from wildseg3d_ros.core.types.working import at_working_size
from wildseg3d_ros.pairing import choose_pairs, keep_largest
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.pointmaps.stereo.backend import StereoPointmaps
from wildseg3d_ros.rig.cameras import Cameras
from wildseg3d_ros.rig.judge import judge
from wildseg3d_ros.rig.report import RigReport
from wildseg3d_ros.rig.report import Verdict as RigVerdict


@dataclass(frozen=True, eq=False)
class AlignedRig:
    """Where the alignment puts the cameras.

    Attributes:
        cameras: of all N views, those that took no part NaN; None where nothing was aligned.
        reason: why that is, one sentence.
        left_out: why views took no part, by name.
        in_given_frame: whether the world is that of the given poses, else the first camera's.
        verdicts: of the alignment on those that took part or that nothing relates, by name.
        warnings: of the alignment, one sentence each.
        error: that ended it; None where it was not tried, or went well.
    """

    cameras: Cameras | None
    reason: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    in_given_frame: bool = False
    verdicts: dict[str, CameraVerdict] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True)
class CheckedRig:
    """What the views say of their cameras as given, and by how much an alignment moves them.

    Attributes:
        views: that were compared: of large images, at the size that a build works on.
        report, aligned: before and after alignment.
    """

    views: tuple[View, ...]
    report: RigReport
    aligned: AlignedRig

    @property
    def cameras(self) -> tuple[CameraVerdict, ...]:
        """The verdict on each camera, in the order of the views."""
        joined = {
            each.name: each for each in self.report.joined([*self.aligned.verdicts.values()])
        }
        return tuple(joined.get(each.name, each) for each in self.report.verdicts)

    @property
    def verdict(self) -> RigVerdict:
        """Of the rig: suspect where a given pose is wrong, corrected or not."""
        given = {each.verdict for each in self.cameras if each.posed}
        # Views without common surface may be as they should; what contradicts may not.
        error = self.aligned.error
        is_wrong = isinstance(error, AlignmentError) and not isinstance(error, DisconnectedViews)
        if (
            is_wrong
            or self.report.verdict == "suspect"
            or given & {"suspect", "moved", "left out"}
        ):
            return "suspect"
        verdicts = {each.verdict for each in self.cameras}
        return "ok" if "ok" in verdicts and "left out" not in verdicts else "unchecked"

    @property
    def warnings(self) -> list[str]:
        """What is wrong or could not be checked, one sentence each."""
        checked = {each.name for each in self.cameras if each.verdict != "unchecked"}
        out = [self.aligned.reason] if self.aligned.error is not None else []
        return list(dict.fromkeys([*out, *self.report.warned(checked), *self.aligned.warnings]))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        finding = self.report.finding
        return {
            "verdict": self.verdict,
            "finding": None if finding is None else finding.to_dict(),
            "warnings": self.warnings,
            "cameras": [each.to_dict() for each in self.cameras],
        }


def check_rig(views: Sequence[View], progress: Progress | None = None) -> CheckedRig:
    """Compares views as given, tries usual mistakes, and aligns those with depth if none explains
    what is seen.

    Raises:
        Cancelled: the caller asked to stop.
    """
    views = tuple(at_working_size(view) for view in views)
    report = judge(views)
    if report.finding is not None:
        why = "cameras that are wrong in a known way are not aligned"
        return CheckedRig(views, report, AlignedRig(None, why))
    return CheckedRig(views, report, align_measured(views, progress))


def align_measured(views: Sequence[View], progress: Progress | None = None) -> AlignedRig:
    """Aligns the views that have depth and intrinsics, with the default settings.

    What keeps them from being aligned is said, not raised.

    Raises:
        Cancelled: the caller asked to stop.
    """
    progress, backend = progress or Progress(), DepthPointmaps()
    left_out = {}
    for view in views:
        try:
            backend.check([view])
        except InputError as error:
            left_out[view.name] = _what_is_missing(view) or str(error)
    index = [v for v, view in enumerate(views) if view.name not in left_out]
    if len(index) < 2:
        return AlignedRig(None, "fewer than two cameras have depth and intrinsics", left_out)
    try:
        with progress.stage("alignment"):
            index, alignment, unrelated = _align_largest(views, index, progress)
    # Poses that are wrong enough may leave no equations to solve.
    except (WildSeg3DError, ValueError, ArithmeticError) as error:
        return AlignedRig(None, f"the alignment failed: {error}", left_out, error=error)
    left_out |= {name: verdict.why for name, verdict in unrelated.items()}
    cameras = Cameras.of_any(views)
    poses = np.full((len(views), 4, 4), np.nan)
    poses[index], cameras.K[index] = alignment.world_from_cam, alignment.K
    return AlignedRig(
        replace(cameras, world_from_cam=poses),
        "",
        left_out,
        alignment.in_prior_frame,
        {each.name: each for each in alignment.cameras} | unrelated,
        (*progress.warnings, *alignment.warnings),
    )


def unrelated_by_stereo(views: Sequence[View]) -> list[str]:
    """Which cameras of a rig that has poses but no depth a scene by stereo would leave out, and
    what to add; by its cameras' angles alone."""
    if len(views) < 2 or any(view.depth is not None for view in views):
        return []
    backend = StereoPointmaps()
    try:
        backend.check(views)
        backend.choose_pairs(views, PairingConfig())
    except DisconnectedViews as error:
        try:
            return [f"by pointmaps.backend: stereo, {keep_largest(views, error).warning}"]
        except DisconnectedViews:
            others = "da3 and mast3r need downloaded weights, and no such angles"
            return [f"by pointmaps.backend: stereo no scene can be built: {error}; {others}"]
    except InputError:  # which other back ends may not ask for
        return []
    return []


def _align_largest(
    views: Sequence[View], index: list[int], progress: Progress
) -> tuple[list[int], Alignment, dict[str, CameraVerdict]]:
    """The views of the largest group that can be related, their alignment, and the verdicts on
    the others."""
    backend, unrelated = DepthPointmaps(), {}
    predictions: Sequence[PairPrediction] = ()
    while True:
        used = [views[v] for v in index]
        try:
            predictions = predictions or backend.predict(used, choose_pairs(used), progress)
            return index, align(predictions, used), unrelated
        except DisconnectedViews as error:
            error.predictions = error.predictions or tuple(predictions)
            kept = keep_largest(used, error)
            progress.warn(kept.warning)
        unrelated |= {view.name: view.verdict for view in kept.left_out}
        index, predictions = [index[k] for k in kept.index], kept.predictions


def _what_is_missing(view: View) -> str:
    if view.K is None:
        return "no intrinsics"
    return "no depth" if view.depth is None or not view.depth.any() else ""
