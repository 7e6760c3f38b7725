"""The geometry back end: views in, pair predictions out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.errors import DisconnectedViews, ErrorCode, InputError
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.parallel import THREADS, completed
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pairing import (
    named_groups,
    pairs_from_angles,
    pairs_from_exhaustive,
    parted_groups,
    viewing_angles,
    with_bridges,
)
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pointmaps.features import root_sift
from wildseg3d_ros.pointmaps.refined_poses import Features, RefinedPoses, poses_by_features
from wildseg3d_ros.pointmaps.stereo.agreement import check_agreement
from wildseg3d_ros.pointmaps.stereo.config import StereoPointmapConfig
from wildseg3d_ros.pointmaps.stereo.depth_range import check_range, depth_range
from wildseg3d_ros.pointmaps.stereo.matching import brightness_ratio, match_pair
from wildseg3d_ros.pointmaps.stereo.rectification import rectify

_log = logging.getLogger(__name__)

Pair = tuple[int, int]


class StereoPointmaps:
    """Geometry back end that triangulates: every pair measures both of its views anew.

    A pair gives each view's map in the view's own frame, and between them the relative pose that
    it was rectified with. The confidence is 1 cm over the expected standard deviation of the
    depth, as that of :mod:`wildseg3d_ros.pointmaps.confidence`.
    """

    def __init__(self, config: StereoPointmapConfig = StereoPointmapConfig()) -> None:
        self._config = config
        self._given_range = config.min_depth, config.max_depth
        widest = max(config.max_angle, config.bridge_angle)
        low, high, bridge = np.deg2rad([config.min_angle, config.max_angle, widest]).tolist()
        self._limits: tuple[float, float, float] = low, high, bridge

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError unless every view has intrinsics, a pose and an image to match."""
        for view in views:
            who = f"camera '{view.name}'"
            view.intrinsics_for("stereo")
            if view.world_from_cam_prior is None:
                raise InputError(
                    f"{who} has no pose; the 'stereo' back end needs one for every view: publish "
                    "its frame on TF, give transform_matrix in transforms.json, or leave the "
                    "camera out",
                    ErrorCode.MISSING_TF,
                )
            if min(view.size) < (smallest := 32):
                height, width = view.size
                raise InputError(
                    f"{who}: an image of {width}x{height} pixels is too small to be matched; the "
                    f"'stereo' back end needs {smallest} pixels or more in both directions"
                )

    def with_deviations(self, views: Sequence[View]) -> list[View]:
        """Views whose poses constrain the alignment: triangulated pairs alone drift."""
        sigmas = self._pose_sigmas(views).tolist()
        return [
            replace(view, prior_translation_sigma=translation, prior_rotation_sigma=rotation)
            for view, (translation, rotation) in zip(views, sigmas, strict=True)
        ]

    def choose_pairs(self, views: Sequence[View], config: PairingConfig) -> list[Pair]:
        """Pairs at angles that can be matched; see :func:`pairs_from_angles`.

        Raises:
            InputError: as :meth:`check`, or such pairs do not connect the views; the text says the
                groups and the angles between them (DISCONNECTED_VIEWS).
        """
        self.check(views)
        angle, overlap = viewing_angles(views)
        pairs = pairs_from_angles(angle, overlap, self._limits, config)
        self._check_connected(views, pairs, angle, pairs_from_exhaustive(len(views)), {})
        return pairs

    def predict(
        self, views: Sequence[View], pairs: Sequence[Pair], progress: Progress
    ) -> list[PairPrediction]:
        """Triangulated pointmaps of each pair whose cameras stand at a suitable angle.

        Pairs too narrow, too wide, or that cannot be rectified are left out with a note in the
        log; where nothing else connects two groups of views, pairs up to ``bridge_angle`` stay.

        Raises:
            InputError: a view lacks what is needed, views that the pairs connect cannot be
                related to each other (DISCONNECTED_VIEWS), or pairs disagree beyond
                ``max_disagreement`` (BAD_CALIBRATION).
            Cancelled: the caller asked to stop.
        """
        self.check(views)
        angle, _ = viewing_angles(views)
        asked = [(min(pair), max(pair)) for pair in pairs]
        suitable = self._suitable(views, asked, angle)
        self._check_connected(views, suitable, angle, asked, {})
        steps = 2 * len(views) + len(asked) + len(suitable)
        with ThreadPoolExecutor(THREADS) as pool:
            each = range(len(views))
            features = completed(pool, partial(_features, views), each, progress, 0, steps)
            poses = self._refined(views, suitable, features)
            check_range(poses, self._given_range, progress)
            done = steps - 2 * len(suitable)
            progress.update(done / steps)
            work = partial(self._prediction, views, poses)
            made = completed(pool, work, suitable, progress, done, steps)
        found = {pair: result for pair, result in made.items() if not isinstance(result, str)}
        notes = {pair: result for pair, result in made.items() if isinstance(result, str)}
        for pair, note in notes.items():
            _log.info("%s is left out: %s", _name(views, pair), note)
        progress.update(1.0)
        self._check_connected(views, list(found), angle, asked, notes)
        self._warn_of_wide_pairs(views, list(found), angle, progress)
        check_agreement(
            views,
            list(found.values()),
            poses.world_from_cam,
            self._pose_sigmas(views),
            self._config.max_disagreement,
            progress,
        )
        return list(found.values())

    def _suitable(
        self, views: Sequence[View], asked: Sequence[Pair], angle: NDArray
    ) -> list[Pair]:
        """The asked pairs between the limits, and wider ones that bridge groups."""
        low, high, bridge = self._limits
        kept = [pair for pair in asked if low <= angle[pair] <= high]
        wide = [pair for pair in asked if high < angle[pair] <= bridge]
        wide.sort(key=lambda pair: angle[pair])
        suitable = with_bridges(len(views), kept, wide)
        for pair in asked:
            if pair not in suitable:
                _log.info(
                    "%s is left out: its cameras are %s apart at the scene, %g to %g are matched",
                    _name(views, pair),
                    _degrees(angle[pair]),
                    self._config.min_angle,
                    self._config.max_angle,
                )
        return sorted(suitable)

    def _warn_of_wide_pairs(
        self, views: Sequence[View], pairs: Sequence[Pair], angle: NDArray, progress: Progress
    ) -> None:
        wide = [pair for pair in pairs if angle[pair] > self._limits[1]]
        if wide:
            widest = max(wide, key=lambda pair: angle[pair])
            progress.warn(
                f"{len(wide)} of {len(pairs)} pairs are wider than {self._config.max_angle:g} "
                f"degrees, up to {_degrees(angle[widest])} ({_name(views, widest)}), because "
                "nothing narrower connects the views; they find fewer points: add views in between"
            )

    def _pose_sigmas(self, views: Sequence[View]) -> NDArray[np.float64]:
        """(N, 2) metres and rad, of the configuration where a view does not say its own."""
        given = np.array([(v.prior_translation_sigma, v.prior_rotation_sigma) for v in views])
        config = self._config
        usual = config.prior_translation_sigma, config.prior_rotation_sigma
        return np.where(given > 0, given, usual)

    def _refined(
        self, views: Sequence[View], pairs: Sequence[Pair], features: Mapping[int, Features]
    ) -> RefinedPoses:
        intrinsics = [np.asarray(view.K) for view in views]
        given = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
        return poses_by_features(intrinsics, given, self._pose_sigmas(views), features, pairs)

    def _prediction(
        self, views: Sequence[View], poses: RefinedPoses, pair: Pair
    ) -> PairPrediction | str:
        """The pair's maps, or why there are none."""
        a, b = pair
        if poses.contradicts(pair):
            good, compared = poses.agreeing[pair]
            return (
                f"of {compared} matched features {good} lie where the poses expect them (check "
                "poses and intrinsics, and that pointmaps.stereo.prior_*_sigma are not too small)"
            )
        a_from_b = invert(poses.world_from_cam[a]) @ poses.world_from_cam[b]
        intrinsics = np.asarray(views[a].K), np.asarray(views[b].K)
        limits = depth_range(pair, poses, a_from_b, self._given_range)
        rectified = rectify(intrinsics, (views[a].size, views[b].size), a_from_b, *limits)
        if isinstance(rectified, str):
            return rectified
        (points_a, confidence_a), (points_b, confidence_b) = match_pair(
            rectified, views[a].image, views[b].image, _brightness(views, pair, poses)
        )
        # A pair has to give points for half a percent of both images.
        if min((confidence_a > 0).mean(), (confidence_b > 0).mean()) < 0.005:
            return (
                "hardly a pixel matches in both directions (a plain scene, or points out of range)"
            )
        maps = points_a, points_b, confidence_a, confidence_b
        return PairPrediction(a, b, *maps, a_from_b, metric=True, scale_source="camera poses")

    def _check_connected(
        self,
        views: Sequence[View],
        pairs: Sequence[Pair],
        angle: NDArray,
        asked: Sequence[Pair],
        notes: Mapping[Pair, str],
    ) -> None:
        """Raises InputError where the pairs leave views apart that the asked ones connect."""
        groups = parted_groups(len(views), pairs, asked)
        if not groups:
            return
        config, between = self._config, _nearest_across(groups, angle)
        named = [f"{_name(views, pair)} {_degrees(angle[pair])}" for pair in between]
        why = "".join(f" {_name(views, p)} is left out: {notes[p]}." for p in notes)
        nearest = f"the narrowest between them: {'; '.join(named)}" if named else "none overlap"
        raise DisconnectedViews(
            f"the views fall into {len(groups)} groups that no pair for stereo connects: "
            f"{named_groups(views, groups)} ({nearest}). Pairs of {config.min_angle:g} to "
            f"{config.max_angle:g} degrees at the scene are matched, up to "
            f"{config.bridge_angle:g} to bridge groups.{why} Add "
            "cameras in between, move them closer together, or choose a back end for wide views "
            "(depth, or a network)",
            groups,
            f"no pair for stereo ({config.min_angle:g} to {config.max_angle:g} degrees apart at "
            f"the scene, up to {config.bridge_angle:g} to bridge groups) leads to the other views"
            f"{_clause(views, notes)}",
        )


