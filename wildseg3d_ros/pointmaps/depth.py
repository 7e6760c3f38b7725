"""Pointmaps of calibrated RGB-D cameras: back-projected depth, related by pairwise registration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.config import PointmapConfig
from wildseg3d_ros.errors import ErrorCode, InputError
from wildseg3d_ros.geometry.cameras import back_project
from wildseg3d_ros.geometry.transforms import invert
from wildseg3d_ros.pairing import components, maximum_spanning_tree
from wildseg3d_ros.pointmaps.depth_noise import UNIT_SIGMA, DepthNoise, depth_confidence
from wildseg3d_ros.progress import Progress
from wildseg3d_ros.registration import (
    Frame,
    Keypoints,
    PosePrior,
    Registration,
    detect_keypoints,
    register_from_features,
    register_from_prior,
)
from wildseg3d_ros.types import PairPrediction, View

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

THREADS = 2
"""NumPy and OpenCV release the interpreter's lock in most of the work."""


class DepthPointmaps:
    """Geometry back end that measures each view once and estimates the pose of each pair.

    A view's pointmap is its depth, back-projected, in its own camera's frame; all its pairs share it.
    The confidence is that of :func:`depth_confidence`: 1 cm over the standard deviation.
    """

    def __init__(self, config: PointmapConfig = PointmapConfig()) -> None:
        self._config = config.depth
        self._noise = DepthNoise(config.depth.noise_constant, config.depth.noise_quadratic)

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError unless every view has intrinsics and some usable depth."""
        for view in views:
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
            if not self._in_range(view.depth).any():
                measured = view.depth[view.depth > 0]
                found = (
                    f"its {measured.size} measured pixels lie between {measured.min():.3g} and "
                    f"{measured.max():.3g} m"
                    if measured.size
                    else "every pixel is 0, negative or not a number"
                )
                raise InputError(
                    f"{who} has no usable depth: {found}; expected values from "
                    f"{self._config.min_depth:g} to {self._config.max_depth:g} m (settings "
                    "pointmaps.depth.min_depth and max_depth). Is the depth stream running, and "
                    "its unit right?",
                    ErrorCode.BAD_DEPTH,
                )

    def predict(
        self, views: Sequence[View], pairs: Sequence[tuple[int, int]], progress: Progress
    ) -> list[PairPrediction]:
        """Pointmaps and estimated relative pose of each pair that shares part of the scene.

        Pairs without common points are left out, except where two given poses are all that connects
        two groups of views: then the given relative pose stands.

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
            done = _completed(pool, prepare, wanted, progress, 0, steps)
            for index, frame, confidence, features in done:
                frames[index], confidences[index] = frame, confidence
                if features is not None:
                    keypoints[index] = features
            found.update(
                _completed(pool, register, range(len(pairs)), progress, len(wanted), steps)
            )

        kept = self._kept(views, pairs, [found[number] for number in range(len(pairs))])
        return [
            PairPrediction(
                a,
                b,
                frames[a].points,
                frames[b].points,
                confidences[a],
                confidences[b],
                a_from_map_b=found[number].a_from_b,
                metric=True,
            )
            for number, (a, b) in enumerate(pairs)
            if kept[number]
        ]

    def _in_range(self, depth: NDArray[np.float32]) -> NDArray[np.bool_]:
        return (depth >= max(self._config.min_depth, 1e-6)) & (depth <= self._config.max_depth)

    def _frame(self, view: View) -> tuple[Frame, NDArray[np.float32]]:
        depth = np.where(self._in_range(view.depth), view.depth, np.float32(0.0))
        confidence, normals = depth_confidence(depth, view.K, self._noise)
        sigma = np.full(depth.shape, np.inf, dtype=np.float32)
        np.divide(np.float32(UNIT_SIGMA), confidence, out=sigma, where=confidence > 0)
        points = back_project(depth, view.K)
        return Frame.create(view.image, view.K, points, normals, sigma), confidence

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
    ) -> list[bool]:
        """Which pairs are predicted: those that overlap, and given poses that bridge groups."""
        kept = [result.overlap > 0 for result in found]
        count = len(views)
        group = components(count, [pair for pair, keep in zip(pairs, kept, strict=True) if keep])
        bridges = [
            number
            for number, (a, b) in enumerate(pairs)
            if group[a] != group[b] and found[number].a_from_b is not None
        ]
        tree = maximum_spanning_tree(
            count,
            [(group[pairs[n][0]], group[pairs[n][1]]) for n in bridges],
            [0.0] * len(bridges),
        )
        for number in (bridges[index] for index in tree):
            kept[number] = True
        for number, (a, b) in enumerate(pairs):
            name = f"pair '{views[a].name}' - '{views[b].name}'"
            if not kept[number]:
                _log.info("%s is left out: %s", name, found[number].note)
            elif found[number].note:
                _log.warning("%s: %s", name, found[number].note)
        group = components(count, [pair for pair, keep in zip(pairs, kept, strict=True) if keep])
        asked = components(count, pairs)
        split = {asked[v] for v in range(count) if group[v] != group[asked[v]]}
        if split:
            raise InputError(
                _disconnected(views, group, asked, split), ErrorCode.DISCONNECTED_VIEWS
            )
        return kept


def _disconnected(
    views: Sequence[View], group: Sequence[int], asked: Sequence[int], split: set[int]
) -> str:
    members: dict[int, list[str]] = {}
    for index, view in enumerate(views):
        if asked[index] in split:
            members.setdefault(group[index], []).append(f"'{view.name}'")
    listed = "; ".join("[" + ", ".join(names) + "]" for names in members.values())
    unposed = [f"'{view.name}'" for view in views if view.world_from_cam_prior is None]
    return (
        f"the views fall into {len(members)} groups that cannot be related to each other: {listed}. "
        f"No camera pose is given for {', '.join(unposed)}, and colour and depth show too little in "
        "common. Give their poses (TF or transform_matrix), add views in between, or leave them out"
    )


def _completed(
    pool: ThreadPoolExecutor,
    work: Callable[[int], _T],
    items: Sequence[int],
    progress: Progress,
    offset: int,
    steps: int,
) -> Iterator[_T]:
    """Results of ``work`` over ``items`` as they come; work not begun is dropped on cancellation."""
    futures = [pool.submit(work, item) for item in items]
    try:
        for number, future in enumerate(as_completed(futures), start=1):
            yield future.result()
            progress.update((offset + number) / max(steps, 1))
    finally:
        for future in futures:
            future.cancel()
