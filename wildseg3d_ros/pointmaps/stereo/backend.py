"""Pointmaps of calibrated RGB cameras: semi-global matching of pairs that are seldom far apart."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.cameras import project
from wildseg3d_ros.core.geometry.transforms import apply, invert
from wildseg3d_ros.core.parallel import THREADS, completed
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pairing import pairs_from_angles, viewing_angles
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pointmaps.config import PointmapConfig
from wildseg3d_ros.pointmaps.depth.registration.features import root_sift
from wildseg3d_ros.pointmaps.stereo.agreement import check_agreement
from wildseg3d_ros.pointmaps.stereo.depth_range import check_range, depth_range
from wildseg3d_ros.pointmaps.stereo.matching import brightness_ratio, match_pair
from wildseg3d_ros.pointmaps.stereo.poses import (
    FEATURES,
    Camera,
    Features,
    Matches,
    RefinedPoses,
    match_near_epipolar_lines,
    refine_poses,
)
from wildseg3d_ros.pointmaps.stereo.rectification import Rectified, rectify

_log = logging.getLogger(__name__)

Pair = tuple[int, int]

LEAST_SIZE = 32
"""Shorter images [px] show too little to be matched."""

LEAST_COVER = 0.005
"""Share of both images that a pair must give points for."""


class StereoPointmaps:
    """Geometry back end that triangulates: every pair measures both of its views anew.

    A pair gives each view's map in the view's own frame, and between them the relative pose that
    it was rectified with. The confidence is 1 cm over the expected standard deviation of the
    depth, as that of :mod:`wildseg3d_ros.pointmaps.depth.noise`.
    """

    def __init__(self, config: PointmapConfig = PointmapConfig()) -> None:
        self._config = config.stereo

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError unless every view has intrinsics, a pose and an image to match."""
        for view in views:
            who = f"camera '{view.name}'"
            if view.K is None:
                raise InputError(
                    f"{who} has no intrinsics; the 'stereo' back end needs K for every view: "
                    "publish its camera_info, or give fl_x, fl_y, cx, cy in transforms.json",
                    ErrorCode.BAD_CALIBRATION,
                )
            if view.world_from_cam_prior is None:
                raise InputError(
                    f"{who} has no pose; the 'stereo' back end needs one for every view: publish "
                    "its frame on TF, give transform_matrix in transforms.json, or leave the "
                    "camera out",
                    ErrorCode.MISSING_TF,
                )
            if min(view.size) < LEAST_SIZE:
                height, width = view.size
                raise InputError(
                    f"{who}: an image of {width}x{height} pixels is too small to be matched; the "
                    f"'stereo' back end needs {LEAST_SIZE} pixels or more in both directions"
                )

    def with_deviations(self, views: Sequence[View]) -> list[View]:
        """Views whose poses bend the alignment: a chain of triangulated pairs alone drifts."""
        config = self._config
        return [
            replace(
                view,
                prior_translation_sigma=view.prior_translation_sigma
                or config.prior_translation_sigma,
                prior_rotation_sigma=view.prior_rotation_sigma or config.prior_rotation_sigma,
            )
            for view in views
        ]

    def choose_pairs(self, views: Sequence[View], config: PairingConfig) -> list[Pair]:
        """Pairs at angles that can be matched; see :func:`pairs_from_angles`.

        Raises:
            InputError: as :meth:`check`, or such pairs do not connect the views; the text says the
                groups and the angles between them (DISCONNECTED_VIEWS).
        """
        self.check(views)
        angle, overlap = viewing_angles(views)
        pairs = pairs_from_angles(angle, overlap, self._limits(), config)
        self._check_connected(views, pairs, angle, list(range(len(views))), {})
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
        groups = components(len(views), asked).tolist()
        notes: dict[Pair, str] = {}
        self._check_connected(views, suitable, angle, groups, notes)

        steps = 2 * len(views) + len(asked) + len(suitable)
        with ThreadPoolExecutor(THREADS) as pool:
            features: dict[int, Features] = dict(
                completed(
                    pool, lambda v: (v, _features(views[v])), range(len(views)), progress, 0, steps
                )
            )
            poses = self._refined(views, suitable, features)
            check_range(poses, self._given_range, progress)
            done = 2 * len(views) + len(asked) - len(suitable)
            progress.update(done / steps)
            found: dict[Pair, PairPrediction] = {}

            def triangulate(pair: Pair) -> tuple[Pair, PairPrediction | str]:
                return pair, self._triangulate(views, pair, poses)

            for pair, result in completed(pool, triangulate, suitable, progress, done, steps):
                if isinstance(result, str):
                    notes[pair] = result
                    _log.info("%s is left out: %s", _name(views, pair), result)
                else:
                    found[pair] = result
            progress.update(1.0)
        self._check_connected(views, list(found), angle, groups, notes)
        self._say_wide(views, list(found), angle, progress)
        check_agreement(
            views,
            list(found.values()),
            poses.world_from_cam,
            self._pose_sigmas(views),
            self._config.max_disagreement,
            progress,
        )
        return [found[pair] for pair in suitable if pair in found]

    @property
    def _given_range(self) -> tuple[float, float]:
        return self._config.min_depth, self._config.max_depth

    def _limits(self) -> tuple[float, float, float]:
        config = self._config
        widest = max(config.max_angle, config.bridge_angle)
        least, most, bridge = np.deg2rad([config.min_angle, config.max_angle, widest])
        return float(least), float(most), float(bridge)

    def _suitable(
        self, views: Sequence[View], asked: Sequence[Pair], angle: NDArray
    ) -> list[Pair]:
        """The asked pairs between the limits, and wider ones that bridge groups."""
        least, most, bridge = self._limits()
        kept = [pair for pair in asked if least <= angle[pair] <= most]
        wide = [pair for pair in asked if most < angle[pair] <= bridge]
        for pair in sorted(wide, key=lambda pair: angle[pair]):
            group = components(len(views), kept).tolist()
            if group[pair[0]] != group[pair[1]]:
                kept.append(pair)
        for pair in asked:
            if pair not in kept:
                _log.info(
                    "%s is left out: its cameras are %s apart at the scene, %g to %g are matched",
                    _name(views, pair),
                    _degrees(angle[pair]),
                    self._config.min_angle,
                    self._config.max_angle,
                )
        return sorted(kept)

    def _say_wide(
        self, views: Sequence[View], pairs: Sequence[Pair], angle: NDArray, progress: Progress
    ) -> None:
        _, most, _ = self._limits()
        wide = [pair for pair in pairs if angle[pair] > most]
        if wide:
            widest = max(wide, key=lambda pair: angle[pair])
            progress.warn(
                f"{len(wide)} of {len(pairs)} pairs are wider than {self._config.max_angle:g} "
                f"degrees, up to {_degrees(angle[widest])} ({_name(views, widest)}), because "
                "nothing narrower connects the views; they find fewer points: add views in between"
            )

    def _pose_sigmas(self, views: Sequence[View]) -> NDArray[np.float64]:
        return np.array(
            [
                (view.prior_translation_sigma, view.prior_rotation_sigma)
                for view in self.with_deviations(views)
            ]
        )

    def _refined(
        self, views: Sequence[View], pairs: Sequence[Pair], features: Mapping[int, Features]
    ) -> RefinedPoses:
        intrinsics = [np.asarray(view.K) for view in views]
        given = np.stack([np.asarray(view.world_from_cam_prior) for view in views])
        sigma = self._pose_sigmas(views)
        cameras = [Camera(K, pose) for K, pose in zip(intrinsics, given, strict=True)]
        matches: dict[Pair, Matches] = {}
        for a, b in pairs:
            # A shift of a camera turns the ray to a point as far away as the cameras are apart,
            # times some 4, at the angles that are matched.
            apart = float(np.linalg.norm(given[a, :3, 3] - given[b, :3, 3]))
            tolerance = float(
                max(sigma[v, 1] + sigma[v, 0] / max(3.0 * apart, 1e-6) for v in (a, b))
            )
            matches[a, b] = match_near_epipolar_lines(
                features[a], features[b], (cameras[a], cameras[b]), tolerance
            )
        return refine_poses(intrinsics, given, sigma, matches)

    def _triangulate(
        self, views: Sequence[View], pair: Pair, poses: RefinedPoses
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
        rectified = self._rectify(views, pair, poses, a_from_b)
        if isinstance(rectified, str):
            return rectified
        (points_a, sure_a), (points_b, sure_b) = match_pair(
            rectified, views[a].image, views[b].image, self._brightness(views, pair, poses)
        )
        if min((sure_a > 0).mean(), (sure_b > 0).mean()) < LEAST_COVER:
            return (
                "hardly a pixel matches in both directions (a plain scene, or points out of range)"
            )
        return PairPrediction(
            a,
            b,
            points_a,
            points_b,
            sure_a,
            sure_b,
            a_from_b,
            metric=True,
            scale_source="camera poses",
        )

    def _brightness(self, views: Sequence[View], pair: Pair, poses: RefinedPoses) -> float:
        """Brightness of the pair's second view over that of its first, by what both see."""
        points = poses.points.get(pair, np.zeros((0, 3)))
        uv_a, uv_b = (
            project(apply(invert(poses.world_from_cam[v]), points), np.asarray(views[v].K))[0]
            for v in pair
        )
        return brightness_ratio(views[pair[0]].image, views[pair[1]].image, uv_a, uv_b)

    def _rectify(
        self, views: Sequence[View], pair: Pair, poses: RefinedPoses, a_from_b: NDArray
    ) -> Rectified | str:
        a, b = pair
        near, far = depth_range(pair, poses, a_from_b, self._given_range)
        K_a, K_b = np.asarray(views[a].K), np.asarray(views[b].K)
        return rectify(K_a, K_b, views[a].size, views[b].size, a_from_b, near, far)

    def _check_connected(
        self,
        views: Sequence[View],
        pairs: Sequence[Pair],
        angle: NDArray,
        asked: Sequence[int],
        notes: Mapping[Pair, str],
    ) -> None:
        """Raises InputError where the pairs leave views apart that ``asked`` puts in one group."""
        group = components(len(views), pairs).tolist()
        if asked == list(range(len(views))):
            asked = [0] * len(views)
        split = {asked[v] for v in range(len(views)) if group[v] != group[asked[v]]}
        if not split:
            return
        parted = [v for v in range(len(views)) if asked[v] in split]
        members: dict[int, list[int]] = {}
        for v in parted:
            members.setdefault(group[v], []).append(v)
        listed = "; ".join(
            "[" + ", ".join(f"'{views[v].name}'" for v in part) + "]" for part in members.values()
        )
        config = self._config
        between = _nearest_across(list(members.values()), angle)
        named = [f"{_name(views, pair)} {_degrees(angle[pair])}" for pair in between]
        why = "".join(f" {_name(views, p)} is left out: {notes[p]}." for p in notes)
        nearest = f"the narrowest between them: {'; '.join(named)}" if named else "none overlap"
        raise InputError(
            f"the views fall into {len(members)} groups that no pair for stereo connects: "
            f"{listed} ({nearest}). Pairs of {config.min_angle:g} to {config.max_angle:g} degrees "
            f"at the scene are matched, up to {config.bridge_angle:g} to bridge groups.{why} Add "
            "cameras in between, move them closer together, or choose a back end for wide views "
            "(depth, or a network)",
            ErrorCode.DISCONNECTED_VIEWS,
        )


def _features(view: View) -> Features:
    gray = np.asarray(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY), np.uint8)
    return root_sift(gray, FEATURES)


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


def _name(views: Sequence[View], pair: Pair) -> str:
    return f"'{views[pair[0]].name}' - '{views[pair[1]].name}'"


def _degrees(angle: float) -> str:
    return f"{np.degrees(angle):.0f} degrees" if np.isfinite(angle) else "nothing in common"
