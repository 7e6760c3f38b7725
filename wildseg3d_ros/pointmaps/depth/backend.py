"""The geometry back end: views in, pair predictions out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.components import components
from wildseg3d_ros.core.errors import DisconnectedViews, ErrorCode, InputError
from wildseg3d_ros.core.geometry.cameras import back_project
from wildseg3d_ros.core.geometry.transforms import invert
from wildseg3d_ros.core.parallel import THREADS, completed
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import PairPrediction, View
from wildseg3d_ros.pairing import named_groups, parted_groups, with_bridges
from wildseg3d_ros.pointmaps.confidence import UNIT_SIGMA
from wildseg3d_ros.pointmaps.depth.config import DepthPointmapConfig
from wildseg3d_ros.pointmaps.depth.noise import DepthNoise, depth_confidence
from wildseg3d_ros.pointmaps.depth.registration.chain import chained
from wildseg3d_ros.pointmaps.depth.registration.features import (
    Keypoints,
    detect_keypoints,
    matched_keypoints,
)
from wildseg3d_ros.pointmaps.depth.registration.frame import Frame
from wildseg3d_ros.pointmaps.depth.registration.pair import (
    DOUBTFUL,
    Registration,
    register_from_estimate,
    register_from_features,
    register_from_prior,
)
from wildseg3d_ros.pointmaps.depth.registration.prior import PosePrior
from wildseg3d_ros.pointmaps.learned_matches import LearnedMatcher

_log = logging.getLogger(__name__)

_WIDER = 4.0
"""Times its deviations that a given pose may be off in the second search: 5 mm and half a degree
of a calibration become the two centimetres and degrees of a ruler."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What all pairs of a view share; keypoints where a pair has no given pose."""

    frame: Frame
    confidence: NDArray[np.float32]
    keypoints: Keypoints | None


