"""Pointmaps of calibrated RGB-D cameras: back-projected depth, related by pairwise
registration."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.parallel import THREADS, completed
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pairing import maximum_spanning_tree, named_groups
from wildseg3d_ros.pointmaps.config import PointmapConfig
from wildseg3d_ros.pointmaps.depth.noise import UNIT_SIGMA, DepthNoise, depth_confidence
from wildseg3d_ros.pointmaps.depth.registration import (
    Frame,
    Keypoints,
    PosePrior,
    Registration,
    detect_keypoints,
    register_from_features,
    register_from_prior,
)

_log = logging.getLogger(__name__)


class DepthPointmaps:
    """Geometry back end that measures each view once and estimates the pose of each pair.

    A view's pointmap is its depth, back-projected, in its own camera's frame; all its pairs share
    it. The confidence is that of :func:`depth_confidence`: 1 cm over the standard deviation.
    """

    def __init__(self, config: PointmapConfig = PointmapConfig()) -> None:
        self._config = config.depth
        self._noise = DepthNoise(config.depth.noise_constant, config.depth.noise_quadratic)

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError unless every view has intrinsics and some usable depth."""
        for view in views:
            self._measured(view)

    def predict(
        self, views: Sequence[View], pairs: Sequence[tuple[int, int]], progress: Progress
    ) -> list[PairPrediction]:
        """Pointmaps and estimated relative pose of each pair that shares part of the scene.

        Pairs without common points are left out, except where two given poses are all that
        connects two groups of views: then the given relative pose stands.

        Raises:
            InputError: a view lacks what is needed, or views that the pairs connect cannot be
                related to each other (DISCONNECTED_VIEWS).
            Cancelled: the caller asked to stop.
        """
        self.check(views)
        pairs = list(pairs)
        wanted = sorted({view for pair in pairs for view in pair})
        blind = {v for pair in pairs if self._prior(views, pair) is None for v in pair}
        frames: dict[int, Frame] = {}
        confidences: dict[int, NDArray[np.float32]] = {}
        keypoints: dict[int, Keypoints] = {}
        found: dict[int, Registration] = {}
        steps = len(wanted) + len(pairs)

        def prepare(
            index: int,
        ) -> tuple[int, Frame, NDArray[np.float32], Keypoints | None]:
            frame, confidence = self._frame(views[index])
            return index, frame, confidence, detect_keypoints(frame) if index in blind else None

        def register(number: int) -> tuple[int, Registration]:
            a, b = pairs[number]
            prior = self._prior(views, (a, b))
            if prior is None:
                return number, register_from_features(
                    frames[a], frames[b], keypoints[a], keypoints[b]
                )
            if not self._config.refine:
                return number, Registration(prior.a_from_b, "prior", 1.0)
            return number, register_from_prior(frames[a], frames[b], prior)

        with ThreadPoolExecutor(THREADS) as pool:
            done = completed(pool, prepare, wanted, progress, 0, steps)
            for index, frame, confidence, features in done:
                frames[index], confidences[index] = frame, confidence
                if features is not None:
                    keypoints[index] = features
            found.update(
                completed(pool, register, range(len(pairs)), progress, len(wanted), steps)
            )

        kept = self._kept(views, pairs, [found[number] for number in range(len(pairs))], progress)
        return [
            PairPrediction(
                a,
                b,
                frames[a].points,
                frames[b].points,
                confidences[a],
                confidences[b],
                a_from_map_b=a_from_b,
                metric=True,
            )
            for (a, b), a_from_b in kept
        ]

    def _measured(self, view: View) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Intrinsics and the depth within its limits, 0 elsewhere."""
        who = f"camera '{view.name}'"
        if view.K is None:
            raise InputError(
                f"{who} has no intrinsics; the 'depth' back end needs K for every view: publish "
                "its camera_info, or give fl_x, fl_y, cx, cy in transforms.json",
                ErrorCode.BAD_CALIBRATION,
            )
        if view.depth is None:
            raise InputError(
                f"{who} has no depth image; the 'depth' back end needs one for every view: set "
                "its depth topic or depth_file_path, or leave the camera out",
                ErrorCode.BAD_DEPTH,
            )
        low, high = self._config.min_depth, self._config.max_depth
        trusted = (view.depth > 0) & (view.depth >= low) & (view.depth <= high)
        if not trusted.any():
            measured = view.depth[view.depth > 0]
            found = (
                f"its {measured.size} measured pixels lie between {measured.min():.3g} and "
                f"{measured.max():.3g} m"
                if measured.size
                else "every pixel is 0, negative or not a number"
            )
            raise InputError(
                f"{who} has no usable depth: {found}; expected values from {low:g} to {high:g} m "
                "(settings pointmaps.depth.min_depth and max_depth). Is the depth stream running, "
                "and is its unit right?",
                ErrorCode.BAD_DEPTH,
            )
        return view.K, np.where(trusted, view.depth, np.float32(0.0))

    def _frame(self, view: View) -> tuple[Frame, NDArray[np.float32]]:
        K, depth = self._measured(view)
        confidence, planes = depth_confidence(depth, K, self._noise)
        sigma = np.full(depth.shape, np.inf, dtype=np.float32)
        np.divide(np.float32(UNIT_SIGMA), confidence, out=sigma, where=confidence > 0)
        points = back_project(depth, K)
        return Frame.create(view.image, K, points, planes, sigma), confidence

    def _prior(self, views: Sequence[View], pair: tuple[int, int]) -> PosePrior | None:
        world_from_a, world_from_b = (views[index].world_from_cam_prior for index in pair)
        if world_from_a is None or world_from_b is None:
            return None
        return PosePrior(
            invert(world_from_a) @ world_from_b,
            self._config.prior_translation_sigma,
            self._config.prior_rotation_sigma,
        )

    def _kept(
        self,
        views: Sequence[View],
        pairs: Sequence[tuple[int, int]],
        found: Sequence[Registration],
        progress: Progress,
    ) -> list[tuple[tuple[int, int], NDArray[np.float64]]]:
        """Pairs with ``a_from_b``: those that overlap, and given poses that bridge groups."""
        count = len(views)
        posed = {
            pair: result.a_from_b
            for pair, result in zip(pairs, found, strict=True)
            if result.a_from_b is not None
        }
        overlap = {pair: result.overlap for pair, result in zip(pairs, found, strict=True)}
        overlapping = [pair for pair in posed if overlap[pair] > 0]
        rest = [pair for pair in posed if overlap[pair] == 0]
        # Overlapping pairs come first in the tree, so that others appear only where they bridge.
        candidates = overlapping + rest
        weights = [1.0] * len(overlapping) + [0.0] * len(rest)
        tree = {candidates[n] for n in maximum_spanning_tree(count, candidates, weights)}
        kept = [pair for pair in posed if overlap[pair] > 0 or pair in tree]
        for (a, b), result in zip(pairs, found, strict=True):
            name = f"pair '{views[a].name}' - '{views[b].name}'"
            if (a, b) not in kept:
                _log.info("%s is left out: %s", name, result.note)
            elif result.note:
                progress.warn(f"{name}: {result.note}")
        group, asked = (components(count, edges).tolist() for edges in (kept, pairs))
        split = {asked[v] for v in range(count) if group[v] != group[asked[v]]}
        if split:
            text = _disconnected(views, group, asked, split)
            raise InputError(text, ErrorCode.DISCONNECTED_VIEWS)
        return [(pair, posed[pair]) for pair in kept]


def _disconnected(
    views: Sequence[View], group: Sequence[int], asked: Sequence[int], split: set[int]
) -> str:
    parted = [index for index in range(len(views)) if asked[index] in split]
    groups = [group[index] for index in parted]
    listed = named_groups([views[index] for index in parted], groups)
    unposed = [f"'{view.name}'" for view in views if view.world_from_cam_prior is None]
    return (
        f"the views fall into {len(set(groups))} groups that cannot be related to each other: "
        f"{listed}. No camera pose is given for {', '.join(unposed)}, and colour and depth show "
        "too little in common. Give their poses (TF or transform_matrix), add views in between, "
        "or leave them out"
    )
