"""The pictures of a check: all cameras from above, and pairs of them in each other's images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.rig.aligned import AlignedRig, CheckedRig
from wildseg3d_ros.rig.cameras import Cameras
from wildseg3d_ros.rig.overview import overview_picture
from wildseg3d_ros.rig.pictures import Stage, pair_picture
from wildseg3d_ros.rig.report import RigReport
from wildseg3d_ros.rig.reprojection import Reprojections, pairs_to_show

_MOST, _PER_VIEW = 12, 4
"""Pictures of pairs, and how many of one view others make way for."""


class Picture(NamedTuple):
    """A picture (H, W, 3) RGB, and what it shows."""

    title: str
    image: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CheckPictures:
    """What is drawn of a check.

    Attributes:
        overviews: all cameras, from above and from the side.
        pairs: one camera's points in another's image, those that agree least first.
    """

    overviews: tuple[Picture, ...]
    pairs: tuple[Picture, ...]

    @property
    def all(self) -> tuple[Picture, ...]:
        """In the order in which they are looked at."""
        return self.overviews + self.pairs


def draw_check(checked: CheckedRig, progress: Progress | None = None) -> CheckPictures:
    """Draws cameras as they are given, without the mistake that was found, and, where none was,
    after the alignment of their depth.

    Raises:
        Cancelled: the caller asked to stop.
    """
    views, progress = checked.views, progress or Progress()
    with progress.stage("pictures"):
        stages = _stages(views, checked.report, checked.aligned)
        # Features are compared by angles, for which a focal length that was found will do.
        K = [None if np.isnan(each).any() else each for each in stages[-1].cameras.K]
        views = [replace(view, K=each) for view, each in zip(views, K, strict=True)]
        reprojections = Reprojections(views)
        return CheckPictures(
            _overviews(views, checked, reprojections, stages),
            _pairs(views, reprojections, stages, progress),
        )


def _stages(views: Sequence[View], report: RigReport, aligned: AlignedRig) -> list[Stage]:
    why = {each.name: each.why for each in report.cameras if not each.takes_part}
    stages = [Stage("as given", Cameras.of_any(views), why)]
    if report.finding is not None and report.finding.mended_cameras is not None:
        mended, judged = Cameras.of_any(views), report.finding.mended_cameras
        known = mended.known
        for each, of_known in zip(vars(mended).values(), vars(judged).values(), strict=True):
            each[known] = of_known
        stages.append(Stage("without the mistake", mended, why))
    if aligned.cameras is not None:
        stages.append(Stage("after alignment", aligned.cameras, aligned.left_out))
    return stages


def _overviews(
    views: Sequence[View],
    checked: CheckedRig,
    reprojections: Reprojections,
    stages: Sequence[Stage],
) -> tuple[Picture, ...]:
    report, aligned = checked.report, checked.aligned
    pictures: list[Picture] = []
    for k, stage in enumerate(stages):
        is_aligned = stage.cameras is aligned.cameras
        # In the same world those after alignment are drawn beside those as given.
        solved = aligned.cameras if k == 0 and aligned.in_given_frame else None
        is_drawn_already = is_aligned and aligned.in_given_frame
        if is_drawn_already or not stage.cameras.posed.any():
            continue
        verdicts: list[str] = [each.verdict for each in checked.cameras]
        if k == 1 and report.finding is not None:
            verdicts = ["mended" if each == "suspect" else each for each in verdicts]
        drawn = overview_picture(views, verdicts, reprojections, stage, solved)
        pictures.append(Picture(f"All cameras {stage.title}", drawn))
    return tuple(pictures)


def _pairs(
    views: Sequence[View],
    reprojections: Reprojections,
    stages: Sequence[Stage],
    progress: Progress,
) -> tuple[Picture, ...]:
    pictures: list[Picture] = []
    evidence = [reprojections.evidence(stage.cameras) for stage in stages]
    pairs = pairs_to_show(evidence, len(views), _MOST, _PER_VIEW)
    for k, (a, b) in enumerate(pairs):
        progress.update(k / len(pairs))
        title = f"{views[a].name} in the image of {views[b].name}"
        pictures.append(Picture(title, pair_picture(views, reprojections, stages, a, b)))
    return tuple(pictures)