def _features(views: Sequence[View], index: int) -> Features:
    gray = np.asarray(cv2.cvtColor(views[index].image, cv2.COLOR_RGB2GRAY), np.uint8)
    return root_sift(gray, 2000)


def _brightness(views: Sequence[View], pair: Pair, poses: RefinedPoses) -> float:
    """Brightness of the pair's second view over that of its first, by what both see."""
    points = poses.points.get(pair, np.zeros((0, 3)))
    uv_a, uv_b = (
        project(apply(invert(poses.world_from_cam[v]), points), np.asarray(views[v].K))[0]
        for v in pair
    )
    return brightness_ratio(views[pair[0]].image, views[pair[1]].image, uv_a, uv_b)


def _nearest_across(groups: Sequence[Sequence[int]], angle: NDArray) -> list[Pair]:
    """For each group, its pair with any other group at the smallest known angle."""
    found = set()
    for group in groups:
        others = [v for other in groups if other is not group for v in other]
        across = [(angle[a, b], a, b) for a in group for b in others if np.isfinite(angle[a, b])]
        if across:
            _, a, b = min(across)
            found.add((min(a, b), max(a, b)))
    return sorted(found)


def _clause(views: Sequence[View], notes: Mapping[Pair, str]) -> str:
    """Why pairs at suitable angles were of no use, in brackets."""
    told = "; ".join(f"{_name(views, pair)}: {note}" for pair, note in notes.items())
    return f" ({told})" if told else ""


def _name(views: Sequence[View], pair: Pair) -> str:
    return f"'{views[pair[0]].name}' - '{views[pair[1]].name}'"


def _degrees(angle: float) -> str:
    return f"{np.degrees(angle):.0f} degrees" if np.isfinite(angle) else "nothing in common"