class DepthPointmaps:
    """Geometry back end that measures each view once and estimates the pose of each pair.

    A view's pointmap is its depth, back-projected, in its own camera's frame; all its pairs share
    it. The confidence is that of :func:`depth_confidence`: 1 cm over the standard deviation.
    """

    def __init__(self, config: DepthPointmapConfig = DepthPointmapConfig()) -> None:
        self._config = config
        self._noise = DepthNoise(config.noise_constant, config.noise_quadratic)
        self._matcher = LearnedMatcher.of(config.matcher, "pointmaps.depth.matcher")

    def check(self, views: Sequence[View]) -> None:
        """Raises InputError unless every view has intrinsics and some usable depth."""
        if len(views) > 1 and all(view.depth is None for view in views):
            raise InputError(_without_depth(views), ErrorCode.BAD_DEPTH)
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
        priors = {pair: self._prior(views, pair) for pair in pairs}
        blind = {v for pair, prior in priors.items() if prior is None for v in pair}
        wanted = sorted({view for pair in pairs for view in pair})
        steps = len(wanted) + len(pairs)

        def prepare(v: int) -> _Prepared:
            return self._prepare(views[v], with_keypoints=v in blind)

        def register(pair: tuple[int, int]) -> Registration:
            return self._register(ready[pair[0]], ready[pair[1]], priors[pair])

        with ThreadPoolExecutor(THREADS) as pool:
            ready = completed(pool, prepare, wanted, progress, 0, steps)
            found = completed(pool, register, pairs, progress, len(wanted), steps)
            found |= self._from_wider_priors(pool, ready, priors, found, progress)
            found |= self._from_features(pool, ready, found, progress)
            found |= self._from_others(pool, ready, found, progress)
            found |= self._across_groups(pool, ready, found, progress)
        rejected = _rejected(found)
        kept = _kept(views, found, rejected, progress)
        made: list[PairPrediction] = []
        for (a, b), a_from_b in kept.items():
            points = ready[a].frame.points, ready[b].frame.points
            confidences = ready[a].confidence, ready[b].confidence
            made.append(
                PairPrediction(
                    a,
                    b,
                    *points,
                    *confidences,
                    a_from_b,
                    metric=True,
                    doubtful=found[a, b].is_doubtful,
                    contradicted=found[a, b].is_contradicted,
                )
            )
        _check_connected(views, made, list(pairs), rejected)
        return made

    def _register(self, a: _Prepared, b: _Prepared, prior: PosePrior | None) -> Registration:
        if prior is None:
            assert a.keypoints is not None and b.keypoints is not None
            return register_from_features(a.frame, b.frame, a.keypoints, b.keypoints)
        if not self._config.refine:
            return Registration(prior.a_from_b, "prior", 1.0)
        return register_from_prior(a.frame, b.frame, prior)

    def _from_wider_priors(
        self,
        pool: ThreadPoolExecutor,
        ready: Mapping[int, _Prepared],
        priors: Mapping[tuple[int, int], PosePrior | None],
        found: Mapping[tuple[int, int], Registration],
        progress: Progress,
    ) -> dict[tuple[int, int], Registration]:
        """Pairs whose given pose must be farther off than its deviations say, and that fit better
        where the search is wider: what is said of a calibration is often too good."""
        wider = {
            pair: prior.widened(_WIDER)
            for pair, prior in priors.items()
            if prior is not None and (found[pair].origin == "prior" or found[pair].is_refuted)
        }
        if not (wider and self._config.refine):
            return {}

        def register(pair: tuple[int, int]) -> Registration:
            a, b = (ready[v].frame for v in pair)
            return register_from_prior(a, b, wider[pair])

        again = completed(pool, register, sorted(wider), progress, 0, len(wider))
        # Of a camera that stands elsewhere some surface always agrees somewhere near.
        return {p: r for p, r in _better(again, found).items() if not r.is_doubtful}

    def _from_features(
        self,
        pool: ThreadPoolExecutor,
        ready: Mapping[int, _Prepared],
        found: Mapping[tuple[int, int], Registration],
        progress: Progress,
    ) -> dict[tuple[int, int], Registration]:
        """Pairs whose given pose may have led to a wrong place, and that features find a place for
        where more surface agrees: registration cannot leave its basin, 4 cm of 0.7 m wide."""
        doubtful = [
            pair
            for pair, result in found.items()
            if result.origin != "features" and result.consistency < DOUBTFUL
        ]
        if not (doubtful and self._config.refine):
            return {}
        views = sorted({view for pair in doubtful for view in pair})
        steps = len(views) + len(doubtful)

        def detect(v: int) -> Keypoints:
            return ready[v].keypoints or detect_keypoints(ready[v].frame)

        def register(pair: tuple[int, int]) -> Registration:
            a, b = pair
            return register_from_features(
                ready[a].frame, ready[b].frame, keypoints[a], keypoints[b]
            )

        keypoints = completed(pool, detect, views, progress, 0, steps)
        again = completed(pool, register, doubtful, progress, len(views), steps)
        return _better(again, found)

    def _from_others(
        self,
        pool: ThreadPoolExecutor,
        ready: Mapping[int, _Prepared],
        found: Mapping[tuple[int, int], Registration],
        progress: Progress,
    ) -> dict[tuple[int, int], Registration]:
        """Pairs whose given pose may have led to a wrong place, and for which the others know one
        where more surface agrees: of a camera that stands elsewhere one pair may be right, and the
        wrong places of the rest would outvote it. Where no pair of a view is certain, its best one
        speaks for it."""
        poses = {
            pair: result.a_from_b
            for pair, result in found.items()
            if result.a_from_b is not None and result.compared
        }
        best_first = sorted(poses, key=lambda pair: -found[pair].consistency)
        certain = [pair for pair in best_first if not found[pair].is_doubtful]
        known = with_bridges(max(ready) + 1, certain, best_first)
        links = {pair: poses[pair] for pair in poses if pair in known}
        starts = {
            pair: start
            for pair, result in found.items()
            if pair not in known
            and result.is_doubtful
            and (start := chained(links, *pair)) is not None
        }
        if not (starts and self._config.refine):
            return {}

        def register(pair: tuple[int, int]) -> Registration:
            a, b = (ready[v].frame for v in pair)
            return register_from_estimate(a, b, starts[pair], "other pairs")

        again = completed(pool, register, sorted(starts), progress, 0, len(starts))
        return _better(again, found)

    def _across_groups(
        self,
        pool: ThreadPoolExecutor,
        ready: Mapping[int, _Prepared],
        found: Mapping[tuple[int, int], Registration],
        progress: Progress,
    ) -> dict[tuple[int, int], Registration]:
        """Pairs between groups of views that nothing connects so far, by features that are found
        again from 20 to 60 degrees aside: those of the learned matcher, where one is set."""
        posed = [pair for pair, result in found.items() if result.a_from_b is not None]
        group = components(max(ready, default=0) + 1, posed)
        apart = [(a, b) for a, b in found if group[a] != group[b]]
        views = sorted({view for pair in apart for view in pair})
        steps = len(views) + len(apart)

        def detect(v: int) -> Keypoints:
            return detect_keypoints(ready[v].frame, wide=True)

        def register(pair: tuple[int, int]) -> Registration:
            a, b = pair
            return register_from_features(ready[a].frame, ready[b].frame, wide[a], wide[b])

        def register_learned(pair: tuple[int, int]) -> Registration:
            assert self._matcher is not None
            a, b = (ready[v].frame for v in pair)
            matched = matched_keypoints(a, b, *self._matcher.match(a.gray, b.gray))
            return register_from_features(a, b, *matched)

        if self._matcher is not None:
            again = completed(pool, register_learned, apart, progress, 0, max(len(apart), 1))
        else:
            wide = completed(pool, detect, views, progress, 0, steps)
            again = completed(pool, register, apart, progress, len(views), steps)
        # Of hundreds of matches that are mostly wrong some always agree: the depths have to, too.
        return {
            pair: result
            for pair, result in again.items()
            if result.a_from_b is not None and not result.is_doubtful
        }

    def _measured(self, view: View) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Intrinsics and the depth within its limits, 0 elsewhere."""
        who, K = f"camera '{view.name}'", view.intrinsics_for("depth")
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
        return K, np.where(trusted, view.depth, np.float32(0.0))

    def _prepare(self, view: View, with_keypoints: bool) -> _Prepared:
        K, depth = self._measured(view)
        confidence, planes = depth_confidence(depth, K, self._noise)
        sigma = np.full(depth.shape, np.inf, dtype=np.float32)
        np.divide(np.float32(UNIT_SIGMA), confidence, out=sigma, where=confidence > 0)
        frame = Frame.create(view.image, K, back_project(depth, K), planes, sigma)
        return _Prepared(frame, confidence, detect_keypoints(frame) if with_keypoints else None)

    def _prior(self, views: Sequence[View], pair: tuple[int, int]) -> PosePrior | None:
        world_from_a, world_from_b = (views[index].world_from_cam_prior for index in pair)
        if world_from_a is None or world_from_b is None:
            return None
        return PosePrior(
            invert(world_from_a) @ world_from_b,
            self._config.prior_translation_sigma,
            self._config.prior_rotation_sigma,
        )


def _without_depth(views: Sequence[View]) -> str:
    """That no view has depth, and which back ends do without."""
    given = all(v.K is not None and v.world_from_cam_prior is not None for v in views)
    learned = "da3 or mast3r, which need downloaded weights"
    others = f"stereo, which takes the given poses, or {learned}"
    if not given:
        others = f"{learned}, or stereo, once every camera has intrinsics and a pose"
    return (
        "no camera has a depth image, which the 'depth' back end needs; choose one that takes "
        f"images alone, pointmaps.backend={'stereo' if given else 'da3'} (--set): {others}; or "
        "give depth, by a depth topic or depth_file_path"
    )


def _rejected(found: Mapping[tuple[int, int], Registration]) -> set[int]:
    """Views that others refute more than they bear out, at the given pose and wherever else they
    were put; the worst first, as its pairs speak against right views as well. None where no two
    views bear each other out."""
    told = {pair: r.support for pair, r in found.items() if not r.is_doubtful}
    out: set[int] = set()
    if not told:
        return out
    told |= {pair: -r.contradicting for pair, r in found.items() if r.is_refuted}
    while True:
        score = dict.fromkeys({v for pair in told for v in pair}, 0)
        for pair, points in told.items():
            for v in pair:
                score[v] += points
        worst = min(score, key=score.__getitem__, default=-1)
        if worst < 0 or score[worst] >= 0:
            return out
        out.add(worst)
        told = {pair: points for pair, points in told.items() if worst not in pair}


def _better(
    again: Mapping[tuple[int, int], Registration], found: Mapping[tuple[int, int], Registration]
) -> dict[tuple[int, int], Registration]:
    """What was registered again and has more surface that agrees than before."""
    return {
        pair: result
        for pair, result in again.items()
        if result.a_from_b is not None and result.support > found[pair].support
    }


def _kept(
    views: Sequence[View],
    found: Mapping[tuple[int, int], Registration],
    rejected: set[int],
    progress: Progress,
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """``a_from_b`` of the pairs that overlap, and of given poses that bridge groups."""
    usable = [pair for pair, r in found.items() if r.a_from_b is not None]
    usable = [pair for pair in usable if not rejected.intersection(pair)]
    if any(not found[pair].is_doubtful for pair in usable):
        usable = [pair for pair in usable if not found[pair].is_refuted]
    overlapping = [pair for pair in usable if found[pair].overlap > 0]
    posed = usable
    kept = with_bridges(len(views), overlapping, posed)
    for (a, b), result in found.items():
        name = f"pair '{views[a].name}' - '{views[b].name}'"
        if (a, b) not in kept:
            _log.info("%s is left out: %s", name, result.note)
        elif result.note:
            progress.warn(f"{name}: {result.note}")
    return {pair: np.asarray(found[pair].a_from_b) for pair in found if pair in kept}


def _check_connected(
    views: Sequence[View],
    made: Sequence[PairPrediction],
    asked: Sequence[tuple[int, int]],
    rejected: set[int],
) -> None:
    """Raises DisconnectedViews where views fall apart that the asked pairs connect."""
    parted = parted_groups(len(views), [(p.a, p.b) for p in made], asked)
    if not parted:
        return
    unposed = [f"'{view.name}'" for view in views if view.world_from_cam_prior is None]
    wrong = ", ".join(f"'{views[v].name}'" for v in sorted(rejected))
    says, reasons = [], []
    if wrong:
        reasons.append(
            f"what {wrong} measured contradicts the other views, at the given pose and wherever "
            "else it fits best: check TF, calibration and depth, and whether it was moved"
        )
        says.append(reasons[0][0].upper() + reasons[0][1:])
    if unposed:
        named = ", ".join(unposed)
        reasons.append(
            "colour and depth show too little in common with the other views, and no pose is "
            f"given for {named}"
        )
        says.append(
            f"No camera pose is given for {named}, and colour and depth show too little in "
            "common. Give their poses (TF or transform_matrix)"
        )
    raise DisconnectedViews(
        f"the views fall into {len(parted)} groups that cannot be related to each other: "
        f"{named_groups(views, parted)}. {'. '.join(says)}, add views in between, or leave them "
        "out",
        parted,
        "; ".join(reasons),
        made,
    )
